"""Tevatron: corpus.jsonl, and <split>.jsonl with queries and their positive passages.

Only JSONL is read. Tevatron's embeddings are pickle files, which run code when they are opened.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.retrieval.collection import SourceLocation
from t1_jax.retrieval.jsonl import Record, parse_record, read_lines
from t1_jax.retrieval.layouts.beir import corpus, excluded_file
from t1_jax.retrieval.layouts.layout import Layout, Split, plain_name, unique_paths
from t1_jax.retrieval.layouts.records import Label, RecordFile
from t1_jax.retrieval.layouts.text_files import query_file

NAME = "Tevatron"
_PASSAGES, _IDS = "positive_passages", "positive_document_ids"
_OTHER_FILES = ("corpus.jsonl", "queries.jsonl", "excluded.jsonl")


def find(folder: Path) -> Layout | None:
    """The layout of a folder with `corpus.jsonl` and files whose lines have `query_id`.

    Every query has the ids of its positives, which become labels of 1, in `positive_passages` or
    `positive_document_ids`. Negatives are not labels.
    """
    files = corpus(folder)
    if not files[0].path.is_file():
        return None
    paths: dict[str, list[Path]] = {}
    for path in folder.glob("*.jsonl*"):
        name = plain_name(path)
        if name.endswith(".jsonl") and name not in _OTHER_FILES and _has_positives(path):
            paths.setdefault(name.removesuffix(".jsonl"), []).append(path)
    if not paths:
        return None
    return Layout(
        name=NAME,
        folder=folder,
        corpus=files,
        splits={
            name: Split(
                queries=query_file(path),
                qrels=RecordFile(path=path, split=read_lines, parse=_parse_labels),
            )
            for name, path in unique_paths(paths).items()
        },
        excluded=excluded_file(folder),
    )


def _has_positives(path: Path) -> bool:
    """Whether the first line is a query with positives."""
    with suppress(DataError):
        for location, line in read_lines(path):
            fields = parse_record(location, line).fields
            return "query_id" in fields and (_PASSAGES in fields or _IDS in fields)
    return False


def _parse_labels(location: SourceLocation, line: str) -> Sequence[Label]:
    record = parse_record(location, line)
    query_id = record.id("query_id")
    return [
        Label(location=location, query_id=query_id, document_id=name, label=1)
        for name in dict.fromkeys(_positives(record))
    ]


def _positives(record: Record) -> Sequence[str]:
    if _IDS in record.fields:
        return record.ids(_IDS)
    return [passage.id("docid") for passage in record.objects(_PASSAGES)]
