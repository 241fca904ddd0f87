"""When two texts count as the same: what duplicates, leaks and masks are decided by."""

import hashlib
import unicodedata


def normalized_text(text: str) -> str:
    """The text in Unicode's NFKC form, case folded, with single spaces and none at its ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_key(text: str) -> str:
    """Hex hash of 128 bits that texts share whose normalized forms are equal."""
    return hashlib.blake2b(normalized_text(text).encode(), digest_size=16).hexdigest()
