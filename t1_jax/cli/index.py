"""`t1 index build` and `t1 index info`: an index of documents, and what one is."""

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t1_jax.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    CollectionName,
    Dtype,
    Model,
    Overwrite,
    Preset,
)
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError

if TYPE_CHECKING:
    from t1_jax.retrieval import Fingerprint, Index, Manifest


def build_index(
    folder: Annotated[Path, typer.Argument(help="Becomes the index.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Of --kind scann, for example leaves=500."),
    ] = None,
    collection: CollectionName = None,
    vectors: Annotated[
        Path | None, typer.Option("--vectors", help="A folder that `t1 encode` wrote.")
    ] = None,
    kind: Annotated[
        Literal["numpy", "device", "scann"],
        typer.Option("--kind", help="Exact in numpy, exact on JAX devices, or approximate."),
    ] = "numpy",
    model: Model = DEFAULT_MODEL,
    preset: Preset = None,
    dtype: Dtype = "bfloat16",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Index a collection, encoding it first, or vectors that are encoded already.

    The index keeps the fingerprint of the encoder, its prompt and the documents: another encoder
    cannot search it by mistake. How many of the exact ten best it finds is measured and kept too.

    Example: t1 index build runs/cwe-index --collection cwe --kind scann
    """
    from t1_jax import retrieval
    from t1_jax.cli.model import refuse_taken
    from t1_jax.config import load_config
    from t1_jax.retrieval import ScannSettings, read_manifest

    out = Output(as_json)
    refuse_taken(folder, overwrite)
    if settings and kind != "scann":
        raise ConfigError(f"--kind {kind} has no settings", mend="leave them out, or --kind scann")
    scann = load_config(ScannSettings, overrides=settings or ()) if kind == "scann" else None
    if (collection is None) == (vectors is None):
        raise ConfigError(
            "say what to index: a collection or vectors (not both)",
            mend="add --collection cwe, or --vectors FOLDER",
        )
    with tempfile.TemporaryDirectory() as scratch:
        if vectors is None:
            assert collection is not None
            vectors = Path(scratch) / "vectors"
            _encode(collection, vectors, model, dtype, preset)
        given, fingerprint = _read(vectors)
        found = retrieval.build_index(kind, given.ids, given.vectors, scann=scann)
        found.save(folder, fingerprint, overwrite=overwrite)
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


def _encode(collection: str, target: Path, model: str, dtype: str, preset: str | None) -> None:
    from t1_jax.cli.encode import encode_documents
    from t1_jax.hub import open_collection
    from t1_jax.retriever import T1

    documents = open_collection(collection)
    encode_documents(T1.load(model, dtype=dtype, preset=preset), documents, target, overwrite=False)


def _read(vectors: Path) -> "tuple[Index, Fingerprint]":
    from t1_jax.retrieval import load_index, read_manifest

    fingerprint = read_manifest(vectors).fingerprint
    return load_index(vectors, fingerprint, kind="numpy"), fingerprint


def _show(out: Output, folder: Path, manifest: "Manifest") -> None:
    exact = "exact" if manifest.kind != "scann" else "measured against exact search"
    prints = dataclasses.asdict(manifest.fingerprint)
    rows = [
        ("index", str(folder)),
        ("kind", manifest.kind),
        ("documents", f"{manifest.count} of {manifest.width} dimensions"),
        ("recall@10", f"{manifest.recall_at_10:.3f} ({exact})"),
        *((name, value) for name, value in manifest.settings.items()),
        *((f"{part} fingerprint", value[:16]) for part, value in prints.items()),
    ]
    out.table(("what", "here"), [(name, str(value)) for name, value in rows])


def _fields(folder: Path, manifest: "Manifest") -> dict[str, Any]:
    return {"index": folder, **dataclasses.asdict(manifest)}
