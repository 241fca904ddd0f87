"""Text normalization for deduplication, leakage checks and false-negative masks."""

import hashlib
import unicodedata


def normalize_text(text: str) -> str:
    """The text in NFKC form, case-folded, with white space collapsed and stripped."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_hash(text: str) -> str:
    """Hex BLAKE2b hash (128 bits) of the normalized text; equal for duplicates."""
    return hashlib.blake2b(normalize_text(text).encode(), digest_size=16).hexdigest()
