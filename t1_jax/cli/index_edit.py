"""`t1 index add`, `delete` and `diff`: changes the documents of an index, and compares indexes."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.retrieval import Manifest
    from t1_jax.retriever import T1

Folder = Annotated[Path, typer.Argument(help="An index, or a folder that `t1 encode` wrote.")]


def add_to_index(
    folder: Folder,
    collection: options.CorpusName = None,
    source: options.InputFile = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Default: the model that the index names."),
    ] = None,
    lenient: options.Lenient = False,
    as_json: options.AsJson = False,
) -> None:
    """Add documents to an index, or update those whose text changed.

    Documents with the id of one in the index replace it. Only new and changed texts are encoded,
    with the model and the settings of the index. ScaNN and FAISS are trained and measured again.

    Example: t1 index add runs/cwe-index --input new.jsonl
    """
    from t1_jax.cli.inputs import open_documents
    from t1_jax.retrieval import edit_index, find_changes, read_manifest, require_backend

    out = Output(as_json)
    sources = [str(name) for name in (collection, source) if name is not None]
    if len(sources) != 1:
        raise ConfigError(
            "give either a collection or an input file to add",
            hint="add --input texts.jsonl, or --collection NAME",
        )
    manifest = read_manifest(folder)
    require_backend(manifest.kind)
    documents = open_documents(sources[0], out, lenient=lenient).documents
    changes = find_changes(folder, documents)
    new = [*changes.added, *changes.updated]
    if new:
        loaded = _index_model(out, folder, manifest, model)
        vectors = loaded.encode_document(
            [document.full_text for document in new],
            document_ids=[document.id for document in new],
            show_progress_bar=not as_json,
        )
        edit_index(folder, documents=new, vectors=vectors)
    counts = {
        "added": len(changes.added),
        "updated": len(changes.updated),
        "unchanged": changes.unchanged,
    }
    _report(out, folder, counts)


def delete_from_index(
    folder: Folder,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of documents.")] = None,
    file: Annotated[
        Path | None, typer.Option("--ids", help="A file with one id per line; - reads stdin.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete documents from an index.

    Example: t1 index delete runs/cwe-index CWE-79 CWE-89
    """
    from t1_jax.files import read_lines
    from t1_jax.retrieval import edit_index, read_manifest, require_backend

    out = Output(as_json)
    if bool(ids) == (file is not None):
        raise ConfigError(
            "give the ids of the documents to delete, or a file of them",
            hint="add the ids after the index, or --ids with a file",
        )
    listed = list(ids or ()) if file is None else [line for _, line in read_lines(file) if line]
    require_backend(read_manifest(folder).kind)
    edit_index(folder, removed=listed)
    _report(out, folder, {"deleted": len(set(listed))})


def diff_index(
    a: Annotated[Path, typer.Argument(help="An index.")],
    b: Annotated[Path, typer.Argument(help="Another index.")],
    as_json: options.AsJson = False,
) -> None:
    """Compare two indexes: settings, documents, embeddings, and what a search finds.

    Example: t1 index diff runs/old-index runs/cwe-index
    """
    from t1_jax.retrieval import diff_indexes

    out = Output(as_json)
    diff = diff_indexes(a, b)
    if diff.settings:
        rows = [(name, *map(str, pair)) for name, pair in diff.settings.items()]
        out.table(("setting", str(a), str(b)), rows)
    for name, ids in (("only in " + str(a), diff.only_a), ("only in " + str(b), diff.only_b)):
        out.print(f"{name}: {counted(len(ids), 'documents')}{_some(ids)}")
    out.print(f"changed: {counted(len(diff.changed), 'documents')}{_some(diff.changed)}")
    out.print(f"same: {counted(diff.same, 'documents')}")
    if diff.lowest_cosine is not None:
        out.print(
            f"their embeddings: cosine {diff.lowest_cosine:.5f} or more, "
            f"{diff.mean_cosine:.5f} on average"
        )
    if diff.overlap_at_10 is not None:
        out.print(f"their nearest documents: {diff.overlap_at_10:.3f} of the top 10 in common")
    if diff.is_empty:
        out.print("no difference")
    out.result(a=a, b=b, **dataclasses.asdict(diff))


_SHOWN = 5


def _some(ids: Any) -> str:
    """The first ids, for people; --json prints all."""
    if not ids:
        return ""
    more = ", ..." if len(ids) > _SHOWN else ""
    return f" ({', '.join(ids[:_SHOWN])}{more})"


def _index_model(out: Output, folder: Path, manifest: "Manifest", name: str | None) -> "T1":
    """The model of an index, or another one that gives the same embeddings.

    Raises:
        IndexMismatchError: it gives other embeddings.
    """
    from t1_jax import retrieval
    from t1_jax.retriever import (
        EQUAL_COSINE,
        document_fingerprint,
        load_model,
        lowest_canary_cosine,
        open_index_model,
    )

    opened = open_index_model(manifest.encoding, name or manifest.encoding["model"])
    opened.check_document_prompt()
    expected = document_fingerprint(opened, manifest.fingerprint.data)
    if expected.prompt != manifest.fingerprint.prompt:
        retrieval.check_fingerprint(folder, manifest, expected)
    loaded = load_model(out, opened)
    if expected != manifest.fingerprint:
        table = retrieval.load_index(folder, manifest.fingerprint, kind="numpy").table
        documents = retrieval.index_documents(folder)
        if lowest_canary_cosine(loaded, documents, table) < EQUAL_COSINE:
            retrieval.check_fingerprint(folder, manifest, expected)
    return loaded


def _report(out: Output, folder: Path, counts: dict[str, int]) -> None:
    """Prints what was done, and what is there now."""
    from t1_jax.retrieval import read_manifest

    manifest = read_manifest(folder)
    done = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    out.print(f"{folder}: {done}; it has {counted(manifest.count, 'documents')}")
    if manifest.kind in ("scann", "faiss"):
        out.print(f"recall@10 {manifest.recall_at_10:.3f} ({manifest.measured['recall_with']})")
    out.result(index=folder, **counts, count=manifest.count)
