"""What the report shows of single queries: which ones, and what each found in both ways."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from t1_jax.evaluate.config import HEADLINE
from t1_jax.evaluate.results import Evaluation, Row, ThoughtRecord, ranking
from t1_jax.retrieval import Collection, Document

Kind = Literal["helped", "hurt", "random"]

_SNIPPET_CHARACTERS = 240


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One document of a ranking.

    Attributes:
        rank: from 1.
        score: the retriever's.
        document_id: its id.
        title: its title, or its first line.
        snippet: how its text begins.
        grade: as judged for this query; None where nobody judged it.
    """

    rank: int
    score: float
    document_id: str
    title: str
    snippet: str
    grade: int | None


@dataclass(frozen=True, kw_only=True)
class JudgedDocument:
    """A relevant document and where it stands.

    Attributes:
        document_id: its id.
        title: its title, or its first line.
        grade: as judged, above 0.
        rank: with thought, among all documents.
        rank_without: without thought; None where that was not evaluated.
    """

    document_id: str
    title: str
    grade: int
    rank: int | None
    rank_without: int | None

    @property
    def gain(self) -> int:
        """Places won by thinking; negative where it lost some, 0 where either is unknown."""
        if self.rank is None or self.rank_without is None:
            return 0
        return self.rank_without - self.rank


@dataclass(frozen=True, kw_only=True)
class Card:
    """One query of the report.

    Attributes:
        kind: why it was chosen.
        query_id: its id.
        text: of the query.
        thoughts: exactly as written.
        value: nDCG@10 with thought.
        value_without: nDCG@10 without; None where that was not evaluated.
        hits: best documents with thought.
        hits_without: best documents without; empty where that was not evaluated.
        judged: every relevant document, best grade first.
    """

    kind: Kind
    query_id: str
    text: str
    thoughts: tuple[ThoughtRecord, ...]
    value: float
    value_without: float | None
    hits: tuple[Hit, ...]
    hits_without: tuple[Hit, ...]
    judged: tuple[JudgedDocument, ...]


def make_cards(
    evaluation: Evaluation, *, helped: int, hurt: int, random: int, documents: int, seed: int
) -> tuple[Card, ...]:
    """Cards of the first system's own thought, those it helped most first; none if it has no row.

    Args:
        evaluation: of one collection.
        helped: most cards of queries that the thought helped.
        hurt: most cards of queries that it hurt.
        random: cards drawn from the rest.
        documents: length of the lists.
        seed: of the draw.
    """
    own, without = evaluation.control("own"), evaluation.control("no-think")
    if own is None:
        return ()
    chosen = choose_queries(evaluation, helped=helped, hurt=hurt, random=random, seed=seed)
    return tuple(
        _card(evaluation, query_id, kind, own, without, documents) for query_id, kind in chosen
    )


def choose_queries(
    evaluation: Evaluation, *, helped: int, hurt: int, random: int, seed: int
) -> list[tuple[str, Kind]]:
    """Which queries the report shows, and why; the same ones whenever the numbers are the same.

    Help is measured by nDCG@10 with the own thought minus without; of equal ones, by the gain in
    the reciprocal rank of the best placed relevant document. Where there is no row without thought,
    all cards are random.
    """
    own, without = evaluation.control("own"), evaluation.control("no-think")
    if own is None:
        return []
    helps = _helps(evaluation, own, without) if without else dict.fromkeys(evaluation.query_ids)
    gained = sorted(
        (query_id for query_id, gain in helps.items() if gain and gain > (0.0, 0.0)),
        key=lambda query_id: (helps[query_id], _draw(seed, query_id)),
        reverse=True,
    )[:helped]
    lost = sorted(
        (query_id for query_id, gain in helps.items() if gain and gain < (0.0, 0.0)),
        key=lambda query_id: (helps[query_id], _draw(seed, query_id)),
    )[:hurt]
    rest = sorted(helps.keys() - set(gained) - set(lost), key=lambda name: _draw(seed, name))
    kinds: dict[str, Kind] = dict.fromkeys(gained, "helped")
    kinds |= dict.fromkeys(lost, "hurt")
    kinds |= dict.fromkeys(rest[:random], "random")
    return list(kinds.items())


def title_of(document: Document) -> str:
    """The document's title, or the first line of its text."""
    return document.full_text.strip().splitlines()[0]


def _helps(evaluation: Evaluation, own: Row, without: Row) -> dict[str, tuple[float, float]]:
    gains = own.values[HEADLINE[0]] - without.values[HEADLINE[0]]
    return {
        query_id: (
            float(gain),
            _reciprocal_rank(own, query_id) - _reciprocal_rank(without, query_id),
        )
        for query_id, gain in zip(evaluation.query_ids, gains, strict=True)
    }


def _reciprocal_rank(row: Row, query_id: str) -> float:
    return max((1 / rank for rank in row.judged_ranks[query_id].values()), default=0.0)


def _draw(seed: int, query_id: str) -> str:
    return hashlib.sha256(f"{seed}\n{query_id}".encode()).hexdigest()


def _card(
    evaluation: Evaluation, query_id: str, kind: Kind, own: Row, without: Row | None, documents: int
) -> Card:
    collection = evaluation.collection
    place = evaluation.query_ids.index(query_id)
    measure = HEADLINE[0]
    return Card(
        kind=kind,
        query_id=query_id,
        text=collection.queries[place].text,
        thoughts=own.thoughts[query_id],
        value=float(own.values[measure][place]),
        value_without=float(without.values[measure][place]) if without else None,
        hits=_hits(collection, own, query_id, documents),
        hits_without=_hits(collection, without, query_id, documents) if without else (),
        judged=_judged(collection, query_id, own, without),
    )


def _hits(collection: Collection, row: Row, query_id: str, documents: int) -> tuple[Hit, ...]:
    scores = row.run.get(query_id, {})
    return tuple(
        _hit(collection, query_id, document_id, rank, scores[document_id])
        for rank, document_id in enumerate(ranking(scores)[:documents], 1)
    )


def _hit(collection: Collection, query_id: str, document_id: str, rank: int, score: float) -> Hit:
    document = collection.documents_by_id[document_id]
    text = document.text if document.title else document.text.strip().partition("\n")[2]
    words = " ".join(text.split())
    cut = len(words) > _SNIPPET_CHARACTERS
    return Hit(
        rank=rank,
        score=score,
        document_id=document_id,
        title=title_of(document),
        snippet=words[:_SNIPPET_CHARACTERS].rstrip() + "…" if cut else words,
        grade=collection.qrels.get(query_id, {}).get(document_id),
    )


def _judged(
    collection: Collection, query_id: str, own: Row, without: Row | None
) -> tuple[JudgedDocument, ...]:
    grades = collection.qrels.get(query_id, {})
    relevant = sorted(
        (name for name, grade in grades.items() if grade > 0),
        key=lambda name: (-grades[name], name),
    )
    return tuple(
        JudgedDocument(
            document_id=name,
            title=title_of(collection.documents_by_id[name]),
            grade=grades[name],
            rank=own.judged_ranks[query_id].get(name),
            rank_without=without.judged_ranks[query_id].get(name) if without else None,
        )
        for name in relevant
    )
