"""Hard negatives: documents that rankings put high and no judgment calls relevant.

Many documents that a good ranking puts above the positive are relevant and merely unjudged, so
candidates that come too close to the positive are dropped (NV-Retriever, arXiv:2407.15831, section
3; Qwen3-Embedding, arXiv:2506.05176). Nothing is drawn at random: the same input gives the same
negatives.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import BM25, Collection, Document, Index, Query, Run, text_hash
from t1_jax.train.data import TrainingRecord, exclude_known_answers, jaccard, shingles

_SHINGLE = 5  # characters, as for leaks


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """What counts as a hard negative.

    Attributes:
        negatives: the most that a record gets beside those it has.
        depth: documents of each ranking that are looked at, known ones included.
        skip: how many of a query's first candidates are passed over in each ranking; they are the
            likeliest to be relevant and unjudged.
        max_ratio: a candidate is dropped if its cosine is above the positive's by more than this
            share of it: 0.95 is "TopK-PercPos" of arXiv:2407.15831. None keeps all.
        margin: a candidate is dropped if its cosine exceeds the positive's by more than this;
            0.1 in arXiv:2506.05176. None keeps all.
        near_duplicate_threshold: a candidate is dropped if its text is so much like a positive's
            (the Jaccard similarity of runs of five characters). None keeps all but equal texts.
        union: how several rankings become one. "interleave" takes one from each in turn, "rrf"
            orders by the sum of 1 / (rrf_k + rank) (reciprocal rank fusion, Cormack et al. 2009).
        rrf_k: the constant of that sum.

    The two limits of cosines hold for rankings by vectors only: scores of words have no common
    scale. What they drop, no other ranking brings back. Near copies are dropped from all.

    Raises:
        ConfigError: a value out of its range.
    """

    negatives: int = 7
    depth: int = 100
    skip: int = 0
    max_ratio: float | None = 0.95
    margin: float | None = None
    near_duplicate_threshold: float | None = 0.8
    union: Literal["interleave", "rrf"] = "interleave"
    rrf_k: float = 60.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("negatives", self.negatives, 1),
            ("depth", self.depth, 1),
            ("skip", self.skip, 0),
            ("max_ratio", self.max_ratio, 0),
            ("rrf_k", self.rrf_k, 0),
        ):
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        if self.near_duplicate_threshold is not None and not 0 < self.near_duplicate_threshold <= 1:
            raise ConfigError(
                "near_duplicate_threshold must be over 0 and at most 1, "
                f"got {self.near_duplicate_threshold}"
            )
        if self.union not in ("interleave", "rrf"):
            raise ConfigError(f"union must be interleave or rrf, got {self.union!r}")


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """One ranking of every query.

    Attributes:
        name: for reports, such as "bm25".
        run: query id -> document id -> score, best first.
        positive_scores: query id -> score of its best positive, on the same scale; empty where
            scores cannot be compared, and then no candidate is dropped for its score.
    """

    name: str
    run: Run
    positive_scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class MiningReport:
    """What mining did.

    Attributes:
        records: how many were given.
        mined: negatives added, of all records.
        removed: negatives that records had and that are the query itself or answer it.
        short: records that got fewer than were asked for.
        unanswered: ranking -> records for whose query it found nothing, where there are any: BM25
            finds nothing for a query without a word of the corpus.
        taken: ranking -> negatives that it was first to propose.
        dropped: reason -> candidates dropped for it, over all rankings: "positive", "excluded",
            "known" (a negative already), "same text", "near copy", "too close", "skipped".
    """

    records: int
    mined: int
    removed: int
    short: int
    unanswered: Mapping[str, int]
    taken: Mapping[str, int]
    dropped: Mapping[str, int]


def rank_bm25(
    records: Sequence[TrainingRecord], documents: Mapping[str, Document], depth: int
) -> Ranking:
    """BM25's ranking of every record's query.

    Raises:
        DataError: no document has a word.
    """
    corpus = Collection(name="bm25", documents=tuple(documents.values()), queries=(), qrels={})
    queries = [Query(id=record.query_id, text=record.query) for record in records]
    run = BM25.build(corpus).search(queries, depth)
    return Ranking(name="bm25", run=run, positive_scores={})


def rank_dense(
    records: Sequence[TrainingRecord],
    index: Index,
    queries: Float[np.ndarray, "N E"],
    depth: int,
    name: str = "dense",
) -> Ranking:
    """An index's ranking of every record's query.

    Args:
        records: N of them.
        index: over the corpus of the records.
        queries: their vectors; they need not have unit length.
        depth: documents of each ranking.
        name: for reports.

    Raises:
        DataError: a positive is not in the index.
    """
    rows = {document: row for row, document in enumerate(index.ids)}
    if lost := [(r.query_id, d) for r in records for d in r.best_positives if d not in rows]:
        raise DataError(
            f"query {lost[0][0]!r} has the positive {lost[0][1]!r}, which the index lacks",
            hint="mine with an index of the records' own corpus",
        )
    units = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    best = {
        record.query_id: max(float(index.vectors[rows[d]] @ unit) for d in record.best_positives)
        for record, unit in zip(records, units, strict=True)
    }
    found = index.search(queries, depth)
    run = found.to_run([record.query_id for record in records], index.ids)
    return Ranking(name=name, run=run, positive_scores=best)


def mine_negatives(
    records: Sequence[TrainingRecord],
    documents: Mapping[str, Document],
    rankings: Sequence[Ranking],
    config: MiningConfig | None = None,
) -> tuple[tuple[TrainingRecord, ...], MiningReport]:
    """The records with hard negatives, those they had in front.

    A document that is the query itself, or answers a record of the same query, is no candidate and
    joins the record's exclusions; see `exclude_known_answers`.

    Args:
        records: with the ids of documents that are known to be right or excluded.
        documents: the whole corpus, under their ids.
        rankings: at least one; each must know every record.
        config: what counts as a hard negative.

    Raises:
        ConfigError: no ranking, or two of one name.
        DataError: a ranking names a document that the corpus lacks.
    """
    config = config or MiningConfig()
    names = [ranking.name for ranking in rankings]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"mining needs rankings of different names, got {names}")
    records, removed = exclude_known_answers(records, documents)
    keys = {name: text_hash(document.full_text) for name, document in documents.items()}
    copies = _NearCopies(documents, config.near_duplicate_threshold)
    taken, dropped = Counter[str](), Counter[str]()
    mined = []
    for record in records:
        close = _too_close(record, rankings, keys, config)
        lists = {
            ranking.name: list(_candidates(record, ranking, keys, close, copies, config, dropped))
            for ranking in rankings
        }
        chosen = _first_of_each_text(_united(lists, config), keys)[: config.negatives]
        taken.update(next(n for n, ids in lists.items() if name in ids) for name in chosen)
        mined.append(replace(record, negatives=(*record.negatives, *chosen)))
    unanswered = {
        ranking.name: sum(not ranking.run.get(record.query_id) for record in records)
        for ranking in rankings
    }
    added = [
        len(new.negatives) - len(old.negatives) for new, old in zip(mined, records, strict=True)
    ]
    return tuple(mined), MiningReport(
        records=len(records),
        mined=sum(added),
        removed=removed,
        short=sum(count < config.negatives for count in added),
        unanswered={name: count for name, count in unanswered.items() if count},
        taken=dict(taken),
        dropped=dict(dropped),
    )


def _too_close(
    record: TrainingRecord,
    rankings: Sequence[Ranking],
    keys: Mapping[str, str],
    config: MiningConfig,
) -> set[str]:
    """The texts that some ranking puts beyond its limit: likely relevant, and merely unjudged."""
    found: set[str] = set()
    for ranking in rankings:
        limit = _limit(ranking.positive_scores.get(record.query_id), config)
        scores = ranking.run.get(record.query_id, {})
        found |= {keys[name] for name, score in scores.items() if score > limit and name in keys}
    return found


def _candidates(
    record: TrainingRecord,
    ranking: Ranking,
    keys: Mapping[str, str],
    close: set[str],
    copies: "_NearCopies",
    config: MiningConfig,
    dropped: Counter[str],
) -> Iterator[str]:
    """The ids that may be negatives, best first; the others are counted under their reason."""
    resolved = {keys[name] for name in (*record.positives, *record.excluded) if name in keys}
    skipped = 0
    for name in list(ranking.run.get(record.query_id, {}))[: config.depth]:
        if name not in keys:
            raise DataError(f"the ranking {ranking.name} names {name!r}, which the corpus lacks")
        reason = _reason_against(
            record, name, settled_text=keys[name] in resolved, too_close=keys[name] in close
        )
        if reason is None and copies.has(record.positives, name):
            reason = "near copy"
        if reason:
            dropped[reason] += 1
        elif skipped < config.skip:
            skipped += 1
            dropped["skipped"] += 1
        else:
            yield name


class _NearCopies:
    """Which documents say nearly the same as others, in nearly the same words."""

    def __init__(self, documents: Mapping[str, Document], likeness: float | None) -> None:
        self._documents = documents
        self._likeness = likeness
        # Neighboring records have candidates in common, and a corpus may be large.
        self._shingles = lru_cache(maxsize=20_000)(self._shingles_of)

    def has(self, names: Iterable[str], name: str) -> bool:
        """Whether a document is a near copy of one of the others."""
        if self._likeness is None:
            return False
        mine = self._shingles(name)
        return any(jaccard(mine, self._shingles(other)) >= self._likeness for other in names)

    def _shingles_of(self, name: str) -> frozenset[str]:
        return shingles(self._documents[name].full_text, _SHINGLE)


def _reason_against(
    record: TrainingRecord, name: str, *, settled_text: bool, too_close: bool
) -> str | None:
    if name in record.positives:
        return "positive"
    if name in record.excluded:
        return "excluded"
    if name in record.negatives:
        return "known"
    if settled_text:
        return "same text"
    return "too close" if too_close else None


def _limit(positive: float | None, config: MiningConfig) -> float:
    """The highest score that a negative may have."""
    limits = [np.inf]
    if positive is not None and config.max_ratio is not None:
        # Of a negative cosine the limit lies below too: as far as of a positive one.
        limits.append(positive - (1 - config.max_ratio) * abs(positive))
    if positive is not None and config.margin is not None:
        limits.append(positive + config.margin)
    return float(min(limits))


def _united(lists: Mapping[str, Sequence[str]], config: MiningConfig) -> list[str]:
    """Every id once, in the order in which the rankings together propose them."""
    if config.union == "interleave":
        longest = max(map(len, lists.values()))
        turns = (
            ids[place] for place in range(longest) for ids in lists.values() if place < len(ids)
        )
        return list(dict.fromkeys(turns))
    scores: dict[str, float] = {}
    for ids in lists.values():
        for rank, name in enumerate(ids, 1):
            scores[name] = scores.get(name, 0.0) + 1 / (config.rrf_k + rank)
    return sorted(scores, key=lambda name: (-scores[name], name))


def _first_of_each_text(names: Sequence[str], keys: Mapping[str, str]) -> list[str]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(keys[name], name)
    return list(first.values())
