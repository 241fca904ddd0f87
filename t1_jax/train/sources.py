"""From sources in a config to training sets without leaks, and collections to validate on."""

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
    DataConfig,
    LeakConfig,
    LeakReport,
    SourceConfig,
    TrainingRecord,
    TrainingSet,
    exclude_known_answers,
    overlap,
    read_records,
    records_from_collection,
    refuse_leaks,
    remove_leaks,
)
from t1_jax.train.thoughts import (
    cached_source,
    corpus_records,
    document_pairs,
    template_records,
    title_pairs,
)

TRAINING_PREFIX = "train"
"""Begins the names of training splits; every other split is held out."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a run trains and validates on.

    Attributes:
        sets: training sets in the order of the sources, without leaks.
        held_out: (collection, split) -> queries that must not be trained on.
        validation: collection -> queries and documents that checkpoints are compared on.
        leaks: records that were removed from the sets.
        validation_leaks: validation queries that were removed as duplicates of test queries.
        removed_negatives: negatives that were removed from records because they are the query
            itself or answer it, see `exclude_known_answers`.
        notes: collection -> what lenient reading dropped or accepted -> how often.
    """

    sets: tuple[TrainingSet, ...]
    held_out: Mapping[tuple[str, str], Collection]
    validation: Mapping[str, Collection]
    leaks: LeakReport
    validation_leaks: int
    removed_negatives: int
    notes: Mapping[str, Mapping[str, int]]

    def facts(self) -> dict[str, Any]:
        """Hashes and counts for the run folder, as JSON."""
        return {
            "sets": {
                item.name: {
                    "records": len(item.records),
                    "documents": len(item.documents),
                    "thoughts": sum(len(record.thoughts) for record in item.records),
                    "hash": item.data_hash,
                    "notes": dict(self.notes.get(item.name, {})),
                }
                for item in self.sets
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

    def notices(self) -> list[str]:
        """Sentences about what reading changed in the data."""
        lines = [
            f"{name}: {count:,} {note}"
            for name, counts in self.notes.items()
            for note, count in counts.items()
        ]
        if self.removed_negatives:
            count = self.removed_negatives
            lines.append(f"{count} negatives are the query itself or answer it; they are removed")
        return lines


def load_training_data(config: DataConfig, validation: ValidationConfig | None) -> TrainingData:
    """Opens every source; nothing is fetched. Without `validation` no split is needed for it.

    Training queries that equal or nearly equal a held-out query are removed. Record files that
    contain a held-out query verbatim are rejected, unless `config.leaks` is "remove".

    Raises:
        DataError: a collection or file that is missing or malformed, a collection without the
            split to validate on, a record that names an unknown document, two sources of one
            collection, or a held-out text in a record file.
    """
    sets: list[TrainingSet] = []
    held_out: dict[tuple[str, str], Collection] = {}
    validation_sets: dict[str, Collection] = {}
    notes: dict[str, Mapping[str, int]] = {}
    leak_config, validation_leaks = LeakConfig(near=config.near_duplicates), 0
    for source in config.sources.values():
        collection = _open_source(source, validation)
        name = collection.name
        if name in notes:
            raise DataError(
                f"two sources are named {name}",
                hint="give one source several files under `records`",
            )
        notes[name] = collection.notes
        held_out |= {
            (name, split): queries
            for split, queries in held_out_splits(source.collection, source.lenient).items()
        }
        if validation is not None:
            validated = held_out.get((name, validation.split))
            if validated is None:
                validated = open_collection(source.collection, validation.split, source.lenient)
            validated, leaked = _without_test(validated, held_out.get((name, "test")), leak_config)
            validation_leaks += leaked
            validation_sets[name] = validation_subset(validated, validation)
        sets.append(
            TrainingSet(
                name=name,
                records=_records(source, collection),
                documents=collection.documents_by_id,
                task=collection.task,
            )
        )
    collections = tuple(held_out.values())
    if config.leaks == "refuse":
        for item, source in zip(sets, config.sources.values(), strict=True):
            for path in source.records:
                records = tuple(read_records(Path(path), documents=item.documents))
                refuse_leaks([replace(item, name=str(path), records=records)], collections)
    cleaned, report = remove_leaks(sets, collections, leak_config)
    without_answers, removed_negatives = [], 0
    for item in cleaned:
        records, removed = exclude_known_answers(item.records, item.documents)
        without_answers.append(replace(item, records=records))
        removed_negatives += removed
    return TrainingData(
        sets=tuple(without_answers),
        held_out=held_out,
        validation=validation_sets,
        leaks=report,
        validation_leaks=validation_leaks,
        removed_negatives=removed_negatives,
        notes=notes,
    )


def held_out_splits(collection: str, lenient: bool = False) -> dict[str, Collection]:
    """Split -> collection, for every split whose name does not begin with "train".

    `collection` and `lenient` are as in `SourceConfig`.

    Raises:
        DataError: the collection is missing or malformed.
    """
    return {
        split: open_collection(collection, split, lenient)
        for split in collection_splits(collection)
        if not split.startswith(TRAINING_PREFIX)
    }


def _open_source(source: SourceConfig, validation: ValidationConfig | None) -> Collection:
    splits = collection_splits(source.collection)
    if validation is not None and validation.split not in splits:
        raise DataError(
            f"the collection {source.collection} has no split {validation.split} to validate on; "
            f"it has {', '.join(splits)}",
            hint="set validation.split, add relevance labels in "
            f"qrels/{validation.split}.tsv, or train without validation: validation=null",
        )
    # Record files need only the documents, which every split has.
    split = splits[0] if source.records and "train" not in splits else "train"
    return open_collection(source.collection, split, source.lenient)


def _without_test(
    validation: Collection, test: Collection | None, config: LeakConfig
) -> tuple[Collection, int]:
    """The validation queries that duplicate no test query, and the number of the others."""
    if not records_from_collection(validation):
        raise DataError(
            f"no validation query of {validation.name} has a relevant document",
            hint="add relevance labels, or validate on another split",
        )
    if test is None:
        return validation, 0
    leaked = {leak.query_id for leak in overlap(validation, test, config)}
    remaining = [query.id for query in validation.queries if query.id not in leaked]
    if not remaining:
        raise DataError(
            f"every validation query of {validation.name} duplicates a test query",
            hint="put other queries into the validation split",
        )
    return validation.with_queries(remaining), len(leaked)


def _records(source: SourceConfig, collection: Collection) -> tuple[TrainingRecord, ...]:
    """Records from files, or from the training queries, and pairs from the corpus if asked for."""
    is_known = source.collection in DATASETS
    if source.records:
        files = [Path(path) for path in source.records]
        records = list(read_records(*files, documents=collection.documents_by_id))
    elif is_known:
        records = list(template_records(source.collection, cached_source(source.collection)))
    else:
        records = list(records_from_collection(collection))
    if source.documents and is_known:
        records += document_pairs(source.collection, cached_source(source.collection))
    elif source.documents:
        records += _title_records(source, collection)
    if source.shortest_thoughts is not None:
        shortest = slice(source.shortest_thoughts)
        records = [
            replace(record, thoughts=tuple(sorted(record.thoughts, key=len)[shortest]))
            for record in records
        ]
    return tuple(records)


def _title_records(source: SourceConfig, collection: Collection) -> tuple[TrainingRecord, ...]:
    """Pairs from the titles and sentences of a collection that has no templates."""
    pairs = title_pairs(collection.documents)
    if not pairs:
        raise DataError(
            f"the documents of {source.collection} have no titles to make pairs from",
            hint="set documents=false, or write records yourself",
        )
    train = None
    if TRAINING_PREFIX in collection_splits(source.collection):
        train = open_collection(source.collection, TRAINING_PREFIX, source.lenient)
    held_out = held_out_splits(source.collection, source.lenient)
    return corpus_records(
        pairs, collection.name, collection.documents_by_id, train, list(held_out.values())
    )


def validation_subset(collection: Collection, config: ValidationConfig) -> Collection:
    """At most `config.queries` queries, and at most `config.documents` documents with theirs."""
    if config.queries is not None:
        collection = collection.subset_queries(config.queries)
    if config.documents is None or config.documents >= len(collection.documents):
        return collection
    needed = {document_id for grades in collection.qrels.values() for document_id in grades}
    needed |= {document_id for excluded in collection.excluded.values() for document_id in excluded}
    others = [document.id for document in collection.documents if document.id not in needed]
    subset = needed | set(others[: max(config.documents - len(needed), 0)])
    return replace(
        collection,
        documents=tuple(document for document in collection.documents if document.id in subset),
    )
