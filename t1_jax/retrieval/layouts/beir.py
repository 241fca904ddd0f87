"""BEIR: corpus.jsonl, queries.jsonl, qrels/<split>.tsv."""

import csv
from collections.abc import Sequence
from pathlib import Path

from t1_jax.retrieval.collection import SourceLocation
from t1_jax.retrieval.jsonl import parse_record, parse_relevance_label, read_lines
from t1_jax.retrieval.layouts.layout import (
    Layout,
    Split,
    existing_path,
    plain_name,
    unique_paths,
)
from t1_jax.retrieval.layouts.records import Entry, Exclusion, Label, RawRecords, RecordFile
from t1_jax.retrieval.layouts.text_files import document_file, query_file

NAME = "BEIR"
QRELS_HEADER = ("query-id", "corpus-id", "score")


def find(folder: Path) -> Layout | None:
    """The layout of a folder with `qrels/<split>.tsv`."""
    paths: dict[str, list[Path]] = {}
    for path in (folder / "qrels").glob("*.tsv*"):
        if plain_name(path).endswith(".tsv"):
            paths.setdefault(plain_name(path).removesuffix(".tsv"), []).append(path)
    if not paths:
        return None
    queries = query_file(existing_path(folder, "queries.jsonl"))
    return Layout(
        name=NAME,
        folder=folder,
        corpus=corpus(folder),
        splits={
            name: Split(
                queries=queries,
                qrels=RecordFile(path=path, split=_qrels_lines, parse=_parse_label),
            )
            for name, path in unique_paths(paths).items()
        },
        excluded=excluded_file(folder),
    )


def corpus(folder: Path) -> tuple[RecordFile[Entry], ...]:
    """The file `corpus.jsonl`, which may not exist."""
    return (document_file(existing_path(folder, "corpus.jsonl")),)


def excluded_file(folder: Path) -> RecordFile[Exclusion]:
    """The file `excluded.jsonl` of this package, which may not exist."""
    path = existing_path(folder, "excluded.jsonl")
    return RecordFile(path=path, split=read_lines, parse=_parse_exclusion)


def _parse_exclusion(location: SourceLocation, line: str) -> Exclusion:
    record = parse_record(location, line)
    ids = tuple(record.ids("excluded"))
    return Exclusion(location=location, query_id=record.id("_id"), document_ids=ids)


def _qrels_lines(path: Path) -> RawRecords:
    """The lines after the header."""
    for location, line in read_lines(path):
        if location.line > 1:
            yield location, line
            continue
        row = _split_row(location, line)
        if row != [*QRELS_HEADER]:
            raise location.error(
                f"expected the header {' '.join(QRELS_HEADER)!r}, found {' '.join(row)!r}",
                hint="add the header, separated by tabs: readers of BEIR skip the first line",
            )


def _parse_label(location: SourceLocation, line: str) -> Sequence[Label]:
    query_id, document_id, label = _split_row(location, line)
    return [
        Label(
            location=location,
            query_id=query_id,
            document_id=document_id,
            label=parse_relevance_label(location, label),
        )
    ]


def _split_row(location: SourceLocation, line: str) -> list[str]:
    try:
        row = next(csv.reader([line], delimiter="\t", strict=True), [])
    except csv.Error as error:
        raise location.error(f"malformed tab-separated line: {error}") from error
    if len(row) != len(QRELS_HEADER):
        raise location.error(f"expected 3 fields separated by tabs, found {len(row)}")
    return row


def documents_only(folder: Path) -> Layout | None:
    """The layout of a folder with `corpus.jsonl` and without qrels of any format."""
    (file,) = corpus(folder)
    if not file.path.is_file():
        return None
    return Layout(
        name="documents only",
        folder=folder,
        corpus=(file,),
        splits={},
        excluded=excluded_file(folder),
    )
