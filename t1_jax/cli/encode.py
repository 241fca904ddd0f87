"""`t1 encode`: writes embeddings of documents or queries, and the settings they were made with."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.progress import counted, duration_text

if TYPE_CHECKING:
    from t1_jax.cli.inputs import Corpus
    from t1_jax.generate import SamplingParams
    from t1_jax.retrieval import Collection, StoredPrecision
    from t1_jax.retriever import T1


def encode(
    output: options.OutputFolder,
    collection: options.CorpusName = None,
    source: options.InputFile = None,
    side: Annotated[
        Literal["document", "query"], typer.Option("--side", help="Encode documents or queries.")
    ] = "document",
    split: options.Split = "test",
    think: Annotated[
        bool,
        typer.Option("--think/--no-think", help="Sample a thought before each query is embedded."),
    ] = True,
    model: options.Model = options.DEFAULT_MODEL,
    n: options.NumThoughts = 1,
    max_thought_tokens: options.MaxThoughtTokens = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    task: options.Task = None,
    instruction: options.Instruction = None,
    preset: options.Preset = None,
    dtype: options.Dtype = "bfloat16",
    precision: options.Precision = "float32",
    truncate_dim: options.TruncateDim = None,
    lenient: options.Lenient = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write embeddings of documents or queries: vectors.npy, ids.json and manifest.json.

    A folder of document embeddings is an exact index: `t1 search` and `t1 index info` read it.

    Documents are encoded in shards. The same command goes on after an interruption. The processes
    of a job share the shards and need a common file system: T1_MULTI_HOST=1 srun t1 encode ...

    Example: t1 encode --collection cwe --output runs/cwe-vectors
    """
    import jax

    from t1_jax.cli.inputs import open_corpus, open_queries
    from t1_jax.files import check_new_folder
    from t1_jax.generate import SamplingParams
    from t1_jax.parallel import start_multi_host
    from t1_jax.retrieval import check_truncation
    from t1_jax.retriever import (
        encoding_record,
        instruction_note,
        load_model,
        open_model,
        query_instruction,
    )

    out = Output(as_json)
    start_multi_host()
    sources = [str(name) for name in (collection, source) if name is not None]
    if len(sources) != 1:
        raise ConfigError(
            "give either a collection or an input file to encode",
            hint="add --collection cwe, or --input texts.jsonl",
        )
    check_new_folder(output, overwrite=overwrite)
    is_job = jax.distributed.is_initialized()
    if side == "query" and is_job:
        raise UnsupportedError(
            "queries are encoded by one process", hint="run it without JAX_COORDINATOR_ADDRESS"
        )
    if side == "query" and (precision != "float32" or truncate_dim is not None):
        raise ConfigError(
            "--precision and --truncate-dim are for documents",
            hint="leave them out: queries are truncated as the index is",
        )
    sampling = SamplingParams(temperature=temperature, top_p=top_p, seed=seed)
    corpus = open_corpus(sources[0], out, lenient=lenient) if side == "document" else None
    queries = open_queries(sources[0], split, out, lenient=lenient) if corpus is None else None
    opened = open_model(model, dtype=dtype, preset=preset)
    given_task = corpus.task if corpus is not None else queries and queries.task
    instruction = query_instruction(opened.preset, task, instruction, given_task)
    encoding = encoding_record(opened, model, instruction)
    if not is_job or jax.process_index() == 0:
        out.print(instruction_note(opened.preset, instruction))
    start = time.perf_counter()
    if corpus is not None:
        opened.check_document_prompt()
        check_truncation(truncate_dim, opened.resolved.checkpoint.config.embed_dim)
        report = encode_documents(
            out,
            load_model(out, opened),
            corpus,
            output,
            encoding,
            precision=precision,
            truncate_dim=truncate_dim,
            overwrite=overwrite,
        )
        if report is None:
            return
    else:
        assert queries is not None
        thinking = {
            "think": think,
            "n": n,
            "max_thought_tokens": max_thought_tokens,
            "instruction": instruction,
        }
        texts = [query.text for query in queries.queries]
        opened.check_queries(texts, sampling=sampling, **thinking)
        report = _encode_queries(
            load_model(out, opened),
            queries,
            thinking,
            sampling,
            output,
            encoding,
            overwrite=overwrite,
        )
    seconds = time.perf_counter() - start
    out.print(
        f"{output}: {counted(report['count'], f'{side} embeddings')} with {report['width']} "
        f"dimensions in {duration_text(seconds)}"
    )
    if report["truncated"]:
        out.warn(f"truncated: {counted(report['truncated'], 'texts')}")
    out.result(output=output, side=side, instruction=instruction, **report, seconds=seconds)


def encode_documents(
    out: Output,
    model: "T1",
    corpus: "Corpus",
    output: Path,
    encoding: dict[str, Any],
    *,
    precision: "StoredPrecision" = "float32",
    truncate_dim: int | None = None,
    overwrite: bool,
) -> dict[str, Any] | None:
    """Encodes documents and writes them as an exact index; returns its counts and fingerprint.

    In a job of several processes the first one writes the index; None is returned on the others.
    """
    import jax

    from t1_jax.retriever import Processes, encode_corpus

    encoded = encode_corpus(
        model,
        corpus.documents,
        output,
        count=corpus.count,
        encoding=encoding,
        precision=precision,
        truncate_dim=truncate_dim,
        overwrite=overwrite,
        processes=Processes(index=jax.process_index(), count=jax.process_count()),
        show_progress_bar=not out.as_json,
        log=out.log,
    )
    if encoded is None:
        return None
    if (speed := encoded.speed) is not None:
        mfu = "" if speed.mfu is None else f", {speed.mfu:.0%} MFU"
        out.log(
            f"{speed.tokens_per_second:,.0f} tokens/s, {speed.padding:.0%} padding{mfu}, "
            f"{speed.overhead:.1%} of the time outside the model, "
            f"{counted(encoded.duplicates, 'duplicate texts')}"
        )
    if (loss := encoded.loss) is not None:
        out.log(
            f"{precision} with {encoded.width} dimensions against float32 with "
            f"{model.embed_dim}: recall@10 {loss.precision_recall_at_10:.4f}, nDCG@10 "
            f"{loss.precision_ndcg_at_10:.4f} ({loss.precision_queries} documents as queries)"
        )
    return {
        **dataclasses.asdict(encoded),
        "fingerprint": dataclasses.asdict(encoded.fingerprint),
    }


def _encode_queries(
    model: "T1",
    texts: "Collection",
    thinking: dict[str, Any],
    sampling: "SamplingParams",
    output: Path,
    encoding: dict[str, Any],
    *,
    overwrite: bool,
) -> dict[str, Any]:
    from t1_jax.cli.model import query_fingerprint
    from t1_jax.retrieval import build_index
    from t1_jax.retriever import digest

    ids = [query.id for query in texts.queries]
    vectors = model.encode_query(
        [query.text for query in texts.queries],
        query_ids=ids,
        sampling=sampling,
        show_progress_bar=True,
        **thinking,
    )
    settings = {**thinking, **dataclasses.asdict(sampling)}
    data_hash = digest([(query.id, query.text) for query in texts.queries])
    fingerprint = query_fingerprint(model, data_hash, settings)
    build_index("numpy", ids, vectors).save(
        output, fingerprint, encoding={**encoding, **settings}, overwrite=overwrite
    )
    count, width = vectors.shape
    return {
        "count": count,
        "width": width,
        "truncated": 0,
        "fingerprint": dataclasses.asdict(fingerprint),
    }
