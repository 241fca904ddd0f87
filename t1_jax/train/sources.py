"""From names in a config to training sets without leaks, and collections to validate on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from t1_jax.errors import DataError
from t1_jax.hub import collection_splits, open_collection
from t1_jax.retrieval import Collection
from t1_jax.retrieval.datasets import DATASETS
from t1_jax.train.config import ValidationConfig
from t1_jax.train.data import (
    LeakConfig,
    LeakReport,
    TrainingRecord,
    TrainingSet,
    exclude_known_answers,
    find_leaks,
    read_records,
    records_from_collection,
    refuse_leaks,
    remove_leaks,
)
from t1_jax.train.data.config import DataConfig, SourceConfig
from t1_jax.train.thoughts import cached_source, document_pairs, template_records

TRAINING_PREFIX = "train"
"""Begins the names of splits that may be learned from; every other split is held out."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a run learns from.

    Attributes:
        sets: by source, cleaned.
        held_out: queries that must not be learnt, by collection and split.
        validation: by collection, the queries and documents that checkpoints are compared on.
        leaks: what was taken out of the sets.
        validation_leaks: queries that were taken out of the splits to validate on, since a test
            split has them too, or nearly.
        removed_negatives: negatives taken out of records since they are the query itself or answer
            it, see `exclude_known_answers`.
        notes: by collection, what lenient reading dropped or accepted, and how often.
    """

    sets: tuple[TrainingSet, ...]
    held_out: Mapping[tuple[str, str], Collection]
    validation: Mapping[str, Collection]
    leaks: LeakReport
    validation_leaks: int
    removed_negatives: int
    notes: Mapping[str, Mapping[str, int]]

    def facts(self) -> dict[str, Any]:
        """For the run folder: hashes and counts."""
        return {
            "sets": {
                each.name: {
                    "records": len(each.records),
                    "documents": len(each.documents),
                    "thoughts": sum(len(record.thoughts) for record in each.records),
                    "hash": each.data_hash,
                    "notes": dict(self.notes.get(each.name, {})),
                }
                for each in self.sets
            },
            "held_out": {
                f"{name}/{split}": collection.qrels_hash
                for (name, split), collection in self.held_out.items()
            },
            "leaks": {
                "exact": self.leaks.exact,
                "near": self.leaks.near,
                "merged": self.leaks.merged,
                "validation": self.validation_leaks,
            },
            "removed_negatives": self.removed_negatives,
        }


def load_training_data(config: DataConfig, validation: ValidationConfig) -> TrainingData:
    """Opens every source; nothing is fetched.

    Training queries that stand, or nearly stand, in a held-out split are taken out; files that hold
    one word for word are refused, unless `config.leaks` says otherwise.

    Raises:
        DataError: a collection or file that is not there or malformed, a collection without the
            split to validate on, a record that names an unknown document, two sources of one
            collection, or a held-out text in a file of records.
    """
    sets: list[TrainingSet] = []
    held_out: dict[tuple[str, str], Collection] = {}
    validated: dict[str, Collection] = {}
    notes: dict[str, Mapping[str, int]] = {}
    near, too_like_test = LeakConfig(near=config.near_duplicates), 0
    for source in config.sources.values():
        splits = collection_splits(source.collection)
        if validation.split not in splits:
            raise DataError(
                f"the collection {source.collection} has no split {validation.split} to validate "
                f"on; it has {', '.join(splits)}",
                hint=f"set validation.split, or judge some queries in qrels/{validation.split}.tsv",
            )
        # Files of records need the documents alone, which every split has.
        split = validation.split if source.records and "train" not in splits else "train"
        collection = open_collection(source.collection, split, source.lenient)
        name = collection.name
        notes[name] = collection.notes
        if any(each.name == name for each in sets):
            raise DataError(
                f"two sources are named {name}",
                hint="give one source several files under `records`",
            )
        for split, held in held_out_splits(source.collection, source.lenient).items():
            held_out[name, split] = held
        of_validation = held_out.get((name, validation.split))
        if of_validation is None:
            of_validation = open_collection(source.collection, validation.split, source.lenient)
        of_validation, leaked = _apart_from_test(of_validation, held_out.get((name, "test")), near)
        too_like_test += leaked
        validated[name] = validation_part(of_validation, validation)
        sets.append(
            TrainingSet(
                name=name,
                records=_records(source, collection),
                documents=collection.documents_by_id,
                task=collection.task,
            )
        )
    held = tuple(held_out.values())
    if config.leaks == "refuse":
        for item, source in zip(sets, config.sources.values(), strict=True):
            for path in source.records:
                records = tuple(read_records(Path(path), documents=item.documents))
                refuse_leaks([replace(item, name=str(path), records=records)], held)
    cleaned, report = remove_leaks(sets, held, near)
    closed, removed = [], 0
    for item in cleaned:
        records, wrong = exclude_known_answers(item.records, item.documents)
        closed.append(replace(item, records=records))
        removed += wrong
    return TrainingData(
        sets=tuple(closed),
        held_out=held_out,
        validation=validated,
        leaks=report,
        validation_leaks=too_like_test,
        removed_negatives=removed,
        notes=notes,
    )


def held_out_splits(collection: str, lenient: bool = False) -> dict[str, Collection]:
    """By split, the queries of a collection that must not be learned: all but those of training.

    A split is for training if its name begins with "train"; `validation`, BEIR's `dev` and `test`,
    and any other, are held out.

    Args:
        collection: a name that `t1 pull` knows, or a folder in the BEIR layout.
        lenient: see `t1_jax.retrieval.load_collection`.

    Raises:
        DataError: the collection is not there, or malformed.
    """
    return {
        split: open_collection(collection, split, lenient)
        for split in collection_splits(collection)
        if not split.startswith(TRAINING_PREFIX)
    }


def _apart_from_test(
    validation: Collection, test: Collection | None, near: LeakConfig
) -> tuple[Collection, int]:
    """The queries that no test query is like, and how many others there were."""
    if test is None:
        return validation, 0
    asked = TrainingSet(
        name=validation.name,
        records=records_from_collection(validation),
        documents=validation.documents_by_id,
    )
    leaked = {leak.query_id for leak in find_leaks([asked], [test], near)}
    kept = [query.id for query in validation.queries if query.id not in leaked]
    if not kept:
        raise DataError(
            f"every query of the split to validate on of {validation.name} is like a test query",
            hint="judge other queries in it",
        )
    return validation.with_queries(kept), len(leaked)


def _records(source: SourceConfig, collection: Collection) -> tuple[TrainingRecord, ...]:
    """Given files, or the collection's own training queries; and what its corpus offers."""
    known = source.collection in DATASETS
    if source.documents and not known:
        raise DataError(
            f"records are made from the corpora of {', '.join(DATASETS)} alone",
            hint=f"write records for {source.collection} yourself, and set documents=false",
        )
    if source.records:
        files = [Path(path) for path in source.records]
        records = list(read_records(*files, documents=collection.documents_by_id))
    elif known:
        records = list(template_records(source.collection, cached_source(source.collection)))
    else:
        records = list(records_from_collection(collection))
    if source.documents:
        records += document_pairs(source.collection, cached_source(source.collection))
    if source.shortest_thoughts is not None:
        records = [
            replace(
                record, thoughts=tuple(sorted(record.thoughts, key=len)[: source.shortest_thoughts])
            )
            for record in records
        ]
    return tuple(records)


def validation_part(collection: Collection, config: ValidationConfig) -> Collection:
    """The queries, and the part of the corpus, that validation uses."""
    if config.queries is not None:
        collection = collection.subset_queries(config.queries)
    if config.documents is None or config.documents >= len(collection.documents):
        return collection
    judged = {name for grades in collection.qrels.values() for name in grades}
    judged |= {name for names in collection.excluded.values() for name in names}
    room = max(config.documents - len(judged), 0)
    others = [document.id for document in collection.documents if document.id not in judged]
    kept = judged | set(others[:room])
    return replace(
        collection,
        documents=tuple(document for document in collection.documents if document.id in kept),
    )
