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
    CorpusName,
    Dtype,
    InputFile,
    Instruction,
    Lenient,
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

    from t1_jax.generate import SamplingParams
    from t1_jax.retrieval import Collection, Fingerprint
    from t1_jax.retriever import T1


def encode(
    output: OutputFolder,
    collection: CorpusName = None,
    source: InputFile = None,
    side: Annotated[
        Literal["document", "query"], typer.Option("--side", help="Which side to encode.")
    ] = "document",
    split: Split = "test",
    think: Annotated[
        bool, typer.Option("--think/--no-think", help="Whether queries are thought about.")
    ] = True,
    model: Model = DEFAULT_MODEL,
    n: Thoughts = 1,
    max_thought_tokens: Budget = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    task: Task = None,
    instruction: Instruction = None,
    preset: Preset = None,
    dtype: Dtype = "bfloat16",
    lenient: Lenient = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the vectors of documents or queries: vectors.npy, ids.json and manifest.json.

    The folder of documents is an exact index, so `t1 search` and `t1 index info` read it as it is.

    Example: t1 encode --collection cwe --output runs/cwe-vectors
    """
    from t1_jax.cli.model import encoding_record, instruction_note, query_instruction
    from t1_jax.files import check_new_folder
    from t1_jax.generate import SamplingParams
    from t1_jax.retriever import open_model

    out = Output(as_json)
    given = one_source(collection, source)
    check_new_folder(output, overwrite=overwrite)
    sampling = SamplingParams(temperature=temperature, top_p=top_p, seed=seed)
    texts = _texts(given, side, split, out, lenient=lenient)
    opened = open_model(model, dtype=dtype, preset=preset)
    chosen = query_instruction(opened.preset, task, instruction, texts.task)
    encoding = encoding_record(opened, model, chosen)
    out.say(instruction_note(opened.preset, chosen))
    start = time.perf_counter()
    if side == "document":
        opened.check_document_prompt()
        report = encode_documents(opened.load(), texts, output, encoding, overwrite=overwrite)
    else:
        opened.check_queries(
            [query.text for query in texts.queries],
            instruction=chosen,
            think=think,
            n=n,
            max_thought_tokens=max_thought_tokens,
        )
        how = {
            "think": think,
            "n": n,
            "max_thought_tokens": max_thought_tokens,
            "instruction": chosen,
        }
        report = _encode_queries(
            opened.load(), texts, how, sampling, output, encoding, overwrite=overwrite
        )
    seconds = time.perf_counter() - start
    out.say(
        f"{output}: {report['count']} {side} vectors of {report['width']} dimensions "
        f"in {seconds:.0f} s"
    )
    if report["truncated"]:
        out.say(f"{report['truncated']} texts were cut at their end", style="yellow")
    out.result(
        {"output": output, "side": side, "instruction": chosen, **report, "seconds": seconds}
    )


def one_source(collection: str | None, source: Path | None) -> str:
    """What is to be encoded: a collection's name or folder, or a file.

    Raises:
        ConfigError: neither, or both.
    """
    given = [str(each) for each in (collection, source) if each is not None]
    if len(given) != 1:
        raise ConfigError(
            "say what to encode: a collection or an input file (not both)",
            hint="add --collection cwe, or --input texts.jsonl",
        )
    return given[0]


def encode_documents(
    model: "T1",
    texts: "Collection",
    output: Path,
    encoding: dict[str, Any],
    *,
    overwrite: bool,
) -> dict[str, Any]:
    """Encodes documents and writes them as an exact index; returns what was written."""
    from t1_jax.cli.model import document_fingerprint
    from t1_jax.retrieval import build_index

    ids = [document.id for document in texts.documents]
    bodies = [document.full_text for document in texts.documents]
    vectors = model.encode_document(bodies, document_ids=ids, show_progress_bar=True)
    fingerprint = document_fingerprint(model, texts.data_hash)
    build_index("numpy", ids, vectors).save(
        output, fingerprint, encoding=encoding, documents=texts.documents, overwrite=overwrite
    )
    return _report(vectors, fingerprint, truncated=model.count_truncated(bodies))


def _encode_queries(
    model: "T1",
    texts: "Collection",
    how: dict[str, Any],
    sampling: "SamplingParams",
    output: Path,
    encoding: dict[str, Any],
    *,
    overwrite: bool,
) -> dict[str, Any]:
    from t1_jax.cli.model import digest, query_fingerprint
    from t1_jax.retrieval import build_index

    ids = [query.id for query in texts.queries]
    vectors = model.encode_query(
        [query.text for query in texts.queries],
        query_ids=ids,
        sampling=sampling,
        show_progress_bar=True,
        **how,
    )
    drawing = dataclasses.asdict(sampling)
    data_hash = digest([(query.id, query.text) for query in texts.queries])
    fingerprint = query_fingerprint(model, data_hash, {**how, **drawing})
    build_index("numpy", ids, vectors).save(
        output, fingerprint, encoding={**encoding, **how, **drawing}, overwrite=overwrite
    )
    return _report(vectors, fingerprint, truncated=0)


def _report(vectors: "np.ndarray", fingerprint: "Fingerprint", *, truncated: int) -> dict[str, Any]:
    count, width = vectors.shape
    return {
        "count": count,
        "width": width,
        "truncated": truncated,
        "fingerprint": dataclasses.asdict(fingerprint),
    }


def _texts(source: str, side: str, split: str, out: Output, *, lenient: bool) -> "Collection":
    from t1_jax.cli.inputs import open_documents, open_queries

    if side == "document":
        return open_documents(source, out, lenient=lenient)
    return open_queries(source, split, out, lenient=lenient)
