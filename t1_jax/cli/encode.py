"""`t1 encode`: documents or queries to a folder of vectors that says what they were made with."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t1_jax.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    Budget,
    CollectionName,
    Dtype,
    Instruction,
    Model,
    OutputFolder,
    Overwrite,
    Preset,
    Seed,
    Split,
    Task,
    Temperature,
    Thoughts,
    TopP,
)
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from t1_jax.generate import SamplingOptions
    from t1_jax.retrieval import Collection
    from t1_jax.retriever import T1


def encode(
    output: OutputFolder,
    collection: CollectionName = None,
    source: Annotated[
        Path | None,
        typer.Option("--input", "-i", help="JSONL with _id, text and maybe title; - reads stdin."),
    ] = None,
    side: Annotated[
        Literal["document", "query"], typer.Option("--side", help="Which side to encode.")
    ] = "document",
    split: Split = "test",
    think: Annotated[
        bool, typer.Option("--think/--no-think", help="Whether queries are thought about.")
    ] = True,
    model: Model = DEFAULT_MODEL,
    n: Thoughts = 1,
    budget: Budget = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    task: Task = None,
    instruction: Instruction = None,
    preset: Preset = None,
    dtype: Dtype = "bfloat16",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the vectors of documents or queries: vectors.npy, ids.json and manifest.json.

    The folder is an exact index, so `t1 search` and `t1 index info` read it as it is.

    Example: t1 encode --collection cwe --output runs/cwe-vectors
    """
    from t1_jax.cli.model import check_task, refuse_taken
    from t1_jax.generate import SamplingOptions
    from t1_jax.retriever import T1

    out = Output(as_json)
    sampling = SamplingOptions(temperature=temperature, top_p=top_p, seed=seed)
    refuse_taken(output, overwrite)
    texts = _texts(collection, source, side, split)
    loaded = T1.load(model, dtype=dtype, preset=preset)
    check_task(loaded, task)
    start = time.perf_counter()
    if side == "document":
        report = encode_documents(loaded, texts, output, overwrite=overwrite)
    else:
        how = {
            "think": think,
            "n_thoughts": n,
            "budget": budget,
            "task": texts.name if task is None and instruction is None else task,
            "instruction": instruction,
        }
        report = _encode_queries(loaded, texts, how, sampling, output, overwrite=overwrite)
    seconds = time.perf_counter() - start
    out.say(
        f"{output}: {report['count']} {side} vectors of {report['width']} dimensions "
        f"in {seconds:.0f} s"
    )
    if report["truncated"]:
        out.say(f"{report['truncated']} texts were cut at their end", style="yellow")
    out.result({"output": output, "side": side, **report, "seconds": seconds})


def encode_documents(
    model: "T1", texts: "Collection", output: Path, *, overwrite: bool
) -> dict[str, Any]:
    """Encodes documents and writes them as an exact index; returns what was written."""
    from t1_jax.cli.model import document_fingerprint
    from t1_jax.retrieval import build_index

    ids = [document.id for document in texts.documents]
    bodies = [document.full_text for document in texts.documents]
    vectors = model.encode_document(bodies, document_ids=ids, show_progress_bar=True)
    fingerprint = document_fingerprint(model, texts.data_hash)
    build_index("numpy", ids, vectors).save(output, fingerprint, overwrite=overwrite)
    return _report(vectors, fingerprint, truncated=model.count_truncated(bodies))


def _encode_queries(
    model: "T1",
    texts: "Collection",
    how: dict[str, Any],
    sampling: "SamplingOptions",
    output: Path,
    *,
    overwrite: bool,
) -> dict[str, Any]:
    from t1_jax.cli.model import query_fingerprint
    from t1_jax.retrieval import build_index

    ids = [query.id for query in texts.documents]
    vectors = model.encode_query(
        [query.text for query in texts.documents],
        query_ids=ids,
        sampling=sampling,
        show_progress_bar=True,
        **how,
    )
    drawing = {name: sampling.__dict__[name] for name in ("temperature", "top_p", "seed")}
    fingerprint = query_fingerprint(model, texts.data_hash, {**how, **drawing})
    build_index("numpy", ids, vectors).save(output, fingerprint, overwrite=overwrite)
    return _report(vectors, fingerprint, truncated=0)


def _report(vectors: "np.ndarray", fingerprint: Any, *, truncated: int) -> dict[str, Any]:
    count, width = vectors.shape
    return {
        "count": count,
        "width": width,
        "truncated": truncated,
        "fingerprint": dataclasses.asdict(fingerprint),
    }


def _texts(collection: str | None, source: Path | None, side: str, split: str) -> "Collection":
    """What is to be encoded, as the documents of a collection, whichever side it is."""
    from t1_jax.cli.texts import read_documents
    from t1_jax.hub import open_collection
    from t1_jax.retrieval import Collection, Document

    if (collection is None) == (source is None):
        raise ConfigError(
            "say what to encode: a collection or an input file (not both)",
            mend="add --collection cwe, or --input texts.jsonl",
        )
    if source is not None:
        documents = tuple(read_documents(source))
        return Collection(name=source.stem, documents=documents, queries=(), qrels={})
    assert collection is not None
    found = open_collection(collection, split)
    if side == "document":
        return found
    queries = tuple(Document(id=query.id, text=query.text) for query in found.queries)
    return Collection(name=found.name, documents=queries, queries=(), qrels={})
