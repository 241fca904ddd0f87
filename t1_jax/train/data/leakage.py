"""Keeping what is tested out of what is trained: exact and near duplicates of held-out queries."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import Collection, normalize_text
from t1_jax.train.data.records import TrainingRecord, TrainingSet
from t1_jax.train.data.texts import jaccard, shingles


@dataclass(frozen=True, kw_only=True)
class LeakConfig:
    """What counts as a near duplicate.

    Attributes:
        near: least Jaccard similarity of two texts' shingles, over 0 and at most 1. 0.8 is what
            Lee et al. (arXiv:2107.06499) take for training corpora.
        shingle: characters a shingle; characters, since queries may be one line of code.
    """

    near: float = 0.8
    shingle: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.near <= 1:
            raise ConfigError(f"near must be over 0 and at most 1, got {self.near}")
        if self.shingle < 1:
            raise ConfigError(f"shingle must be at least 1, got {self.shingle}")


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A training record whose text is a held-out query's, or nearly.

    Attributes:
        set_name: of the training set.
        query_id: of the record.
        held_out: name of the collection.
        held_out_query: id of its query.
        exact: the normalized texts are equal.
        likeness: Jaccard similarity of the shingles, 1 for an exact duplicate.
    """

    set_name: str
    query_id: str
    held_out: str
    held_out_query: str
    exact: bool
    likeness: float


@dataclass(frozen=True, kw_only=True)
class LeakReport:
    """What was taken out of the training data, in records.

    Attributes:
        exact: records whose query (or a thought) was a held-out query.
        near: records whose query was nearly one.
        merged: records that repeated the query of another record of their set and gave it their
            documents and thoughts.
        leaks: one for each exact or near record, the worst first.
    """

    exact: int
    near: int
    merged: int
    leaks: tuple[Leak, ...]


def remove_leaks(
    sets: Sequence[TrainingSet], held_out: Sequence[Collection], config: LeakConfig | None = None
) -> tuple[tuple[TrainingSet, ...], LeakReport]:
    """The sets without records that repeat a held-out query or, within a set, each other.

    Raises:
        DataError: nothing is left of a set.
    """
    leaks = find_leaks(sets, held_out, config)
    leaked = {(leak.set_name, leak.query_id) for leak in leaks}
    cleaned: list[TrainingSet] = []
    merged = 0
    for item in sets:
        kept = [record for record in item.records if (item.name, record.query_id) not in leaked]
        if not kept:
            raise DataError(
                f"every record of the training set {item.name!r} repeats a held-out query",
                hint="train on another split than the one that is held out",
            )
        records = merge_duplicates(kept)
        merged += len(kept) - len(records)
        cleaned.append(replace(item, records=records))
    exact = sum(leak.exact for leak in leaks)
    report = LeakReport(exact=exact, near=len(leaks) - exact, merged=merged, leaks=leaks)
    return tuple(cleaned), report


def refuse_leaks(sets: Sequence[TrainingSet], held_out: Sequence[Collection]) -> None:
    """Makes sure that no held-out query is trained on, word for word.

    Raises:
        DataError: a record's query, or one of its thoughts, is a held-out query.
    """
    leaks = tuple(_exact_leaks(sets, held_out))
    if leaks:
        leak = leaks[0]
        more = f" (and {len(leaks) - 1} more such records)" if leaks[1:] else ""
        raise DataError(
            f"{leak.set_name}: the record of query {leak.query_id!r} has the text of query "
            f"{leak.held_out_query!r}, which {leak.held_out} holds out{more}",
            hint="take it out of the file, or set data.leaks=remove to have it taken out",
        )


def find_leaks(
    sets: Sequence[TrainingSet], held_out: Sequence[Collection], config: LeakConfig | None = None
) -> tuple[Leak, ...]:
    """One leak for each record that has any: exact ones first, then by falling likeness."""
    exact = tuple(_exact_leaks(sets, held_out))
    seen = {(leak.set_name, leak.query_id) for leak in exact}
    index = _NearIndex(held_out, config or LeakConfig())
    near: list[Leak] = []
    for item in sets:
        for record in item.records:
            if (item.name, record.query_id) in seen:
                continue
            if found := index.closest(record.query):
                likeness, collection, query_id = found
                near.append(
                    Leak(
                        set_name=item.name,
                        query_id=record.query_id,
                        held_out=collection,
                        held_out_query=query_id,
                        exact=False,
                        likeness=likeness,
                    )
                )
    return (*exact, *sorted(near, key=lambda leak: -leak.likeness))


def merge_duplicates(records: Iterable[TrainingRecord]) -> tuple[TrainingRecord, ...]:
    """One record a query text and instruction, at the place and under the id of the first.

    It has every positive with its best grade, and everybody's negatives, exclusions and thoughts;
    what is positive for one of them is nothing else, and what is excluded no negative.
    """
    groups: dict[tuple[str, str | None], list[TrainingRecord]] = {}
    for record in records:
        groups.setdefault((normalize_text(record.query), record.instruction), []).append(record)
    return tuple(_merged(group) for group in groups.values())


def _merged(group: list[TrainingRecord]) -> TrainingRecord:
    if len(group) == 1:
        return group[0]
    positives: dict[str, int] = {}
    for record in group:
        for name, grade in record.positives.items():
            positives[name] = max(grade, positives.get(name, 0))
    excluded = frozenset(name for record in group for name in record.excluded)
    excluded = excluded.difference(positives)
    negatives = dict.fromkeys(name for record in group for name in record.negatives)
    thoughts = dict.fromkeys(thought for record in group for thought in record.thoughts)
    return replace(
        group[0],
        positives=positives,
        negatives=tuple(
            name for name in negatives if name not in positives and name not in excluded
        ),
        excluded=excluded,
        thoughts=tuple(thoughts),
    )


def _exact_leaks(sets: Sequence[TrainingSet], held_out: Sequence[Collection]) -> Iterator[Leak]:
    known: dict[str, tuple[str, str]] = {}
    for collection in held_out:
        for query in collection.queries:
            known.setdefault(normalize_text(query.text), (collection.name, query.id))
    for item in sets:
        for record in item.records:
            texts = (normalize_text(text) for text in (record.query, *record.thoughts))
            if found := next((known[text] for text in texts if text in known), None):
                yield Leak(
                    set_name=item.name,
                    query_id=record.query_id,
                    held_out=found[0],
                    held_out_query=found[1],
                    exact=True,
                    likeness=1.0,
                )


class _NearIndex:
    """The held-out queries by their rarest shingles.

    Nothing is missed: two sets x, y of Jaccard similarity t share at least ceil(t |x|) and
    ceil(t |y|) elements. If the elements of both are put in one order, they therefore share one
    among the first |x| - ceil(t |x|) + 1 of x and |y| - ceil(t |y|) + 1 of y (Bayardo, Ma,
    Srikant, "Scaling up all pairs similarity search", 2007). Rare ones first makes the lists short.
    """

    def __init__(self, held_out: Sequence[Collection], config: LeakConfig) -> None:
        self._config = config
        self._owners = [(item.name, query.id) for item in held_out for query in item.queries]
        self._sets = [
            shingles(query.text, config.shingle) for item in held_out for query in item.queries
        ]
        self._counts = dict(Counter(shingle for held in self._sets for shingle in held))
        self._lists: dict[str, list[int]] = {}
        for number, held in enumerate(self._sets):
            for shingle in self._prefix(held):
                self._lists.setdefault(shingle, []).append(number)

    def closest(self, text: str) -> tuple[float, str, str] | None:
        """Likeness, collection and id of the held-out query nearest to `text`, if near enough."""
        mine = shingles(text, self._config.shingle)
        numbers = {n for shingle in self._prefix(mine) for n in self._lists.get(shingle, ())}
        best: tuple[float, str, str] | None = None
        for number in sorted(numbers):
            sizes = sorted((len(mine), len(self._sets[number])))
            if sizes[0] < self._config.near * sizes[1] - 1e-9:
                continue  # The smaller within the larger would be too little.
            likeness = jaccard(mine, self._sets[number])
            if likeness >= self._config.near and (best is None or likeness > best[0]):
                best = (likeness, *self._owners[number])
        return best

    def _prefix(self, all_of_it: frozenset[str]) -> list[str]:
        # The slack covers the rounding of near * n: a longer prefix is never wrong.
        length = len(all_of_it) - ceil(self._config.near * len(all_of_it) - 1e-9) + 1
        # What no held-out query has is rarest and leads to nothing; often it fills the prefix.
        known = all_of_it & self._counts.keys()
        length -= len(all_of_it) - len(known)
        if length <= 0:
            return []
        return [shingle for _, shingle in sorted((self._counts[s], s) for s in known)[:length]]
