"""`t1 index build` and `t1 index info`: an index of documents, and what one is."""

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t1_jax.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    CorpusName,
    Dtype,
    InputFile,
    Instruction,
    Lenient,
    Model,
    Overwrite,
    Preset,
    Task,
)
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError, T1Error

if TYPE_CHECKING:
    from t1_jax.retrieval import Collection, Document, Fingerprint, Index, Manifest, ScannSettings
    from t1_jax.retriever import OpenedModel


def build_index(
    folder: Annotated[Path, typer.Argument(help="Becomes the index.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Of --kind scann, for example leaves=500."),
    ] = None,
    collection: CorpusName = None,
    source: InputFile = None,
    vectors: Annotated[
        Path | None, typer.Option("--vectors", help="A folder that `t1 encode` wrote.")
    ] = None,
    kind: Annotated[
        Literal["numpy", "jax", "scann"],
        typer.Option("--kind", help="Exact in numpy, exact on JAX devices, or approximate."),
    ] = "numpy",
    model: Model = DEFAULT_MODEL,
    task: Task = None,
    instruction: Instruction = None,
    preset: Preset = None,
    dtype: Dtype = "bfloat16",
    lenient: Lenient = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Index documents, encoding them first, or vectors that are encoded already.

    The index keeps the documents, the model's name, the prompts, the instruction of queries and the
    lengths, and `t1 search` uses them. Its fingerprint keeps another encoder from searching it by
    mistake. The share of the exact ten best that it finds is measured and kept too.

    If the build fails after the documents were encoded, their vectors are kept, and the same
    command goes on from them.

    Example: t1 index build runs/cwe-index --collection cwe --kind scann
    """
    from t1_jax.config import load_config
    from t1_jax.files import check_new_folder
    from t1_jax.retrieval import ScannSettings, read_manifest, require_backend

    out = Output(as_json)
    if settings and kind != "scann":
        raise ConfigError(f"--kind {kind} has no settings", hint="leave them out, or --kind scann")
    scann = load_config(ScannSettings, overrides=settings or ()) if kind == "scann" else None
    require_backend(kind)
    given = [str(each) for each in (collection, source, vectors) if each is not None]
    if len(given) != 1:
        raise ConfigError(
            "say what to index: a collection, an input file or vectors (one of them)",
            hint="add --collection cwe, --input texts.jsonl or --vectors FOLDER",
        )
    if vectors is not None and (task or instruction or preset):
        raise ConfigError(
            "--task, --instruction and --preset are those of the vectors",
            hint="leave them out, or encode the documents again",
        )
    check_new_folder(folder, overwrite=overwrite)
    if vectors is not None:
        content = _read(vectors)
        if scann is not None:
            scann.resolved(len(content.index.ids))
        _build(content, kind, scann, folder, overwrite=overwrite)
    else:
        from t1_jax.cli.inputs import open_documents
        from t1_jax.cli.model import encoding_record, query_instruction
        from t1_jax.retriever import open_model

        documents = open_documents(given[0], out, lenient=lenient)
        if scann is not None:
            scann.resolved(len(documents.documents))
        opened = open_model(model, dtype=dtype, preset=preset)
        chosen = query_instruction(opened.preset, task, instruction, documents.task)
        opened.check_document_prompt()
        opened.check_queries(["x"], instruction=chosen)
        encoding = encoding_record(opened, model, chosen)
        _encode_and_build(out, opened, documents, encoding, kind, scann, folder, overwrite)
    manifest = read_manifest(folder)
    _show(out, folder, manifest)
    out.result(_fields(folder, manifest))


def index_info(
    folder: Annotated[Path, typer.Argument(help="An index, or vectors that `t1 encode` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Check an index's files against their hashes, and say what it holds and whose it is.

    Example: t1 index info runs/cwe-index
    """
    from t1_jax.retrieval import load_index, read_manifest

    out = Output(as_json)
    manifest = read_manifest(folder)
    load_index(folder, manifest.fingerprint, kind="numpy")
    _show(out, folder, manifest)
    out.result(_fields(folder, manifest))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Content:
    """Everything that an index is built from."""

    index: "Index"
    fingerprint: "Fingerprint"
    encoding: dict[str, Any]
    documents: "tuple[Document, ...]"


def _encode_and_build(
    out: Output,
    opened: "OpenedModel",
    texts: "Collection",
    encoding: dict[str, Any],
    kind: str,
    scann: "ScannSettings | None",
    folder: Path,
    overwrite: bool,
) -> None:
    """Encodes into a folder of vectors first where the index itself may fail to be built."""
    from t1_jax.cli.encode import encode_documents
    from t1_jax.files import check_new_folder

    if kind == "numpy":
        encode_documents(opened.load(), texts, folder, encoding, overwrite=overwrite)
        return
    vectors = folder.with_name(folder.name + ".vectors")
    if _are_of(vectors, opened, texts):
        out.note(f"the vectors in {vectors} are used")
    else:
        check_new_folder(vectors, overwrite=overwrite)
        encode_documents(opened.load(), texts, vectors, encoding, overwrite=overwrite)
    try:
        content = dataclasses.replace(_read(vectors), encoding=encoding)
        _build(content, kind, scann, folder, overwrite=overwrite)
    except T1Error as error:
        hint = f"{error.hint}; " if error.hint else ""
        raise type(error)(
            f"{error.message}\nthe vectors are kept in {vectors}",
            hint=f"{hint}t1 index build {folder} --vectors {vectors} makes an exact index of them",
        ) from error
    shutil.rmtree(vectors)


def _are_of(vectors: Path, opened: "OpenedModel", texts: "Collection") -> bool:
    """Whether a build that failed has left the vectors of these documents by this model."""
    from t1_jax.cli.model import document_fingerprint
    from t1_jax.errors import IndexContractError
    from t1_jax.retrieval import read_manifest

    try:
        return read_manifest(vectors).fingerprint == document_fingerprint(opened, texts.data_hash)
    except IndexContractError:
        return False


def _build(
    content: _Content, kind: str, scann: "ScannSettings | None", folder: Path, *, overwrite: bool
) -> None:
    from t1_jax import retrieval

    index = retrieval.build_index(kind, content.index.ids, content.index.vectors, scann=scann)
    index.save(
        folder,
        content.fingerprint,
        encoding=content.encoding,
        documents=content.documents,
        overwrite=overwrite,
    )


def _read(vectors: Path) -> _Content:
    from t1_jax.retrieval import index_documents, load_index, read_manifest

    manifest = read_manifest(vectors)
    return _Content(
        index=load_index(vectors, manifest.fingerprint, kind="numpy"),
        fingerprint=manifest.fingerprint,
        encoding=dict(manifest.encoding),
        documents=index_documents(vectors),
    )


_SHOWN = ("model", "dtype", "instruction", "max_query_tokens", "max_document_tokens")
"""What people are told of how an index was made; --json holds all of it."""


def _show(out: Output, folder: Path, manifest: "Manifest") -> None:
    exact = "exact" if manifest.kind != "scann" else "measured against exact search"
    prints = dataclasses.asdict(manifest.fingerprint)
    rows = [
        ("index", str(folder)),
        ("kind", manifest.kind),
        ("documents", f"{manifest.count} of {manifest.width} dimensions"),
        ("recall@10", f"{manifest.recall_at_10:.3f} ({exact})"),
        *manifest.settings.items(),
        *((name, manifest.encoding[name]) for name in _SHOWN if name in manifest.encoding),
        *((f"{part} fingerprint", value[:16]) for part, value in prints.items()),
    ]
    out.table(("what", "here"), [(name, str(value)) for name, value in rows])


def _fields(folder: Path, manifest: "Manifest") -> dict[str, Any]:
    return {"index": folder, **dataclasses.asdict(manifest)}
