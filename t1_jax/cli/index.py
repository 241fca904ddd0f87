"""`t1 index`: builds an index of documents, describes one, and verifies one."""

import dataclasses
import shutil
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t1_jax.cli import options
from t1_jax.cli.options import config_argument
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError, IndexContractError, T1Error

if TYPE_CHECKING:
    from t1_jax.retrieval import (
        Collection,
        EmbeddingTable,
        FaissSettings,
        Index,
        Manifest,
        ScannSettings,
    )
    from t1_jax.retriever import OpenedModel


def build_index(
    folder: Annotated[Path, typer.Argument(help="Index folder to write.")],
    arguments: Annotated[
        list[str] | None,
        config_argument(
            "Settings of ScaNN or FAISS: a YAML file, and fields to override, as in leaves=500."
        ),
    ] = None,
    collection: options.CorpusName = None,
    source: options.InputFile = None,
    vectors: Annotated[
        Path | None,
        typer.Option("--vectors", help="Index these embeddings: a folder that `t1 encode` wrote."),
    ] = None,
    kind: Annotated[
        Literal["numpy", "jax", "scann", "faiss"],
        typer.Option(
            "--kind",
            help="Back end: exact in NumPy, exact on JAX devices, ScaNN, or FAISS.",
        ),
    ] = "numpy",
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            help="Recall@10 against exact search that scann and faiss must reach. Default: 0.95.",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            help="Measure the recall with these embeddings, which `t1 encode --side query` wrote. "
            "Default: with documents.",
        ),
    ] = None,
    model: options.Model = options.DEFAULT_MODEL,
    task: options.Task = None,
    instruction: options.Instruction = None,
    preset: options.Preset = None,
    dtype: options.Dtype = "bfloat16",
    lenient: options.Lenient = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Build an index of documents, or of embeddings that `t1 encode` wrote.

    The index stores the documents, the name of the model, the prompts, the query instruction and
    the lengths, and `t1 search` uses them. A search with a model of other embeddings is an error.

    The settings of a ScaNN or FAISS search are measured: the fastest that reach the recall on
    sample queries. Recall and settings are stored.

    If the build fails after encoding, the embeddings are kept, and the same command reuses them.

    Example: t1 index build runs/cwe-index --collection cwe --kind scann
    """
    from t1_jax.files import check_new_folder
    from t1_jax.retrieval import read_manifest, require_backend

    out = Output(as_json)
    settings = _backend_settings(kind, arguments, recall, queries)
    require_backend(kind)
    sources = [str(name) for name in (collection, source, vectors) if name is not None]
    if len(sources) != 1:
        raise ConfigError(
            "give one source to index: a collection, an input file or embeddings",
            hint="add --collection cwe, --input texts.jsonl or --vectors FOLDER",
        )
    if vectors is not None and (task or instruction or preset):
        raise ConfigError(
            "--task, --instruction and --preset are already set by --vectors",
            hint="leave them out, or encode the documents again",
        )
    check_new_folder(folder, overwrite=overwrite)
    backend = _Backend(kind=kind, settings=settings, queries=queries)
    if vectors is not None:
        manifest = read_manifest(vectors)
        backend.check(manifest.count, manifest.width)
        _build(vectors, backend, folder, overwrite=overwrite)
    else:
        from t1_jax.cli.inputs import open_documents
        from t1_jax.retriever import encoding_record, open_model, query_instruction

        documents = open_documents(sources[0], out, lenient=lenient)
        opened = open_model(model, dtype=dtype, preset=preset)
        backend.check(len(documents.documents), opened.resolved.checkpoint.config.embed_dim)
        instruction = query_instruction(opened.preset, task, instruction, documents.task)
        opened.check_document_prompt()
        opened.check_queries(["x"], instruction=instruction)
        encoding = encoding_record(opened, model, instruction)
        _encode_and_build(out, opened, documents, encoding, backend, folder, overwrite)
    manifest = read_manifest(folder)
    _print_manifest(out, folder, manifest)
    out.result(index=folder, **dataclasses.asdict(manifest))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Backend:
    """How an index is to be searched.

    Attributes:
        kind: name of the back end.
        settings: of ScaNN or FAISS; None for an exact back end.
        queries: a folder of query embeddings with which recall is measured.
    """

    kind: str
    settings: "ScannSettings | FaissSettings | None"
    queries: Path | None

    def check(self, count: int, width: int) -> None:
        """Raises ConfigError if the settings do not fit `count` rows of `width` dimensions."""
        from t1_jax.retrieval import read_manifest

        if self.settings is not None:
            self.settings.resolved(count, width)
        if self.queries is not None and read_manifest(self.queries).width < width:
            raise ConfigError(
                f"{self.queries} has {read_manifest(self.queries).width} dimensions, and the "
                f"documents have {width}",
                hint="encode the queries with the model of the documents",
            )

    def build(self, table: "EmbeddingTable") -> "Index":
        """The index; see `t1_jax.retrieval.build_index` for what it raises."""
        from t1_jax import retrieval

        sample = None
        if self.queries is not None:
            manifest = retrieval.read_manifest(self.queries)
            sample = retrieval.load_index(self.queries, manifest.fingerprint, kind="numpy").vectors
        return retrieval.build_from_table(
            self.kind, table, settings=self.settings, sample_queries=sample
        )


def _backend_settings(
    kind: str, arguments: list[str] | None, recall: float | None, queries: Path | None
) -> "ScannSettings | FaissSettings | None":
    """The settings of a back end from the command line; None for an exact one.

    Raises:
        ConfigError: settings for an exact back end, or invalid ones.
        CorruptIndexError: `--queries` has no embeddings.
    """
    from t1_jax.cli.inputs import read_config
    from t1_jax.retrieval import FaissSettings, ScannSettings, read_manifest

    classes = {"scann": ScannSettings, "faiss": FaissSettings}
    if kind not in classes:
        if arguments or recall is not None or queries is not None:
            raise ConfigError(
                f"--kind {kind} is exact and has no settings",
                hint="leave them out, or add --kind scann",
            )
        return None
    if queries is not None:
        read_manifest(queries)
    given = [] if recall is None else [f"minimum_recall={recall}"]
    return read_config(classes[kind], [*(arguments or ()), *given])


def index_info(
    folder: Annotated[Path, typer.Argument(help="An index, or a folder that `t1 encode` wrote.")],
    as_json: options.AsJson = False,
) -> None:
    """Print the contents, settings and fingerprint of an index.

    Example: t1 index info runs/cwe-index
    """
    from t1_jax.retrieval import load_index, read_manifest

    out = Output(as_json)
    manifest = read_manifest(folder)
    load_index(folder, manifest.fingerprint, kind="numpy")
    _print_manifest(out, folder, manifest)
    out.result(index=folder, **dataclasses.asdict(manifest))


def verify_index(
    folder: Annotated[Path, typer.Argument(help="An index, or a folder that `t1 encode` wrote.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Default: the model that the index names."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare every file of an index with its hash, and a few embeddings with the model's.

    A model that encodes the texts of the index to other embeddings finds other documents: its
    weights, its precision or its prompts changed.

    Example: t1 index verify runs/cwe-index
    """
    from t1_jax import retrieval
    from t1_jax.retriever import EQUAL_COSINE, load_model, lowest_canary_cosine, open_index_model

    out = Output(as_json)
    manifest = retrieval.verify_index(folder)
    out.print(f"{folder}: all {len(manifest.files)} files are as they were written")
    documents = retrieval.index_documents(folder)
    if not documents or not manifest.encoding:
        out.print("it has no texts or no model, so its embeddings are not compared with a model's")
        out.result(index=folder, cosine=None)
        return
    name = model or manifest.encoding["model"]
    loaded = load_model(out, open_index_model(manifest.encoding, name))
    index = retrieval.load_index(folder, manifest.fingerprint, kind="numpy")
    cosine = lowest_canary_cosine(loaded, documents, index.table)
    if cosine < EQUAL_COSINE:
        raise IndexContractError(
            f"{name} encodes a text of {folder} to another embedding (cosine {cosine:.4f})",
            hint="search with the model that built the index, or build the index again",
        )
    out.print(f"some of its texts encoded again: cosine at least {cosine:.5f}")
    out.result(index=folder, cosine=cosine)


def _encode_and_build(
    out: Output,
    opened: "OpenedModel",
    texts: "Collection",
    encoding: dict[str, Any],
    backend: _Backend,
    folder: Path,
    overwrite: bool,
) -> None:
    """Encodes into a separate folder first if building the index may fail."""
    from t1_jax.cli.encode import encode_documents
    from t1_jax.cli.inputs import Corpus
    from t1_jax.files import check_new_folder
    from t1_jax.retriever import load_model

    def encode(target: Path) -> None:
        corpus = Corpus(documents=texts.documents, count=len(texts.documents))
        model = load_model(out, opened)
        encode_documents(out, model, corpus, target, encoding, overwrite=overwrite)

    if backend.kind == "numpy":
        encode(folder)
        return
    vectors = folder.with_name(folder.name + ".vectors")
    if _are_reusable(vectors, opened, texts):
        out.log(f"reusing the embeddings in {vectors}")
    else:
        check_new_folder(vectors, overwrite=overwrite)
        encode(vectors)
    try:
        _build(vectors, backend, folder, encoding=encoding, overwrite=overwrite)
    except T1Error as error:
        hint = f"{error.hint}; " if error.hint else ""
        raise type(error)(
            f"{error.message}\nthe embeddings are kept in {vectors}",
            hint=f"{hint}an exact index of them: "
            f"t1 index build {quote(str(folder))} --vectors {quote(str(vectors))}",
        ) from error
    shutil.rmtree(vectors)


def _are_reusable(vectors: Path, opened: "OpenedModel", texts: "Collection") -> bool:
    """Whether a failed build has left embeddings of these documents by this model."""
    from t1_jax.errors import IndexContractError
    from t1_jax.retrieval import read_manifest
    from t1_jax.retriever import document_fingerprint

    try:
        return read_manifest(vectors).fingerprint == document_fingerprint(opened, texts.data_hash)
    except IndexContractError:
        return False


def _build(
    vectors: Path,
    backend: _Backend,
    folder: Path,
    *,
    encoding: dict[str, Any] | None = None,
    overwrite: bool,
) -> None:
    """Builds an index of the embeddings in `vectors`, with `encoding` or their own settings."""
    from t1_jax import retrieval

    manifest = retrieval.read_manifest(vectors)
    exact = retrieval.load_index(vectors, manifest.fingerprint, kind="numpy")
    backend.build(exact.table).save(
        folder,
        manifest.fingerprint,
        encoding=encoding or manifest.encoding,
        documents=retrieval.index_documents(vectors),
        overwrite=overwrite,
    )


_PRINTED_SETTINGS = ("model", "dtype", "instruction", "max_query_tokens", "max_document_tokens")
"""Settings printed for people; --json prints all."""


def _print_manifest(out: Output, folder: Path, manifest: "Manifest") -> None:
    exact = "exact"
    if manifest.kind in ("scann", "faiss"):
        exact = f"measured with {manifest.measured.get('recall_with', 'documents')}"
    fingerprint = dataclasses.asdict(manifest.fingerprint)
    rows = [
        ("index", str(folder)),
        *([("folder", manifest.source["root"])] if manifest.source else []),
        ("kind", manifest.kind),
        ("documents", f"{manifest.count} with {manifest.width} dimensions"),
        ("precision", manifest.precision),
        ("recall@10", f"{manifest.recall_at_10:.3f} ({exact})"),
        *manifest.settings.items(),
        *((name.replace("_", " "), value) for name, value in _measured(manifest)),
        *(
            (name, manifest.encoding[name])
            for name in _PRINTED_SETTINGS
            if name in manifest.encoding
        ),
        *((f"{part} fingerprint", value[:16]) for part, value in fingerprint.items()),
    ]
    out.table(("field", "value"), [(name, str(value)) for name, value in rows])


def _measured(manifest: "Manifest") -> list[tuple[str, object]]:
    """What was measured beside recall."""
    return [(name, value) for name, value in manifest.measured.items() if name != "recall_with"]
