"""Pairs as a collection with training, validation and test queries, in one folder."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from t1_jax.errors import DataError, T1Error
from t1_jax.retrieval import Collection, Query, load_collection, save_collection, splits_of
from t1_jax.train.data.pair_files import Pairs
from t1_jax.train.data.record_files import write_records
from t1_jax.train.data.records import TrainingRecord, TrainingSet
from t1_jax.train.data.splitting import SplitConfig, split_queries

COLLECTION, RECORDS = "data", "records.jsonl"
"""Names of the collection and of the training records in a prepared folder."""

_MAX_VALIDATION, _MAX_TEST = 100, 300
_VALIDATION, _TEST = 0.1, 0.15


@dataclass(frozen=True, kw_only=True)
class PreparedPairs:
    """Pairs that are ready to train on.

    Attributes:
        splits: split -> its queries with their qrels; all share the corpus.
        training: the training queries, with thoughts and negatives.
        written_thoughts: number of thoughts that were written for records without one.
    """

    splits: dict[str, Collection]
    training: TrainingSet
    written_thoughts: int

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of everything that training and evaluation read."""
        parts = [self.training.data_hash]
        parts += [f"{split} {part.qrels_hash}" for split, part in self.splits.items()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def prepare_pairs(
    pairs: Pairs,
    name: str,
    *,
    held_out: bool,
    write_thoughts: Callable[[TrainingSet], tuple[tuple[TrainingRecord, ...], int]],
    groups: Mapping[str, str] | None = None,
) -> PreparedPairs:
    """Splits pairs without leaks, and completes the thoughts of the training queries.

    Held out are 15 % of the queries as test (at most 300), and 10 % as validation (at most 100).
    Queries of equal or nearly equal text stay together.

    Args:
        pairs: what files of pairs hold.
        name: of the collection.
        held_out: whether to hold out queries; otherwise all are for training.
        write_thoughts: adds thoughts to the records of a set, and counts them.
        groups: see `split_queries`.

    Raises:
        DataError: too few different queries to hold some out.
    """
    collection = Collection(
        name=name,
        documents=pairs.documents,
        queries=tuple(Query(id=record.query_id, text=record.query) for record in pairs.records),
        qrels={record.query_id: dict(record.positives) for record in pairs.records},
        excluded={record.query_id: record.excluded for record in pairs.records if record.excluded},
    )
    splits = {"train": collection}
    if held_out:
        total = len(pairs.records)
        config = SplitConfig(
            validation=min(_VALIDATION, _MAX_VALIDATION / total),
            test=min(_TEST, _MAX_TEST / total),
        )
        try:
            splits = split_queries(collection, config, groups)
        except DataError as error:
            raise DataError(
                error.message, hint="give more pairs, or hold none out: --no-validation"
            ) from error
    chosen = {query.id for query in splits["train"].queries}
    training = TrainingSet(
        name=name,
        records=tuple(record for record in pairs.records if record.query_id in chosen),
        documents=collection.documents_by_id,
    )
    records, written = write_thoughts(training)
    return PreparedPairs(
        splits=splits, training=replace(training, records=records), written_thoughts=written
    )


def check_prepared(prepared: PreparedPairs, folder: Path) -> bool:
    """Whether a folder has these data already.

    Raises:
        DataError: it has other data.
    """
    if not (folder / COLLECTION).exists():
        return False
    same = _fingerprint_of(folder / COLLECTION) == prepared.fingerprint
    if not same or not (folder / RECORDS).exists():
        raise DataError(
            f"{folder} was prepared from other data",
            hint="choose another folder with -o, or replace it with --overwrite",
        )
    return True


def save_prepared(prepared: PreparedPairs, folder: Path) -> None:
    """Writes the collection and the training records into a folder, replacing others.

    Raises:
        T1Error: the write failed.
    """
    splits = {
        split: replace(part, metadata={"prepared": prepared.fingerprint})
        for split, part in prepared.splits.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder / RECORDS, prepared.training.records)
    save_collection(splits, folder / COLLECTION, overwrite=True)


def _fingerprint_of(folder: Path) -> str | None:
    """The fingerprint of the data in a prepared folder; None if it is another folder."""
    try:
        return load_collection(folder, splits_of(folder)[0]).metadata.get("prepared")
    except T1Error:
        return None
