"""When two texts count as the same, or nearly: what duplicates, leaks and masks are decided by."""

import hashlib
import unicodedata


def normalised_text(text: str) -> str:
    """The text in Unicode's NFKC form, case folded, with single spaces and none at its ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_key(text: str) -> str:
    """Hex hash of 128 bits that texts share whose normalised forms are equal."""
    return hashlib.blake2b(normalised_text(text).encode(), digest_size=16).hexdigest()


def shingles(text: str, size: int) -> frozenset[str]:
    """Every run of `size` characters of the normalised text; a shorter text is its own."""
    text = normalised_text(text)
    return frozenset(text[i : i + size] for i in range(max(1, len(text) - size + 1)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """The share of all their elements that two sets have in common; not both may be empty."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
