"""Decontamination: exact and near duplicates of held-out queries, and duplicate records."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import Collection, NearDuplicateIndex, normalize_text
from t1_jax.train.data.records import TrainingRecord, TrainingSet


@dataclass(frozen=True, kw_only=True)
class LeakConfig:
    """When two texts are near duplicates.

    Attributes:
        near: minimum Jaccard similarity of their shingles, above 0 and at most 1; 0.8 as in
            arXiv:2107.06499.
        shingle: characters of a shingle; not words, since a query may be one line of code.
    """

    near: float = 0.8
    shingle: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.near <= 1:
            raise ConfigError(f"near must be above 0 and at most 1, got {self.near}")
        if self.shingle < 1:
            raise ConfigError(f"shingle must be at least 1, got {self.shingle}")


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A training record whose text duplicates a held-out query.

    Attributes:
        set_name: name of the training set.
        query_id: query id of the record.
        held_out: name of the held-out collection.
        held_out_query: id of its query.
        exact: whether the normalized texts are equal.
        similarity: Jaccard similarity of the shingles; 1 for an exact duplicate.
    """

    set_name: str
    query_id: str
    held_out: str
    held_out_query: str
    exact: bool
    similarity: float


@dataclass(frozen=True, kw_only=True)
class LeakReport:
    """Records that were removed from training sets.

    Attributes:
        exact: records whose query or thought equals a held-out query.
        near: records whose query is a near duplicate of one.
        merged: records that were merged into another record of their set with the same query.
        leaks: one per exact or near record, by falling similarity.
    """

    exact: int
    near: int
    merged: int
    leaks: tuple[Leak, ...]


def remove_leaks(
    sets: Sequence[TrainingSet], held_out: Sequence[Collection], config: LeakConfig | None = None
) -> tuple[tuple[TrainingSet, ...], LeakReport]:
    """Removes records that duplicate a held-out query, and merges duplicates within each set.

    Raises:
        DataError: no record of a set remains.
    """
    leaks = find_leaks(sets, held_out, config)
    leaked = {(leak.set_name, leak.query_id) for leak in leaks}
    cleaned: list[TrainingSet] = []
    merged = 0
    for item in sets:
        remaining = [
            record for record in item.records if (item.name, record.query_id) not in leaked
        ]
        if not remaining:
            raise DataError(
                f"every record of the training set {item.name!r} duplicates a held-out query",
                hint="train on a split that is not held out",
            )
        records = merge_duplicates(remaining)
        merged += len(remaining) - len(records)
        cleaned.append(replace(item, records=records))
    exact = sum(leak.exact for leak in leaks)
    report = LeakReport(exact=exact, near=len(leaks) - exact, merged=merged, leaks=leaks)
    return tuple(cleaned), report


def refuse_leaks(sets: Sequence[TrainingSet], held_out: Sequence[Collection]) -> None:
    """Rejects sets that contain a held-out query verbatim.

    Raises:
        DataError: the query or a thought of a record equals a held-out query.
    """
    leaks = tuple(_exact_leaks(sets, held_out))
    if leaks:
        leak = leaks[0]
        more = f" (and {len(leaks) - 1} more such records)" if leaks[1:] else ""
        raise DataError(
            f"{leak.set_name}: the record of query {leak.query_id!r} has the text of query "
            f"{leak.held_out_query!r}, which {leak.held_out} holds out{more}",
            hint="remove it from the file, or set data.leaks=remove",
        )


def find_leaks(
    sets: Sequence[TrainingSet], held_out: Sequence[Collection], config: LeakConfig | None = None
) -> tuple[Leak, ...]:
    """At most one leak per record: exact ones first, then by falling similarity."""
    exact = tuple(_exact_leaks(sets, held_out))
    seen = {(leak.set_name, leak.query_id) for leak in exact}
    config = config or LeakConfig()
    owners = [(item.name, query) for item in held_out for query in item.queries]
    index = NearDuplicateIndex(
        [query.text for _, query in owners], threshold=config.near, size=config.shingle
    )
    near: list[Leak] = []
    for item in sets:
        for record in item.records:
            if (item.name, record.query_id) in seen:
                continue
            if closest := index.closest(record.query):
                similarity, number = closest
                collection, query = owners[number]
                near.append(
                    Leak(
                        set_name=item.name,
                        query_id=record.query_id,
                        held_out=collection,
                        held_out_query=query.id,
                        exact=False,
                        similarity=similarity,
                    )
                )
    return (*exact, *sorted(near, key=lambda leak: -leak.similarity))


def merge_duplicates(records: Iterable[TrainingRecord]) -> tuple[TrainingRecord, ...]:
    """Merges records of equal query and instruction into the first of them.

    The merged record has all positives with their best grade, and all negatives, exclusions and
    thoughts. A positive of one record is neither negative nor excluded, and an excluded document
    is not a negative.
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
            if match := next((known[text] for text in texts if text in known), None):
                yield Leak(
                    set_name=item.name,
                    query_id=record.query_id,
                    held_out=match[0],
                    held_out_query=match[1],
                    exact=True,
                    similarity=1.0,
                )
