"""Near duplicates of texts, by the Jaccard similarity of their character shingles."""

from collections import Counter
from collections.abc import Sequence
from math import ceil

from t1_jax.retrieval.dedup import normalize_text


class NearDuplicateIndex:
    """An inverted index from the rarest shingles of texts (prefix filtering).

    It is exact: two sets x, y of Jaccard similarity t share at least ceil(t |x|) and
    ceil(t |y|) elements. If the elements of both are put in one order, they therefore share one
    among the first |x| - ceil(t |x|) + 1 of x and |y| - ceil(t |y|) + 1 of y (Bayardo, Ma,
    Srikant, "Scaling up all pairs similarity search", 2007). The rarest shingles come first, which
    keeps the lists short.
    """

    def __init__(self, texts: Sequence[str], *, threshold: float, size: int) -> None:
        """Indexes texts; `threshold` is the lowest similarity, `size` that of a shingle."""
        self._threshold, self._size = threshold, size
        self._sets = [shingles(text, size) for text in texts]
        self._counts = dict(Counter(shingle for held in self._sets for shingle in held))
        self._lists: dict[str, list[int]] = {}
        for number, held in enumerate(self._sets):
            for shingle in self._prefix(held):
                self._lists.setdefault(shingle, []).append(number)

    def closest(self, text: str) -> tuple[float, int] | None:
        """Similarity and number of the most similar text, if it is similar enough."""
        own = shingles(text, self._size)
        numbers = {n for shingle in self._prefix(own) for n in self._lists.get(shingle, ())}
        best: tuple[float, int] | None = None
        for number in sorted(numbers):
            sizes = sorted((len(own), len(self._sets[number])))
            if sizes[0] < self._threshold * sizes[1] - 1e-9:
                continue  # too small even as a subset
            similarity = jaccard(own, self._sets[number])
            if similarity >= self._threshold and (best is None or similarity > best[0]):
                best = (similarity, number)
        return best

    def _prefix(self, items: frozenset[str]) -> list[str]:
        # The slack covers the rounding of threshold * n: a longer prefix is never wrong.
        length = len(items) - ceil(self._threshold * len(items) - 1e-9) + 1
        # Shingles of no indexed text are the rarest and match nothing; they may fill the prefix.
        known = items & self._counts.keys()
        length -= len(items) - len(known)
        if length <= 0:
            return []
        return [shingle for _, shingle in sorted((self._counts[s], s) for s in known)[:length]]


def shingles(text: str, size: int) -> frozenset[str]:
    """All substrings of `size` characters of the normalized text; a shorter text is one itself."""
    text = normalize_text(text)
    return frozenset(text[i : i + size] for i in range(max(1, len(text) - size + 1)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard similarity of two sets, at least one of them not empty."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
