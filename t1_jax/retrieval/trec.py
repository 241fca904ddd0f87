"""Runs and judgments in TREC form, and the type of a run."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import SupportsFloat, TypeAlias

import numpy as np

from t1_jax.errors import DataError
from t1_jax.files import write_atomically
from t1_jax.retrieval.jsonl import SourceLocation, integer_grade, read_lines
from t1_jax.retrieval.ranking import rank_documents

_LARGEST = float(np.finfo(np.float32).max)

Run: TypeAlias = dict[str, dict[str, float]]
"""Query id -> document id -> score; the order is that of `rank_documents`, not of insertion."""


def trec_ids(ids: Iterable[str]) -> dict[str, str]:
    """Each id as TREC files can hold it: every whitespace character becomes "_", as pyserini does.

    Raises:
        DataError: an id is empty, or two become the same.
    """
    written: dict[str, str] = {}
    owners: dict[str, str] = {}
    for original in ids:
        mapped = re.sub(r"\s", "_", original)
        if not mapped:
            raise DataError("a TREC file cannot hold an empty id")
        if owners.setdefault(mapped, original) != original:
            raise DataError(
                f"ids {owners[mapped]!r} and {original!r} both become {mapped!r} in a TREC file",
                hint="rename one of them",
            )
        written[original] = mapped
    return written


def write_run(
    run: Mapping[str, Mapping[str, SupportsFloat]], path: Path, *, tag: str = "t1"
) -> None:
    """Writes `qid Q0 docid rank score tag` lines, ranked from 1; a query without results has none.

    Raises:
        DataError: ids that collide (see `trec_ids`), a tag with whitespace, a score that is not
            finite.
    """
    if not tag or re.search(r"\s", tag):
        raise DataError(f"{tag!r} cannot be the tag of a run: it is empty or has whitespace")
    query_ids, document_ids = _id_maps(run)
    lines = []
    for query_id, scores in run.items():
        ids = list(scores)
        order = rank_documents(list(scores.values()), ids, len(ids))
        for rank, document_id in enumerate((ids[position] for position in order.tolist()), 1):
            lines.append(
                f"{query_ids[query_id]} Q0 {document_ids[document_id]} {rank} "
                f"{float(scores[document_id])!r} {tag}\n"
            )
    write_atomically(Path(path), "".join(lines))


def read_run(path: Path) -> Run:
    """Reads a run; the rank column is not used, as in trec_eval.

    Raises:
        DataError: with file and line, a line of other than six fields, a score that is not a finite
            number in float32, in which trec_eval compares, or a document listed twice for one
            query.
    """
    run: Run = {}
    for place, (query_id, _, document_id, _, score, _) in _read_rows(Path(path), 6):
        scores = run.setdefault(query_id, {})
        if document_id in scores:
            raise place.fault(f"query {query_id!r} lists document {document_id!r} twice")
        scores[document_id] = _finite(place, score)
    return run


def write_qrels(qrels: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Writes `qid 0 docid grade` lines.

    Raises:
        DataError: ids that collide, see `trec_ids`.
    """
    query_ids, document_ids = _id_maps(qrels)
    lines = (
        f"{query_ids[query_id]} 0 {document_ids[document_id]} {int(grade)}\n"
        for query_id, grades in qrels.items()
        for document_id, grade in grades.items()
    )
    write_atomically(Path(path), "".join(lines))


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Reads judgments.

    Raises:
        DataError: with file and line, a line of other than four fields, a grade that is not an
            integer, or a document judged twice for one query.
    """
    qrels: dict[str, dict[str, int]] = {}
    for place, (query_id, _, document_id, grade) in _read_rows(Path(path), 4):
        grades = qrels.setdefault(query_id, {})
        if document_id in grades:
            raise place.fault(f"query {query_id!r} judges document {document_id!r} twice")
        grades[document_id] = integer_grade(place, grade)
    return qrels


def _id_maps(table: Mapping[str, Mapping[str, object]]) -> tuple[dict[str, str], dict[str, str]]:
    documents = dict.fromkeys(key for row in table.values() for key in row)
    return trec_ids(table), trec_ids(documents)


def _read_rows(path: Path, width: int) -> Iterator[tuple[SourceLocation, list[str]]]:
    for place, line in read_lines(path):
        # Not at every space of Unicode: trec_eval separates fields by those of ASCII.
        fields = re.findall(r"[^ \t\r\f\v]+", line)
        if len(fields) != width:
            raise place.fault(
                f"expected {width} fields separated by whitespace, found {len(fields)}",
                hint='write an id that has spaces with "_" in their place, as pyserini does',
            )
        yield place, fields


def _finite(place: SourceLocation, text: str) -> float:
    try:
        value = float(text if text.isascii() and "_" not in text else "")
    except ValueError as error:
        raise place.fault(f"the score must be a number, found {text!r}") from error
    if not abs(value) <= _LARGEST:
        raise place.fault(f"the score must be finite in float32, found {text!r}")
    return value
