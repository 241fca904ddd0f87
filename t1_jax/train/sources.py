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
    find_leaks,
    read_records,
    records_from_collection,
    refuse_leaks,
    remove_leaks,
)
from t1_jax.train.data_config import DataConfig, SourceConfig
from t1_jax.train.thoughts import cached_source, cold_records, document_pairs

HELD_OUT = ("validation", "test")
"""Splits whose queries must not be learnt, where a collection has them."""


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
    """

    sets: tuple[TrainingSet, ...]
    held_out: Mapping[tuple[str, str], Collection]
    validation: Mapping[str, Collection]
    leaks: LeakReport
    validation_leaks: int

    def facts(self) -> dict[str, Any]:
        """For the run folder: hashes and counts."""
        return {
            "sets": {
                each.name: {
                    "records": len(each.records),
                    "documents": len(each.documents),
                    "thoughts": sum(len(record.thoughts) for record in each.records),
                    "hash": each.data_hash,
                }
                for each in self.sets
            },
            "held_out": {
                f"{name}/{split}": collection.judgement_hash
                for (name, split), collection in self.held_out.items()
            },
            "leaks": {
                "exact": self.leaks.exact,
                "near": self.leaks.near,
                "merged": self.leaks.merged,
                "validation": self.validation_leaks,
            },
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
    near, too_like_test = LeakConfig(near=config.near_duplicates), 0
    for source in config.sources.values():
        collection = open_collection(source.collection, "train")
        name = collection.name
        if any(each.name == name for each in sets):
            raise DataError(
                f"two sources are named {name}",
                mend="give one source several files under `records`",
            )
        splits = collection_splits(source.collection)
        for split, held in held_out_splits(source.collection).items():
            held_out[name, split] = held
        if validation.split not in splits:
            raise DataError(
                f"the collection {name} has no split {validation.split} to validate on; it has "
                f"{', '.join(splits)}",
                mend=f"judge some queries in qrels/{validation.split}.tsv",
            )
        of_validation = held_out.get((name, validation.split), collection)
        of_validation, leaked = _apart_from_test(of_validation, held_out.get((name, "test")), near)
        too_like_test += leaked
        validated[name] = validation_part(of_validation, validation)
        sets.append(
            TrainingSet(
                name=name,
                records=_records(source, collection),
                documents=collection.documents_by_id,
            )
        )
    held = tuple(held_out.values())
    if config.leaks == "refuse":
        for item, source in zip(sets, config.sources.values(), strict=True):
            for path in source.records:
                records = tuple(read_records(Path(path), documents=item.documents))
                refuse_leaks([replace(item, name=str(path), records=records)], held)
    cleaned, report = remove_leaks(sets, held, near)
    return TrainingData(
        sets=cleaned,
        held_out=held_out,
        validation=validated,
        leaks=report,
        validation_leaks=too_like_test,
    )


def held_out_splits(collection: str) -> dict[str, Collection]:
    """By split, the queries of a collection that must not be learnt.

    Raises:
        DataError: the collection is not there, or malformed.
    """
    known = collection_splits(collection)
    return {split: open_collection(collection, split) for split in HELD_OUT if split in known}


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
            mend="judge other queries in it",
        )
    return validation.with_queries(kept), len(leaked)


def _records(source: SourceConfig, collection: Collection) -> tuple[TrainingRecord, ...]:
    """Given files, or the collection's own training queries; and what its corpus offers."""
    known = source.collection in DATASETS
    if source.documents and not known:
        raise DataError(
            f"records are made from the corpora of {', '.join(DATASETS)} alone",
            mend=f"write records for {source.collection} yourself, and set documents=false",
        )
    if source.records:
        files = [Path(path) for path in source.records]
        records = list(read_records(*files, documents=collection.documents_by_id))
    elif known:
        records = list(cold_records(source.collection, cached_source(source.collection)))
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
