"""FlagEmbedding: corpus.jsonl, <split>_queries.jsonl, <split>_qrels.jsonl."""

from collections.abc import Sequence
from pathlib import Path

from t1_jax.retrieval.collection import SourceLocation
from t1_jax.retrieval.jsonl import parse_record, read_lines
from t1_jax.retrieval.layouts.beir import corpus, excluded_file
from t1_jax.retrieval.layouts.layout import (
    Layout,
    Split,
    existing_path,
    plain_name,
    unique_paths,
)
from t1_jax.retrieval.layouts.records import Label, RecordFile
from t1_jax.retrieval.layouts.text_files import query_file

NAME = "FlagEmbedding"
_QRELS = "_qrels.jsonl"


def find(folder: Path) -> Layout | None:
    """The layout of a folder with `<split>_qrels.jsonl`."""
    paths: dict[str, list[Path]] = {}
    for path in folder.glob(f"*{_QRELS}*"):
        if plain_name(path).endswith(_QRELS):
            paths.setdefault(plain_name(path).removesuffix(_QRELS), []).append(path)
    if not paths:
        return None
    return Layout(
        name=NAME,
        folder=folder,
        corpus=corpus(folder),
        splits={
            name: Split(
                queries=query_file(existing_path(folder, f"{name}_queries.jsonl")),
                qrels=RecordFile(path=path, split=read_lines, parse=_parse_label),
            )
            for name, path in unique_paths(paths).items()
        },
        excluded=excluded_file(folder),
    )


def _parse_label(location: SourceLocation, line: str) -> Sequence[Label]:
    record = parse_record(location, line)
    return [
        Label(
            location=location,
            query_id=record.id("qid"),
            document_id=record.id("docid"),
            label=record.relevance_label("relevance"),
        )
    ]
