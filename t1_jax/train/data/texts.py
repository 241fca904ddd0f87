"""How much alike two texts are: what near duplicates and near copies are decided by."""

from t1_jax.retrieval import normalize_text


def shingles(text: str, size: int) -> frozenset[str]:
    """Every run of `size` characters of the normalized text; a shorter text is its own."""
    text = normalize_text(text)
    return frozenset(text[i : i + size] for i in range(max(1, len(text) - size + 1)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """The share of all their elements that two sets have in common; not both may be empty."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
