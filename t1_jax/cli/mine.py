"""`t1 mine`: hard negatives for training records."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from t1_jax.cli.options import DEFAULT_MODEL, AsJson, Dtype, Lenient, Model, Overwrite, Preset
from t1_jax.cli.output import Output
from t1_jax.cli.training_records import (
    RecordsFile,
    RecordsOutput,
    TrainingCollection,
    TrainingSplit,
)
from t1_jax.errors import ConfigError

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
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Of mining, for example negatives=15 margin=0.1"),
    ] = None,
    split: TrainingSplit = "train",
    records: RecordsFile = None,
    by: Annotated[
        Literal["bm25", "dense", "both"],
        typer.Option("--by", help="BM25, a model's vectors, or both."),
    ] = "bm25",
    index: Annotated[
        Path | None, typer.Option("--index", help="The model's index, instead of encoding anew.")
    ] = None,
    thought: Annotated[
        QuerySide,
        typer.Option("--thought", help="Queries with the thought given, the model's own, or none."),
    ] = "none",
    model: Model = DEFAULT_MODEL,
    preset: Preset = None,
    dtype: Dtype = "bfloat16",
    lenient: Lenient = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Find documents that look right and are not, and write records that name them.

    What is known to be relevant, excluded, or of the same text is never taken, nor what a model
    puts so close to the positive that it may well be relevant itself.

    Example: t1 mine --collection cwe --by both --model runs/t1 --output cwe-mined.jsonl
    """
    from t1_jax.cli.training_records import given_training_set, refuse_taken_file
    from t1_jax.config import load_config
    from t1_jax.retriever import open_model
    from t1_jax.train import MiningConfig, mine_negatives, rank_bm25
    from t1_jax.train.data import write_records

    out = Output(as_json)
    if index is not None and by == "bm25":
        raise ConfigError("BM25 needs no index", hint="add --by dense or --by both")
    config = load_config(MiningConfig, None, settings or ())
    refuse_taken_file(output, overwrite)
    data = given_training_set(out, collection, split, records, lenient=lenient)
    if by != "bm25" and thought == "given":
        _refuse_bare(data)
    opened = None if by == "bm25" else open_model(model, dtype=dtype, preset=preset)
    if opened is not None:
        _check_model(data, opened, index, thought)
    rankings: list[Ranking] = []
    if by != "dense":
        rankings.append(rank_bm25(data.records, data.documents, config.depth))
    if opened is not None:
        rankings.append(_by_vectors(data, opened.load(), index, thought, config.depth))
    mined, report = mine_negatives(data.records, data.documents, rankings, config)
    write_records(output, mined)
    out.say(f"{output}: {report.mined} negatives for {report.records} records")
    out.say(f"taken from: {_listed(report.taken)}; dropped: {_listed(report.dropped)}")
    if not split.startswith("train") and records is None:
        out.say(f"these are queries of {split}: do not train on them", style="yellow")
    if by == "bm25":
        out.say(
            "by bm25 near copies of positives alone are dropped as likely relevant: "
            "--by both drops what vectors put close to them, too",
            style="yellow",
        )
    if report.removed:
        out.say(f"{report.removed} earlier negatives are the query itself or answer it: taken out")
    for name, count in report.unanswered.items():
        out.say(f"{name} found nothing for {count} of {report.records} queries", style="yellow")
    if report.short:
        out.say(f"{report.short} records got fewer than {config.negatives}", style="yellow")
    out.result({"output": output, **dataclasses.asdict(report)})


def _refuse_bare(data: "TrainingSet") -> None:
    """Raises ConfigError for records that have no thought to be read with."""
    if bare := [record.query_id for record in data.records if not record.thoughts]:
        raise ConfigError(
            f"{len(bare)} records have no thought, the first is {bare[0]!r}",
            hint="add --records with a file of thoughts, or --thought own",
        )


def _check_model(
    data: "TrainingSet", model: "OpenedModel", index: Path | None, thought: QuerySide
) -> None:
    """Refuses a foreign index, and prompts that do not fit the model."""
    from t1_jax.cli.model import document_fingerprint
    from t1_jax.retrieval import check_fingerprint, read_manifest

    if index is not None:
        check_fingerprint(
            index, read_manifest(index), document_fingerprint(model, corpus_of(data).data_hash)
        )
    model.check_document_prompt()
    for instruction in dict.fromkeys(record.instruction for record in data.records):
        model.check_queries(
            [record.query for record in data.records if record.instruction == instruction],
            task=data.task,
            instruction=instruction,
            think=thought == "own",
        )


def _by_vectors(
    data: "TrainingSet", model: "T1", index: Path | None, thought: QuerySide, depth: int
) -> "Ranking":
    from t1_jax.train import rank_dense

    found = document_index(data, model, index)
    queries = _query_vectors(data, model, thought)
    return rank_dense(data.records, found, queries, depth, name="dense")


def corpus_of(data: "TrainingSet") -> "Collection":
    """The set's documents as a collection without queries."""
    from t1_jax.retrieval import Collection

    documents = tuple(data.documents.values())
    return Collection(name=data.name, documents=documents, queries=(), qrels={})


def document_index(data: "TrainingSet", model: "T1", folder: Path | None) -> "Index":
    """The documents' vectors: those of an index that is this model's, or encoded now."""
    from t1_jax.cli.model import document_fingerprint
    from t1_jax.retrieval import build_index, load_index

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
        places = [i for i, r in enumerate(data.records) if r.instruction == instruction]
        chosen = [data.records[i] for i in places]
        vectors[places] = model.encode_query(
            [record.query for record in chosen],
            query_ids=[record.query_id for record in chosen],
            think=thought != "none",
            thoughts=[record.thoughts[0] for record in chosen] if thought == "given" else None,
            task=None if instruction else data.task,
            instruction=instruction,
            show_progress_bar=True,
        )
    return vectors


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
