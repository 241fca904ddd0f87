"""Contamination: texts of a test collection in training data.

A test text is matched exactly (after normalization), as a near duplicate, or by a shared 13-gram of
words, the criterion of GPT-3 (arXiv:2005.14165, appendix C).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import UInt64

from t1_jax.retrieval import Collection, NearDuplicateIndex, normalize_text, text_hash

MatchKind: TypeAlias = Literal["exact", "near duplicate", "n-gram"]
TextKind: TypeAlias = Literal["query", "relevant document", "other document"]

Part: TypeAlias = Literal["query", "thought", "positive", "negative"]

N = 13
"""Words of an n-gram."""

NEAR = 0.8
"""A near duplicate is a test query whose 5-character shingles have this Jaccard similarity with
those of a training query or thought, as in the data of `t1 train`; or a test text of whose n-grams
one training text has this fraction."""

_SHINGLE = 5
_ORDER: Mapping[str, int] = {"exact": 2, "near duplicate": 1, "n-gram": 0}


@dataclass(frozen=True, kw_only=True)
class TrainingText:
    """A text that a model is trained on.

    Attributes:
        record: id of the training record.
        part: what it is there.
        text: the text.
    """

    record: str
    part: Part
    text: str


@dataclass(frozen=True, kw_only=True)
class Match:
    """A test text that occurs in the training data, and where it does most.

    Attributes:
        kind: how it matches.
        text_kind: what the test text is.
        text_id: its id.
        record: id of the training record.
        part: part of the training record.
        overlap: Jaccard similarity of the shingles, or fraction of the n-grams of the test text
            that the training text has; 1 for an exact match.
        shared: the longest run of words that both have; the beginning of the text for an exact or
            near duplicate.
    """

    kind: MatchKind
    text_kind: TextKind
    text_id: str
    record: str
    part: Part
    overlap: float
    shared: str


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """The result of a scan.

    Attributes:
        matches: at most one for each test text: queries first, then by kind and overlap.
        totals: kind of test text -> number of texts.
        training_texts: number of training texts.
    """

    matches: tuple[Match, ...]
    totals: Mapping[TextKind, int]
    training_texts: int

    def count(self, text_kind: TextKind, kind: MatchKind) -> int:
        """Number of test texts of a kind that match in a way."""
        return sum(m.text_kind == text_kind and m.kind == kind for m in self.matches)

    @property
    def contaminated_queries(self) -> tuple[str, ...]:
        """Ids of the test queries that match in any way."""
        return tuple(match.text_id for match in self.matches if match.text_kind == "query")


def find_contamination(training: Iterable[TrainingText], collection: Collection) -> Contamination:
    """Compares every training text with the queries and documents of a collection.

    Memory is proportional to the collection; training texts are read as a stream.
    """
    scan = _Scan(collection)
    count = 0
    for text in training:
        scan.add(text)
        count += 1
    return Contamination(
        matches=tuple(sorted(scan.matches.values(), key=_sort_key)),
        totals=scan.totals,
        training_texts=count,
    )


def _sort_key(match: Match) -> tuple[bool, int, float, str]:
    return (match.text_kind != "query", -_ORDER[match.kind], -match.overlap, match.text_id)


class _Scan:
    """The test texts, indexed in three ways, and the best match of each so far."""

    def __init__(self, collection: Collection) -> None:
        relevant = {
            name
            for labels in collection.qrels.values()
            for name, label in labels.items()
            if label > 0
        }
        queries, documents = collection.queries, collection.documents
        owners: list[tuple[TextKind, str]] = [("query", query.id) for query in queries]
        for item in documents:
            kind = "relevant document" if item.id in relevant else "other document"
            owners.append((kind, item.id))
        self._owners = owners
        self.totals: dict[TextKind, int] = {}
        for kind, _ in owners:
            self.totals[kind] = self.totals.get(kind, 0) + 1
        texts = [query.text for query in queries] + [item.full_text for item in documents]
        self._exact: dict[str, list[int]] = {}
        for number, text in enumerate(texts):
            self._exact.setdefault(text_hash(text), []).append(number)
        self._near = NearDuplicateIndex(
            [query.text for query in queries], threshold=NEAR, size=_SHINGLE
        )
        self._ngrams = _NgramIndex(texts)
        self.matches: dict[int, Match] = {}

    def add(self, training: TrainingText) -> None:
        """Compares a training text with all test texts."""
        for number in self._exact.get(text_hash(training.text), ()):
            self._keep(number, training, "exact", 1.0, _begin(training.text))
        normalized = normalize_text(training.text)
        is_query = training.part in ("query", "thought")
        if is_query and (near := self._near.closest(normalized)):
            similarity, number = near
            self._keep(number, training, "near duplicate", similarity, _begin(training.text))
        words = _words(normalized)
        for number, overlap, start, stop in self._ngrams.matches(words):
            kind = "near duplicate" if overlap >= NEAR else "n-gram"
            self._keep(number, training, kind, overlap, " ".join(words[start:stop]))

    def _keep(
        self, number: int, training: TrainingText, kind: MatchKind, overlap: float, shared: str
    ) -> None:
        known = self.matches.get(number)
        if known is not None and (_ORDER[known.kind], known.overlap) >= (_ORDER[kind], overlap):
            return
        text_kind, text_id = self._owners[number]
        self.matches[number] = Match(
            kind=kind,
            text_kind=text_kind,
            text_id=text_id,
            record=training.record,
            part=training.part,
            overlap=overlap,
            shared=shared,
        )


class _NgramIndex:
    """N-grams of texts as sorted 64-bit hashes; two n-grams of one hash are taken as equal."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._word_hashes: dict[str, int] = {}
        hashes: list[np.ndarray] = []
        owners: list[np.ndarray] = []
        self._totals = np.zeros(len(texts), np.int64)
        for number, text in enumerate(texts):
            distinct = np.unique(self._hashes(_words(normalize_text(text)), add=True))
            self._totals[number] = len(distinct)
            hashes.append(distinct)
            owners.append(np.full(len(distinct), number, np.int32))
        found = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        order = np.argsort(found, kind="stable")
        self._sorted = found[order]
        self._owners = np.concatenate(owners)[order] if owners else np.zeros(0, np.int32)

    def matches(self, words: Sequence[str]) -> Iterable[tuple[int, float, int, int]]:
        """Text, fraction of its n-grams that the words have, and the longest run of both."""
        hashes = self._hashes(words, add=False)
        if not len(self._sorted):
            return
        first = np.searchsorted(self._sorted, hashes, "left")
        known = np.flatnonzero(self._sorted.take(first, mode="clip") == hashes)
        if not len(known):
            return
        hashes, first = hashes[known], first[known]
        counts = np.searchsorted(self._sorted, hashes, "right") - first
        # Each position once for every text that has its n-gram.
        positions = np.repeat(np.arange(len(hashes)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        owners = self._owners[np.repeat(first, counts) + offsets]
        order = np.argsort(owners, kind="stable")
        owners, positions = owners[order], positions[order]
        cuts = np.flatnonzero(np.diff(owners)) + 1
        for owner, places in zip(owners[[0, *cuts]], np.split(positions, cuts), strict=True):
            shared = len(np.unique(hashes[places])) / int(self._totals[owner])
            start, stop = _longest_run(known[places].tolist())
            yield int(owner), shared, start, stop + N

    def _hashes(self, words: Sequence[str], *, add: bool) -> UInt64[np.ndarray, " L"]:
        """The hash of the n-gram at each position; unknown words get a value of their own."""
        if len(words) < N:
            return np.zeros(0, np.uint64)
        known = self._word_hashes
        if add:
            numbered = [known.setdefault(word, len(known) + 1) for word in words]
        else:
            numbered = [known.get(word, 0) for word in words]
        numbers = np.array(numbered, np.uint64)
        windows = np.lib.stride_tricks.sliding_window_view(_mixed(numbers), N)
        with np.errstate(over="ignore"):
            return _mixed((windows * _POWERS).sum(axis=1, dtype=np.uint64))


def _mixed(values: UInt64[np.ndarray, "*B"]) -> UInt64[np.ndarray, "*B"]:
    """SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): spreads numbers over 64 bits."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_POWERS = np.array([pow(0x9E3779B97F4A7C15, i, 1 << 64) for i in range(N)], np.uint64)


def _longest_run(positions: Sequence[int]) -> tuple[int, int]:
    """First and last of the longest run of consecutive positions, which ascend."""
    best = (positions[0], positions[0])
    start = previous = positions[0]
    for position in positions[1:]:
        if position != previous + 1:
            start = position
        previous = position
        if previous - start > best[1] - best[0]:
            best = (start, previous)
    return best


def _words(normalized: str) -> list[str]:
    return re.findall(r"\w+", normalized)


def _begin(text: str) -> str:
    return " ".join(text.split()[: 2 * N])
