"""From names in a config to training sets without leaks, and collections to validate on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from t1_jax.errors import DataError
from t1_jax.hub import collection_splits, open_collection
from t1_jax.retrieval import Collection
from t1_jax.retrieval.datasets import DATASETS
from t1_jax.train.config import DataConfig, SourceConfig, ValidationConfig
from t1_jax.train.data import (
    LeakConfig,
    LeakReport,
    TrainingRecord,
    TrainingSet,
    read_records,
    records_from_collection,
    refuse_leaks,
    remove_leaks,
)
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
        leaks: what was taken out.
    """

    sets: tuple[TrainingSet, ...]
    held_out: Mapping[tuple[str, str], Collection]
    validation: Mapping[str, Collection]
    leaks: LeakReport

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
            },
        }


def load_training_data(config: DataConfig, validation: ValidationConfig) -> TrainingData:
    """Opens every source; nothing is fetched.

    Training queries that stand, or nearly stand, in a held-out split are taken out, or refused.

    Raises:
        DataError: a collection or file that is not there or malformed, a collection without the
            split to validate on, a record that names an unknown document, two sources of one
            collection, or a leak where leaks are refused.
    """
    sets: list[TrainingSet] = []
    held_out: dict[tuple[str, str], Collection] = {}
    validated: dict[str, Collection] = {}
    for source in config.sources.values():
        collection = open_collection(source.collection, "train")
        name = collection.name
        if any(each.name == name for each in sets):
            raise DataError(
                f"two sources are named {name}",
                mend="give one source several files under `records`",
            )
        splits = collection_splits(source.collection)
        for split in HELD_OUT:
            if split in splits:
                held_out[name, split] = open_collection(source.collection, split)
        if validation.split not in splits:
            raise DataError(
                f"the collection {name} has no split {validation.split} to validate on; it has "
                f"{', '.join(splits)}",
                mend=f"judge some queries in qrels/{validation.split}.tsv",
            )
        of_validation = held_out.get((name, validation.split), collection)
        validated[name] = validation_part(of_validation, validation)
        sets.append(
            TrainingSet(
                name=name,
                records=_records(source, collection),
                documents=collection.documents_by_id,
            )
        )
    cleaned, report = _without_leaks(sets, list(held_out.values()), config)
    return TrainingData(sets=cleaned, held_out=held_out, validation=validated, leaks=report)


def _without_leaks(
    sets: list[TrainingSet], held_out: list[Collection], config: DataConfig
) -> tuple[tuple[TrainingSet, ...], LeakReport]:
    if config.leaks == "refuse":
        refuse_leaks(sets, held_out)
    cleaned, report = remove_leaks(sets, held_out, LeakConfig(near=config.near_duplicates))
    if config.leaks == "refuse" and report.leaks:
        leak = report.leaks[0]
        raise DataError(
            f"{leak.set_name}: the query {leak.query_id!r} is nearly {leak.held_out_query!r}, "
            f"which {leak.held_out} holds out (likeness {leak.likeness:.2f}; {report.near} such)",
            mend="take them out of the training data, or set data.leaks=remove",
        )
    return cleaned, report


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
