"""TREC: topics, qrels of four columns, and optionally documents.

The names are those of TREC's, MS MARCO's and pyserini's files: `topics.txt` and `qrels.txt`,
`queries.dev.tsv`, `qrels.dev.tsv` and `collection.tsv`, `topics.bright-biology.tsv.gz`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.retrieval.collection import SourceLocation, id_error
from t1_jax.retrieval.jsonl import parse_relevance_label, read_lines
from t1_jax.retrieval.layouts.beir import excluded_file
from t1_jax.retrieval.layouts.layout import Layout, Split, plain_name, unique_paths
from t1_jax.retrieval.layouts.records import Entry, Label, RecordFile
from t1_jax.retrieval.layouts.text_files import MARKUP_SUFFIXES, document_file, query_file

NAME = "TREC"
_QRELS = re.compile(r"(?<![a-z])qrels?(?![a-z])", re.IGNORECASE)
_TOPICS = re.compile(r"(?<![a-z])(?:topics?|queries)(?![a-z])", re.IGNORECASE)
_NAME = re.compile(f"{_QRELS.pattern}|{_TOPICS.pattern}", re.IGNORECASE)
_CORPUS = ("corpus", "collection")
_SUFFIXES = (".jsonl", ".tsv", *MARKUP_SUFFIXES)
_STANDARD_SPLITS = ("train", "validation", "valid", "dev", "test")


def find(folder: Path) -> Layout | None:
    """The layout of a folder with a file of topics or queries, and one of qrels.

    Raises:
        DataError: it is not clear which topics belong to which qrels, or which file is the corpus.
    """
    names = sorted(path for path in folder.iterdir() if _NAME.search(path.name))
    files = [path for path in names if path.is_file()]
    qrels = _by_split(files, _QRELS)
    topics = _by_split([path for path in files if not _QRELS.search(path.name)], _TOPICS)
    if not qrels or not topics:
        return None
    if len(qrels) == 1 and next(iter(qrels)) not in _STANDARD_SPLITS:
        qrels = {"test": next(iter(qrels.values()))}
    return Layout(
        name=NAME,
        folder=folder,
        corpus=_corpus(folder),
        splits={
            name: Split(
                queries=query_file(_topics_of(name, topics)),
                qrels=RecordFile(path=path, split=read_lines, parse=_parse_label),
            )
            for name, path in qrels.items()
        },
        excluded=excluded_file(folder),
        writes_underscores=True,
    )


def _by_split(files: Sequence[Path], word: re.Pattern[str]) -> dict[str, Path]:
    """Split -> its file, among the files whose name has the word; without further words, `test`."""
    paths: dict[str, list[Path]] = {}
    for path in files:
        if word.search(path.name) and not plain_name(path).endswith(("_qrels.jsonl", ".pkl")):
            name = plain_name(path)
            for suffix in (*_SUFFIXES, ".qrels", ".prels"):
                name = name.removesuffix(suffix)
            name = re.sub(r"[._-]{2,}", "-", word.sub("", name)).strip("._-")
            paths.setdefault(name or "test", []).append(path)
    return unique_paths(paths)


def _topics_of(split: str, topics: dict[str, Path]) -> Path:
    if split in topics:
        return topics[split]
    if len(topics) == 1:
        return next(iter(topics.values()))
    names = ", ".join(path.name for path in topics.values())
    raise DataError(
        f"the topics of the split {split!r} are not clear: there are {names}",
        hint=f"name them like the qrels, as in topics.{split}.tsv",
    )


def _corpus(folder: Path) -> tuple[RecordFile[Entry], ...]:
    """A file `corpus` or `collection`, or all files in a folder of that name; may be none."""
    found = [
        path
        for path in sorted(folder.iterdir())
        if (path.name in _CORPUS and path.is_dir())
        or (Path(plain_name(path)).stem in _CORPUS and plain_name(path).endswith(_SUFFIXES))
    ]
    if len(found) > 1:
        names = f"{found[0].name} and {found[1].name}"
        raise DataError(f"{folder} has two corpora: {names}", hint="delete one of them")
    files = [
        file
        for path in found
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
        if plain_name(file).endswith(_SUFFIXES)
    ]
    return tuple(document_file(path) for path in files)


def _parse_label(location: SourceLocation, line: str) -> Sequence[Label]:
    # trec_eval splits fields at ASCII white space only.
    fields = re.findall(r"[^ \t\r\f\v]+", line)
    if len(fields) != 4:
        raise location.error(
            f"expected 4 fields separated by white space (query 0 document grade), found "
            f"{len(fields)}"
        )
    query_id, _, document_id, label = fields
    for name in (query_id, document_id):
        if problem := id_error(name):
            raise location.error(problem)
    return [
        Label(
            location=location,
            query_id=query_id,
            document_id=document_id,
            label=parse_relevance_label(location, label),
        )
    ]
