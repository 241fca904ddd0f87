"""Single queries for the report: which ones, and what each retrieves with and without thought."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from t1_jax.evaluate.config import HEADLINE
from t1_jax.evaluate.results import Evaluation, Row, ThoughtRecord, ranking
from t1_jax.notebook import card
from t1_jax.progress import shorten
from t1_jax.retrieval import Collection, Document

Kind = Literal["helped", "hurt", "random"]

_SNIPPET_CHARACTERS = 240


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One document of a ranking; `rank` counts from 1, `grade` is None if it is unjudged."""

    rank: int
    score: float
    document_id: str
    title: str
    snippet: str
    grade: int | None

    def _repr_html_(self) -> str:
        facts = f"{self.document_id}, score {self.score:.3f}"
        return card(f"{self.rank}. {self.title}", self.snippet, facts)


@dataclass(frozen=True, kw_only=True)
class RelevantDocument:
    """A relevant document and its ranks among all documents, with and without thought.

    A rank is None if it is unknown or was not evaluated.
    """

    document_id: str
    title: str
    grade: int
    rank: int | None
    rank_without: int | None

    @property
    def gain(self) -> int:
        """Ranks gained by thinking; negative if it lost some, 0 if a rank is unknown."""
        if self.rank is None or self.rank_without is None:
            return 0
        return self.rank_without - self.rank


@dataclass(frozen=True, kw_only=True)
class QueryExample:
    """One query of the report, with nDCG@10 and top documents with and without thought.

    `kind` says why it was chosen; `relevant` holds all relevant documents, highest grade first.
    What was not evaluated is None or empty.
    """

    kind: Kind
    query_id: str
    text: str
    thoughts: tuple[ThoughtRecord, ...]
    value: float
    value_without: float | None
    hits: tuple[Hit, ...]
    hits_without: tuple[Hit, ...]
    relevant: tuple[RelevantDocument, ...]


def make_examples(
    evaluation: Evaluation, *, helped: int, hurt: int, random: int, documents: int, seed: int
) -> tuple[QueryExample, ...]:
    """Queries for the report, from the first system's own thought; none without that control.

    The other arguments are those of `ReportOptions`.
    """
    own, without = evaluation.control("own"), evaluation.control("no-think")
    if own is None:
        return ()
    chosen = choose_queries(evaluation, helped=helped, hurt=hurt, random=random, seed=seed)
    return tuple(
        _example(evaluation, query_id, kind, own, without, documents) for query_id, kind in chosen
    )


def choose_queries(
    evaluation: Evaluation, *, helped: int, hurt: int, random: int, seed: int
) -> list[tuple[str, Kind]]:
    """Which queries the report shows, and why; deterministic given the scores.

    The gain is nDCG@10 with the own thought minus without. Ties are broken by the gain in
    reciprocal rank. Without the control "no-think" all queries are random.
    """
    own, without = evaluation.control("own"), evaluation.control("no-think")
    if own is None:
        return []
    gains = _gains(evaluation, own, without) if without else dict.fromkeys(evaluation.query_ids)
    gained = sorted(
        (query_id for query_id, gain in gains.items() if gain and gain > (0.0, 0.0)),
        key=lambda query_id: (gains[query_id], _draw(seed, query_id)),
        reverse=True,
    )[:helped]
    lost = sorted(
        (query_id for query_id, gain in gains.items() if gain and gain < (0.0, 0.0)),
        key=lambda query_id: (gains[query_id], _draw(seed, query_id)),
    )[:hurt]
    rest = sorted(gains.keys() - set(gained) - set(lost), key=lambda name: _draw(seed, name))
    kinds: dict[str, Kind] = dict.fromkeys(gained, "helped")
    kinds |= dict.fromkeys(lost, "hurt")
    kinds |= dict.fromkeys(rest[:random], "random")
    return list(kinds.items())


def title_of(document: Document) -> str:
    """The document's title, or the first line of its text."""
    return document.full_text.strip().splitlines()[0]


def _gains(evaluation: Evaluation, own: Row, without: Row) -> dict[str, tuple[float, float]]:
    gains = own.values[HEADLINE[0]] - without.values[HEADLINE[0]]
    return {
        query_id: (
            float(gain),
            _reciprocal_rank(own, query_id) - _reciprocal_rank(without, query_id),
        )
        for query_id, gain in zip(evaluation.query_ids, gains, strict=True)
    }


def _reciprocal_rank(row: Row, query_id: str) -> float:
    return max((1 / rank for rank in row.relevant_ranks[query_id].values()), default=0.0)


def _draw(seed: int, query_id: str) -> str:
    return hashlib.sha256(f"{seed}\n{query_id}".encode()).hexdigest()


def _example(
    evaluation: Evaluation, query_id: str, kind: Kind, own: Row, without: Row | None, documents: int
) -> QueryExample:
    collection = evaluation.collection
    row = evaluation.query_ids.index(query_id)
    metric = HEADLINE[0]
    return QueryExample(
        kind=kind,
        query_id=query_id,
        text=collection.queries[row].text,
        thoughts=own.thoughts[query_id],
        value=float(own.values[metric][row]),
        value_without=float(without.values[metric][row]) if without else None,
        hits=_hits(collection, own, query_id, documents),
        hits_without=_hits(collection, without, query_id, documents) if without else (),
        relevant=_relevant_documents(collection, query_id, own, without),
    )


def _hits(collection: Collection, row: Row, query_id: str, documents: int) -> tuple[Hit, ...]:
    scores, grades = row.run.get(query_id, {}), collection.qrels.get(query_id, {})
    return tuple(
        make_hit(
            document_id,
            collection.documents_by_id[document_id],
            rank=rank,
            score=scores[document_id],
            grade=grades.get(document_id),
        )
        for rank, document_id in enumerate(ranking(scores)[:documents], 1)
    )


def make_hit(
    document_id: str,
    document: Document | None,
    *,
    rank: int,
    score: float,
    grade: int | None = None,
) -> Hit:
    """A hit with the title and the start of a document; without a text, its title is the id."""
    if document is None:
        title, text = document_id, ""
    else:
        title = title_of(document)
        text = document.text if document.title else document.text.strip().partition("\n")[2]
    return Hit(
        rank=rank,
        score=score,
        document_id=document_id,
        title=title,
        snippet=shorten(text, _SNIPPET_CHARACTERS),
        grade=grade,
    )


def _relevant_documents(
    collection: Collection, query_id: str, own: Row, without: Row | None
) -> tuple[RelevantDocument, ...]:
    grades = collection.qrels.get(query_id, {})
    relevant = sorted(
        (name for name, grade in grades.items() if grade > 0),
        key=lambda name: (-grades[name], name),
    )
    return tuple(
        RelevantDocument(
            document_id=name,
            title=title_of(collection.documents_by_id[name]),
            grade=grades[name],
            rank=own.relevant_ranks[query_id].get(name),
            rank_without=without.relevant_ranks[query_id].get(name) if without else None,
        )
        for name in relevant
    )
