"""Runs in TREC format."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import SupportsFloat, TypeAlias

import numpy as np

from t1_jax.errors import DataError
from t1_jax.files import write_atomically
from t1_jax.retrieval.collection import SourceLocation
from t1_jax.retrieval.jsonl import read_lines
from t1_jax.retrieval.ranking import rank_documents

LARGEST_SCORE = float(np.finfo(np.float32).max)
"""Scores of runs must be finite in float32, the precision of trec_eval."""

Run: TypeAlias = dict[str, dict[str, float]]
"""Query id -> document id -> score; `rank_documents` defines the ranking."""


def trec_ids(ids: Iterable[str]) -> dict[str, str]:
    """Id -> id in TREC files: every whitespace character becomes "_", as in pyserini.

    Raises:
        DataError: an id is empty, or two ids become equal.
    """
    trec_id: dict[str, str] = {}
    original_id: dict[str, str] = {}
    for original in ids:
        mapped = re.sub(r"\s", "_", original)
        if not mapped:
            raise DataError("an id in a TREC file must not be empty")
        if original_id.setdefault(mapped, original) != original:
            raise DataError(
                f"ids {original_id[mapped]!r} and {original!r} both become {mapped!r} in a TREC "
                "file",
                hint="rename one of them",
            )
        trec_id[original] = mapped
    return trec_id


def trec_names(ids: Iterable[str]) -> dict[str, str]:
    """Id in TREC files -> id, the inverse of `trec_ids`; raises as it does."""
    return {written: original for original, written in trec_ids(ids).items()}


def write_run(
    run: Mapping[str, Mapping[str, SupportsFloat]], path: Path, *, tag: str = "t1"
) -> None:
    """Writes lines of `qid Q0 docid rank score tag`; ranks start at 1.

    A query without results gives no line.

    Raises:
        DataError: two ids become equal (see `trec_ids`), the tag has white space, or a score is
            not finite.
    """
    if not tag or re.search(r"\s", tag):
        raise DataError(f"the tag of a run must not be empty or contain white space, got {tag!r}")
    query_ids = trec_ids(run)
    document_ids = trec_ids(dict.fromkeys(key for row in run.values() for key in row))
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


def read_trec_run(path: Path) -> Run:
    """Reads a run in TREC format; the rank column is ignored, as in trec_eval.

    Raises:
        DataError: a line does not have six fields, a score is not finite in float32 (the precision
            of trec_eval), or a document is listed twice for a query; names file and line.
    """
    run: Run = {}
    for location, line in read_lines(Path(path)):
        # trec_eval splits fields at ASCII white space only.
        fields = re.findall(r"[^ \t\r\f\v]+", line)
        if len(fields) != 6:
            raise location.error(
                f"expected 6 fields separated by white space, found {len(fields)}",
                hint='write an id that has spaces with "_" in their location, as pyserini does',
            )
        query_id, _, document_id, _, score, _ = fields
        add_score(run, location, query_id, document_id, score)
    return run


def add_score(
    run: Run, location: SourceLocation, query_id: str, document_id: str, score: str
) -> None:
    """Adds a line of a run.

    Raises:
        DataError: the query lists the document already, or the score is not a number that is finite
            in float32.
    """
    scores = run.setdefault(query_id, {})
    if document_id in scores:
        raise location.error(f"query {query_id!r} lists document {document_id!r} twice")
    scores[document_id] = _finite(location, score)


def _finite(location: SourceLocation, text: str) -> float:
    try:
        value = float(text if text.isascii() and "_" not in text else "")
    except ValueError as error:
        raise location.error(f"the score must be a number, found {text!r}") from error
    if not abs(value) <= LARGEST_SCORE:
        raise location.error(f"the score must be finite in float32, found {text!r}")
    return value
