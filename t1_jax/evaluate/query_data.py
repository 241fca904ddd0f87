"""All queries of an evaluation as data for the report: what each row retrieved, and thoughts."""

from collections.abc import Callable, Sequence
from typing import Any

from t1_jax.evaluate.config import HEADLINE
from t1_jax.evaluate.examples import title_of
from t1_jax.evaluate.results import Evaluation, Row, ThoughtRecord, ranking
from t1_jax.progress import shorten, visible
from t1_jax.retrieval import Document
from t1_jax.text.repetition import REPETITIVE, repetition

_TEXT_CHARACTERS = 4000
_SNIPPET_CHARACTERS = 160


def query_data(evaluation: Evaluation, *, documents: int, queries: int) -> dict[str, Any]:
    """The data of the table of queries, as JSON values.

    ```
    {"metric": "nDCG@10", "total": 209, "repetitive": 0.25, "own": 0, "other": 1,
     "rows": [{"label": "T1, own thought", "thinks": true}, ...],
     "documents": [["CWE-79", "Cross-site Scripting", "The product does not ..."], ...],
     "queries": [{"id": "q1", "text": "...", "grades": [[0, 2], ...],
                  "rows": [{"value": 0.63, "ranks": [2, ...], "hits": [[0, 0.71], ...],
                            "thoughts": [{"text": "...", "tokens": 12, "end": "emb_token",
                                          "repetition": 0.0}]}, ...],
                  "sentences": [{"text": "...", "cosine": 0.98, "moves": [[0, 3, 1], ...]}]}]}
    ```

    `own` and `other` are the rows that are compared at first. Documents are named by their position
    in `documents`. `grades` has the relevant documents, highest grade first, and `ranks` their
    ranks in the same order, null where one is unknown. A thought is repetitive from the repetition
    `repetitive` on.

    Args:
        evaluation: the results.
        documents: length of the rankings.
        queries: at most so many queries, evenly over the collection.
    """
    numbers: dict[str, int] = {}

    def number(document_id: str) -> int:
        return numbers.setdefault(document_id, len(numbers))

    chosen = _spread(len(evaluation.query_ids), queries)
    items = [_query(evaluation, position, documents, number) for position in chosen]
    known = evaluation.collection.documents_by_id
    own, without = evaluation.control("own"), evaluation.control("no-think")
    first = evaluation.rows.index(own) if own is not None else 0
    second = evaluation.rows.index(without) if without is not None else 0
    return {
        "metric": HEADLINE[0],
        "total": len(evaluation.query_ids),
        "repetitive": REPETITIVE,
        "own": first,
        "other": second,
        "rows": [
            {"label": row.label, "thinks": any(map(_is_sampled, row.thoughts.values()))}
            for row in evaluation.rows
        ],
        "documents": [_document(known[name]) for name in numbers],
        "queries": items,
    }


def is_truncated(thought: ThoughtRecord) -> bool:
    """Whether a thought was cut off at its maximum length."""
    return thought.finish_reason == "length"


def is_repetitive(thought: ThoughtRecord) -> bool:
    """Whether a thought repeats itself."""
    return repetition(thought.text) >= REPETITIVE


def is_empty(thought: ThoughtRecord) -> bool:
    """Whether a thought has no word."""
    return not thought.text.strip()


def _query(
    evaluation: Evaluation, position: int, documents: int, number: Callable[[str], int]
) -> dict[str, Any]:
    query = evaluation.collection.queries[position]
    grades = evaluation.collection.qrels.get(query.id, {})
    relevant = sorted((name for name in grades if grades[name] > 0), key=lambda n: -grades[n])
    rows = [_row(row, query.id, position, relevant, documents, number) for row in evaluation.rows]
    effects = evaluation.sentence_effects.get(query.id, ())
    sentences = [
        {
            "text": visible(effect.text),
            "cosine": round(effect.similarity, 4),
            "moves": [[number(m.document_id), m.before, m.after] for m in effect.moves],
        }
        for effect in effects
    ]
    return {
        "id": visible(query.id),
        "text": visible(query.text[:_TEXT_CHARACTERS]),
        "grades": [[number(name), grades[name]] for name in relevant],
        "rows": rows,
        "sentences": sentences,
    }


def _row(
    row: Row,
    query_id: str,
    position: int,
    relevant: Sequence[str],
    documents: int,
    number: Callable[[str], int],
) -> dict[str, Any]:
    scores, ranks = row.run.get(query_id, {}), row.relevant_ranks.get(query_id, {})
    return {
        "value": round(float(row.values[HEADLINE[0]][position]), 4),
        "ranks": [ranks.get(name) for name in relevant],
        "hits": [
            [number(name), round(float(scores[name]), 4)] for name in ranking(scores)[:documents]
        ],
        "thoughts": [_thought(thought) for thought in row.thoughts.get(query_id, ())],
    }


def _thought(thought: ThoughtRecord) -> dict[str, Any]:
    return {
        "text": visible(thought.text[:_TEXT_CHARACTERS]),
        "tokens": thought.tokens,
        "end": thought.finish_reason,
        "repetition": round(repetition(thought.text), 3),
    }


def _document(document: Document) -> list[str]:
    title = title_of(document)
    text = document.text if document.title else document.text.strip().partition("\n")[2]
    return [
        visible(document.id), visible(title), shorten(visible(text), _SNIPPET_CHARACTERS)
    ]  # fmt: skip


def _is_sampled(thoughts: Sequence[ThoughtRecord]) -> bool:
    return any(thought.finish_reason != "given" for thought in thoughts)


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of the first `count` numbers, evenly spread."""
    if count <= most:
        return list(range(count))
    return [number * count // most for number in range(most)]
