"""`t1 serve`: an HTTP service that thinks, and a page to try it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from t1_jax.retriever import T1, DenseSearch, OpenedModel
    from t1_jax.serve import Corpus, Load, Metrics, ServerConfig

_EXAMPLES, _EXAMPLE_CHARACTERS = 4, 80


def serve(
    index: Annotated[
        str | None,
        typer.Option(
            "--index",
            "-i",
            help="What /v1/search searches: files, a collection, or an index, as in `t1 search`. "
            "Without it, the service only embeds.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help=f"Default: the model of the index, or {options.DEFAULT_MODEL}."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Default: this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535)] = 8080,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            help="A file with one API key a line; T1_API_KEY in the environment is one too.",
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option("--cors-origin", help="An origin whose pages may use it; repeatable."),
    ] = None,
    max_thought_tokens: Annotated[
        int,
        typer.Option(
            "--max-thought-tokens", help="Most tokens of a thought; requests may ask for less."
        ),
    ] = 64,
    rows: Annotated[int, typer.Option("--rows", help="Thoughts that are decoded at once.")] = 16,
    max_inputs: Annotated[
        int, typer.Option("--max-inputs", help="Most texts of a request.")
    ] = 1024,
    max_k: Annotated[int, typer.Option("--max-k", help="Most documents per query.")] = 1000,
    max_body_mb: Annotated[
        int, typer.Option("--max-body-mb", min=1, help="Largest body of a request, in 10^6 bytes.")
    ] = 2,
    max_waiting_tokens: Annotated[
        int,
        typer.Option(
            "--max-waiting-tokens",
            help="Most tokens of texts and thoughts that wait; more requests get status 429.",
        ),
    ] = 100_000,
    max_connections: Annotated[
        int, typer.Option("--max-connections", help="Most open connections; more are closed.")
    ] = 1024,
    deadline_seconds: Annotated[
        float,
        typer.Option(
            "--deadline-seconds", help="Most time of a request; requests may ask for less."
        ),
    ] = 120.0,
    drain_seconds: Annotated[
        float, typer.Option("--drain-seconds", help="Time to finish requests at shutdown.")
    ] = 25.0,
    reject_long_texts: Annotated[
        bool,
        typer.Option(
            "--reject-long-texts", help="Reject texts that are too long, instead of truncating."
        ),
    ] = False,
    log_texts: Annotated[
        bool, typer.Option("--log-texts", help="Write queries to the log. Off by default.")
    ] = False,
    thought_cache: options.UseThoughtCache = True,
    task: options.Task = None,
    instruction: options.Instruction = None,
    preset: options.Preset = None,
    dtype: Annotated[
        Literal["bfloat16", "float32"] | None,
        typer.Option("--dtype", help="Compute dtype. Default: the index's, or bfloat16."),
    ] = None,
) -> None:
    """Serve embeddings and search over HTTP, and a page at / on which a thought can be edited.

    Routes are those of OpenAI (/v1/embeddings) and of text-embeddings-inference (/embed, /rerank),
    and /v1/search and /v1/think. SIGTERM finishes what was accepted and ends.

    Example: t1 serve --index cwe
    """
    _require_extra()
    from t1_jax.serve import ServerConfig, read_api_keys

    out = Output(as_json=False)
    config = ServerConfig(
        host=host,
        port=port,
        api_keys=read_api_keys(api_key_file),
        cors_origins=tuple(cors_origin or ()),
        log_texts=log_texts,
        max_thought_tokens=max_thought_tokens,
        rows=rows,
        max_n=min(8, rows),
        max_inputs=max_inputs,
        max_k=max_k,
        max_body_bytes=max_body_mb * 1_000_000,
        max_waiting_tokens=max_waiting_tokens,
        max_connections=max_connections,
        deadline_seconds=deadline_seconds,
        reject_long_texts=reject_long_texts,
        drain_seconds=drain_seconds,
    )
    if not config.is_local and not config.api_keys:
        out.warn(f"{host} may be reachable from other machines, and there is no API key")
    overrides = {"preset": preset, "dtype": dtype, "task": task, "instruction": instruction}
    if index is None:
        load = _load_model(model, overrides, thought_cache, config, out)
    else:
        load = _load_index(index, model, overrides, thought_cache, config, out)
    _run(config, load, out)


def _require_extra() -> None:
    from importlib.util import find_spec

    for name in ("starlette", "uvicorn", "pydantic", "prometheus_client"):
        if find_spec(name) is None:
            raise UnsupportedError(
                f"the service needs the package {name}", hint='pip install "t1_jax[serve]"'
            )


def _load_model(
    model: str | None,
    overrides: dict[str, str | None],
    thought_cache: bool,
    config: "ServerConfig",
    out: Output,
) -> "Load":
    """Checks a model and gives what loads it."""
    from t1_jax.retriever import instruction_note, load_model, open_model, query_instruction
    from t1_jax.serve import Service

    name = model or options.DEFAULT_MODEL
    opened = open_model(name, dtype=overrides["dtype"] or "bfloat16", preset=overrides["preset"])
    instruction = query_instruction(opened.preset, overrides["task"], overrides["instruction"])
    if opened.preset.uses_instruction:
        out.log(instruction_note(opened.preset, instruction))
    _check(opened, instruction, config)
    return lambda config, metrics: Service(
        load_model(out, opened, thought_cache=thought_cache),
        config,
        metrics,
        name=_client_name(name),
        instruction=instruction,
    )


def _load_index(
    source: str,
    model: str | None,
    overrides: dict[str, str | None],
    thought_cache: bool,
    config: "ServerConfig",
    out: Output,
) -> "Load":
    """Checks what is searched and its model, and gives what loads them."""
    from t1_jax.retriever import open_dense, open_source
    from t1_jax.serve import Service

    texts = open_source(source, None, out, lenient=True, bm25=False)
    dense = open_dense(
        texts,
        [],
        overrides=overrides,
        model=model,
        thinking={"think": True, "n": 1, "max_thought_tokens": config.max_thought_tokens},
        sampling={"temperature": 0.0},
        thought_cache=thought_cache,
        out=out,
    )
    instruction = str(dense.query_options["instruction"])
    _check(dense.opened, instruction, config)
    name = _client_name(str(dense.encoding["model"]))

    def load(config: "ServerConfig", metrics: "Metrics") -> Service:
        loaded, corpus = _load_corpus(dense, out)
        return Service(loaded, config, metrics, name=name, corpus=corpus, instruction=instruction)

    return load


def _load_corpus(dense: "DenseSearch", out: Output) -> "tuple[T1, Corpus]":
    from t1_jax.serve import Corpus

    index, model = dense.load(out)
    documents = dense.source.documents_by_id
    return model, Corpus(
        name=_client_name(dense.source.name),
        index=index,
        documents=documents,
        bm25=dense.source.bm25() if documents else None,
        hybrid_by_default=dense.is_hybrid_by_default,
        examples=_example_queries(dense.source.task),
        manifest=dense.source.index / "manifest.json",
    )


def _example_queries(known: str | None) -> list[str]:
    """A few short test queries of a known collection, for the page."""
    from t1_jax.hub import open_collection

    if known is None:
        return []
    texts = dict.fromkeys(query.text for query in open_collection(known, "test").queries)
    short = [text for text in texts if len(text) <= _EXAMPLE_CHARACTERS]
    return short[:: max(len(short) // _EXAMPLES, 1)][:_EXAMPLES]  # spread over the topics


def _check(opened: "OpenedModel", instruction: str, config: "ServerConfig") -> None:
    """Raises before the weights are read, if no query could be thought about."""
    opened.check_document_prompt()
    opened.check_queries(
        ["x"], instruction=instruction, max_thought_tokens=config.max_thought_tokens
    )


def _client_name(name: str) -> str:
    """The name for clients: never a path of this machine."""
    return Path(name).name


def _run(config: "ServerConfig", load: "Load", out: Output) -> None:
    import asyncio

    from t1_jax.serve import Server, build_app

    app = build_app(config, load)
    server = Server(app, config)

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            if serving.done():
                serving.result()
                raise ConfigError(
                    f"cannot listen on {config.host}:{config.port}", hint="choose another --port"
                )
            await asyncio.sleep(0.02)
        out.print(f"listening on http://{config.host}:{server.port} (Ctrl-C ends it)")
        try:
            await app.state.server.ready()
        except BaseException:
            server.should_exit = True
            await serving
            raise
        if app.state.server.status == "ready":  # it may have been told to end meanwhile
            out.print("ready")
        await serving

    asyncio.run(run())
