"""Runs in files of any format: TREC, BRIGHT's score.json, Tevatron's rankings."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from t1_jax.errors import DataError
from t1_jax.retrieval.collection import SourceLocation, id_error
from t1_jax.retrieval.jsonl import read_lines
from t1_jax.retrieval.trec import LARGEST_SCORE, Run, add_score, read_trec_run

_JSON_OBJECT = re.compile(r'\s*\{\s*("|\}|$)')
"""The first line of a file that holds a JSON object."""

_RANKS_HINT = (
    "give a TREC run, or replace each rank by a score that falls with it, such as 1 divided by the "
    "rank"
)


def read_run(path: Path) -> Run:
    """Reads a run: query id -> document id -> score.

    The content decides on the format: a JSON object is BRIGHT's `score.json`, `{query: {document:
    score}}`; lines of three fields separated by tabs are a ranking of Tevatron, query, document and
    score; anything else is a TREC run, see `read_trec_run`.

    Raises:
        DataError: the file is malformed, a score is not finite in float32 (the precision of
            trec_eval), a document is listed twice for a query, or the third of three fields
            is the rank, as in MS MARCO's runs; names the line, or query and document.
    """
    path = Path(path)
    first = next((line for _, line in read_lines(path) if line.strip()), "")
    is_trec = first.split()[1:2] == ["Q0"]  # of a query whose id begins like JSON, perhaps
    if _JSON_OBJECT.match(first) and not is_trec:
        return _read_json(path)
    if first.count("\t") == 2 and len(first.split()) != 6:
        return _read_ranking(path)
    return read_trec_run(path)


def _read_json(path: Path) -> Run:
    try:
        scores = json.loads(
            "\n".join(line for _, line in read_lines(path)), object_pairs_hook=_Pairs
        )
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: malformed JSON: {error}") from error
    run: Run = {}
    for query_id, documents in _unique(path, "query", scores):
        if not isinstance(documents, _Pairs):
            raise DataError(
                f"{path}: query {query_id!r} must have an object of documents and scores, found "
                f"{type(documents).__name__}",
                hint="a score.json has the form {query: {document: score}}",
            )
        run[query_id] = {
            name: _json_score(path, query_id, name, score)
            for name, score in _unique(path, f"query {query_id!r}: document", documents)
        }
    return run


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object, with repeated names."""


def _unique(path: Path, kind: str, pairs: _Pairs) -> Iterator[tuple[str, object]]:
    seen: set[str] = set()
    for name, value in pairs:
        if problem := id_error(name):
            raise DataError(f"{path}: {kind} {name!r}: {problem}")
        if name in seen:
            raise DataError(f"{path}: {kind} {name!r} occurs twice")
        seen.add(name)
        yield name, value


def _json_score(path: Path, query_id: str, document_id: str, score: object) -> float:
    if type(score) in (int, float) and abs(cast(float, score)) <= LARGEST_SCORE:
        return float(cast(float, score))
    raise DataError(
        f"{path}: query {query_id!r}: document {document_id!r} has the score {score!r}, which is "
        "not a number that is finite in float32"
    )


def _read_ranking(path: Path) -> Run:
    run: Run = {}
    for location, line in read_lines(path):
        fields = line.split("\t")
        if len(fields) != 3:
            raise location.error(
                f"expected query, document and score separated by tabs, found {len(fields)} fields"
            )
        query_id, document_id, score = fields
        for name in (query_id, document_id):
            if problem := id_error(name):
                raise location.error(problem)
        add_score(run, location, query_id, document_id, score)
    _reject_ranks(path, run)
    return run


def _reject_ranks(path: Path, run: Run) -> None:
    """Raises if the scores of every query are 1, 2, 3, ...: the file lists ranks."""
    counts = [list(scores.values()) == [*range(1, len(scores) + 1)] for scores in run.values()]
    if all(counts) and any(len(scores) > 1 for scores in run.values()):
        location = SourceLocation(path=path, line=1)
        raise location.error(
            "the third field counts from 1 for every query, so it is the rank, not a score",
            hint=_RANKS_HINT,
        )
