"""Near duplicates of texts, by the Jaccard similarity of their character shingles."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import ceil

import numpy as np
from jaxtyping import UInt64

from t1_jax.retrieval.dedup import normalize_text

_KEPT = 4096
"""Texts whose hashed shingles are kept; one of 2,000 characters takes 16 KB."""


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
        length = _prefix_length(len(items), self._threshold)
        # Shingles of no indexed text are the rarest and match nothing; they may fill the prefix.
        known = items & self._counts.keys()
        length -= len(items) - len(known)
        if length <= 0:
            return []
        return [shingle for _, shingle in sorted((self._counts[s], s) for s in known)[:length]]


class NearDuplicates:
    """Near duplicates among named texts that are compared in pairs.

    Shingles are hashed to 64 bits, and those of the texts that were compared last are kept, so the
    memory is bounded. Different shingles hardly ever have one hash: for two texts of 2,000
    characters with a probability below 1e-6. Threads may share an object.
    """

    def __init__(self, text_of: Callable[[str], str], *, threshold: float, size: int) -> None:
        """Compares the texts that `text_of` gives; `threshold` and `size` as for the index."""
        self._threshold = threshold
        self._hashes = lru_cache(maxsize=_KEPT)(lambda name: _hashed_shingles(text_of(name), size))

    def contains(self, names: Iterable[str], name: str) -> bool:
        """Whether the text `name` is a near duplicate of one of `names`."""
        own = self._hashes(name)
        return any(self._are_similar(own, self._hashes(other)) for other in names)

    def _are_similar(self, a: UInt64[np.ndarray, " _"], b: UInt64[np.ndarray, " _"]) -> bool:
        if min(len(a), len(b)) < self._threshold * max(len(a), len(b)) - 1e-9:
            return False  # too small even as a subset
        prefixes = (hashes[: _prefix_length(len(hashes), self._threshold)] for hashes in (a, b))
        if not _common(*prefixes):  # hashes are sorted, so both sets are in one order
            return False
        shared = _common(a, b)
        return shared / (len(a) + len(b) - shared) >= self._threshold


def shingles(text: str, size: int) -> frozenset[str]:
    """All substrings of `size` characters of the normalized text; a shorter text is one itself."""
    text = normalize_text(text)
    return frozenset(text[i : i + size] for i in range(max(1, len(text) - size + 1)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard similarity of two sets, at least one of them not empty."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def _hashed_shingles(text: str, size: int) -> UInt64[np.ndarray, " _"]:
    """Sorted hashes of `shingles`: multilinear modulo 2^64, with random odd multipliers."""
    codes = np.frombuffer(normalize_text(text).encode("utf-32-le", "surrogatepass"), "<u4")
    codes = np.pad(codes, (0, max(size - len(codes), 0))).astype(np.uint64)
    most = np.iinfo(np.uint64).max
    multipliers = np.random.default_rng(0).integers(0, most, size, np.uint64) | np.uint64(1)
    return np.unique(np.lib.stride_tricks.sliding_window_view(codes, size) @ multipliers)


def _common(a: UInt64[np.ndarray, " _"], b: UInt64[np.ndarray, " _"]) -> int:
    """Number of common elements of two arrays, each without repetitions."""
    return len(np.intersect1d(a, b, assume_unique=True))


def _prefix_length(size: int, threshold: float) -> int:
    """How many of the first elements of a set decide whether another may be similar enough."""
    # The slack covers the rounding of threshold * n: a longer prefix is never wrong.
    return size - ceil(threshold * size - 1e-9) + 1
