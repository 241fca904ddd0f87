"""`t1 mine`: hard negatives for training records."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from t1_jax.cli import options
from t1_jax.cli.options import config_argument
from t1_jax.cli.output import Output
from t1_jax.cli.training_records import (
    RecordsFile,
    RecordsOutput,
    TrainingCollection,
    TrainingSplit,
)
from t1_jax.errors import ConfigError
from t1_jax.progress import counted

if TYPE_CHECKING:
    import numpy as np

    from t1_jax.retrieval import Collection, Index
    from t1_jax.retriever import T1, OpenedModel
    from t1_jax.train import Ranking
    from t1_jax.train.data import TrainingSet

QuerySide = Literal["given", "own", "none"]


def mine(
    output: RecordsOutput,
    collection: TrainingCollection,
    arguments: Annotated[
        list[str] | None,
        config_argument("A YAML file, and fields to override, as in negatives=15 margin=0.1."),
    ] = None,
    split: TrainingSplit = "train",
    records: RecordsFile = None,
    by: Annotated[
        Literal["bm25", "dense", "both"],
        typer.Option("--by", help="Retriever that ranks candidates: BM25, a model, or both."),
    ] = "bm25",
    index: Annotated[
        Path | None,
        typer.Option("--index", help="An index of the model, instead of encoding the documents."),
    ] = None,
    thought: Annotated[
        QuerySide,
        typer.Option(
            "--thought",
            help="Thought before the query embedding: the record's, the model's own, or none.",
        ),
    ] = "none",
    model: options.Model = options.DEFAULT_MODEL,
    preset: options.Preset = None,
    dtype: options.Dtype = "bfloat16",
    lenient: options.Lenient = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Mine hard negatives, and write records that name them.

    Documents that are relevant, excluded, or equal in text to one of those are never negatives. A
    document that a model scores close to the positive may be an unlabeled positive: it is dropped.

    Example: t1 mine --collection cwe --by both --model runs/t1 --output cwe-mined.jsonl
    """
    from t1_jax.cli.inputs import read_config
    from t1_jax.cli.training_records import check_records_output, load_training_set
    from t1_jax.retriever import load_model, open_model
    from t1_jax.train import MiningConfig, mine_negatives, rank_bm25
    from t1_jax.train.data import write_records

    out = Output(as_json)
    if index is not None and by == "bm25":
        raise ConfigError("BM25 needs no index", hint="add --by dense or --by both")
    config = read_config(MiningConfig, arguments)
    check_records_output(output, overwrite)
    data = load_training_set(out, collection, split, records, lenient=lenient)
    if by != "bm25" and thought == "given":
        _check_thoughts(data)
    opened = None if by == "bm25" else open_model(model, dtype=dtype, preset=preset)
    if opened is not None:
        _check_model(data, opened, index, thought)
    rankings: list[Ranking] = []
    if by != "dense":
        rankings.append(rank_bm25(data.records, data.documents, config.depth))
    if opened is not None:
        rankings.append(_rank_dense(data, load_model(out, opened), index, thought, config.depth))
    mined, report = mine_negatives(data.records, data.documents, rankings, config)
    write_records(output, mined)
    negatives, records_text = counted(report.mined, "negatives"), counted(report.records, "records")
    out.print(f"{output}: {negatives} for {records_text}")
    out.print(f"sources: {_join_counts(report.taken)}; dropped: {_join_counts(report.dropped)}")
    if not split.startswith("train") and records is None:
        out.warn(f"these are queries of {split}: do not train on them")
    if by == "bm25":
        out.warn(
            "BM25 drops only near duplicates of positives as likely relevant; --by both also drops "
            "documents that a model scores close to them"
        )
    if report.removed:
        out.print(
            "removed, as they are the query itself or relevant: "
            f"{counted(report.removed, 'negatives of the input')}"
        )
    for name, count in report.unanswered.items():
        out.warn(f"{name} has no result for {count} of {counted(report.records, 'queries')}")
    if report.short:
        out.warn(
            f"{counted(report.short, 'records')} got fewer than "
            f"{counted(config.negatives, 'negatives')}"
        )
    out.result(output=output, **dataclasses.asdict(report))


def _check_thoughts(data: "TrainingSet") -> None:
    """Raises ConfigError for records without a thought."""
    if missing := [record.query_id for record in data.records if not record.thoughts]:
        raise ConfigError(
            f"{counted(len(missing), 'records without thought')}, the first is {missing[0]!r}",
            hint="add --records with a file of thoughts, or --thought own",
        )


def _check_model(
    data: "TrainingSet", model: "OpenedModel", index: Path | None, thought: QuerySide
) -> None:
    """Checks that the index is the model's, and that the prompts fit the model."""
    from t1_jax.cli.training_records import check_prompts
    from t1_jax.retrieval import check_fingerprint, read_manifest
    from t1_jax.retriever import document_fingerprint

    if index is not None:
        check_fingerprint(
            index, read_manifest(index), document_fingerprint(model, corpus_of(data).data_hash)
        )
    model.check_document_prompt()
    check_prompts(data, model, think=thought == "own")


def _rank_dense(
    data: "TrainingSet", model: "T1", index: Path | None, thought: QuerySide, depth: int
) -> "Ranking":
    from t1_jax.train import rank_dense

    documents = document_index(data, model, index)
    queries = _query_vectors(data, model, thought)
    return rank_dense(data.records, documents, queries, depth, name="dense")


def corpus_of(data: "TrainingSet") -> "Collection":
    """The documents of the set as a collection without queries."""
    from t1_jax.retrieval import Collection

    documents = tuple(data.documents.values())
    return Collection(name=data.name, documents=documents, queries=(), qrels={})


def document_index(data: "TrainingSet", model: "T1", folder: Path | None) -> "Index":
    """An index of the documents: the one in `folder`, or one encoded now."""
    from t1_jax.retrieval import build_index, load_index
    from t1_jax.retriever import document_fingerprint

    corpus = corpus_of(data)
    documents = corpus.documents
    if folder is not None:
        return load_index(folder, document_fingerprint(model, corpus.data_hash))
    ids = [document.id for document in documents]
    vectors = model.encode_document(
        [document.full_text for document in documents], document_ids=ids, show_progress_bar=True
    )
    return build_index("numpy", ids, vectors)


def _query_vectors(data: "TrainingSet", model: "T1", thought: QuerySide) -> "np.ndarray":
    import numpy as np

    vectors = np.zeros((len(data.records), model.embed_dim), np.float32)
    for instruction in dict.fromkeys(record.instruction for record in data.records):
        rows = [i for i, r in enumerate(data.records) if r.instruction == instruction]
        records = [data.records[i] for i in rows]
        vectors[rows] = model.encode_query(
            [record.query for record in records],
            query_ids=[record.query_id for record in records],
            think=thought != "none",
            thoughts=[record.thoughts[0] for record in records] if thought == "given" else None,
            task=None if instruction else model.known_task(data.task),
            instruction=instruction,
            show_progress_bar=True,
        )
    return vectors


def _join_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
