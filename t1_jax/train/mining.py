"""Hard-negative mining: top-ranked documents that have no relevance label.

Many documents that a good ranking puts above the positive are unlabeled positives, so candidates
that score too close to the positive are dropped (NV-Retriever, arXiv:2407.15831, section 3;
Qwen3-Embedding, arXiv:2506.05176). Mining is deterministic.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import (
    BM25,
    Collection,
    Document,
    Index,
    NearDuplicates,
    Query,
    Run,
    text_hash,
)
from t1_jax.train.data import TrainingRecord, exclude_known_answers

_SHINGLE = 5  # characters, as for leaks


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """Which documents are hard negatives.

    `max_ratio` and `margin` apply only to dense rankings, since BM25 scores have no common scale. A
    candidate that they drop is dropped from all rankings.

    Attributes:
        negatives: maximum negatives to add to a record.
        depth: documents of each ranking to consider.
        skip: first candidates of each ranking to skip; they are the likeliest unlabeled positives.
        max_ratio: drop candidates whose cosine is above this fraction of the positive's: 0.95 is
            "TopK-PercPos" of arXiv:2407.15831. None keeps all.
        margin: drop candidates whose cosine exceeds the positive's by more than this; 0.1 in
            arXiv:2506.05176. None keeps all.
        near_duplicate_threshold: drop candidates whose text has at least this Jaccard similarity
            (of 5-character shingles) with a positive. None drops only equal texts.
        union: how to join several rankings: "interleave" takes one candidate from each in turn,
            "rrf" is reciprocal rank fusion (Cormack et al. 2009).
        rrf_k: the constant of reciprocal rank fusion.

    Raises:
        ConfigError: a value is out of its range.
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
                "near_duplicate_threshold must be above 0 and at most 1, "
                f"got {self.near_duplicate_threshold}"
            )
        if self.union not in ("interleave", "rrf"):
            raise ConfigError(f"union must be interleave or rrf, got {self.union!r}")


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """A ranking of documents for every query.

    Attributes:
        name: shown in reports, such as "bm25".
        run: query id -> document id -> score, best first.
        positive_scores: query id -> score of its best positive, on the same scale; empty if scores
            are not comparable, so that no candidate is dropped for its score.
    """

    name: str
    run: Run
    positive_scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class MiningReport:
    """Counts of a mining run.

    Attributes:
        records: number of records.
        mined: negatives added to all records.
        removed: earlier negatives that are the query itself or answer it.
        short: records with fewer new negatives than asked for.
        unanswered: ranking -> records for which it is empty, if there are any; BM25 finds nothing
            for a query that shares no term with the corpus.
        taken: ranking -> negatives that it contributed.
        dropped: reason -> candidates dropped, over all rankings: "positive", "excluded", "known"
            (already a negative), "same text", "near duplicate", "too close", "skipped".
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
    """Ranks the documents for every record's query by BM25.

    Raises:
        DataError: no document has a term.
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
    """Ranks the documents for every record's query by cosine similarity.

    The embeddings of the queries may have any length above 0.

    Raises:
        DataError: a positive is not in the index.
    """
    rows = {document: row for row, document in enumerate(index.ids)}
    if missing := [(r.query_id, d) for r in records for d in r.best_positives if d not in rows]:
        raise DataError(
            f"query {missing[0][0]!r} has the positive {missing[0][1]!r}, which the index lacks",
            hint="mine with an index of the records' corpus",
        )
    units = index.table.normalize_queries(queries)
    best = {
        record.query_id: max(float(index.vectors[rows[d]] @ unit) for d in record.best_positives)
        for record, unit in zip(records, units, strict=True)
    }
    results = index.search(queries, depth)
    run = results.to_run([record.query_id for record in records], index.ids)
    return Ranking(name=name, run=run, positive_scores=best)


def mine_negatives(
    records: Sequence[TrainingRecord],
    documents: Mapping[str, Document],
    rankings: Sequence[Ranking],
    config: MiningConfig | None = None,
) -> tuple[tuple[TrainingRecord, ...], MiningReport]:
    """Appends hard negatives to records.

    A document that is the query itself, or a positive of a record with the same query, is excluded
    from the record, see `exclude_known_answers`. Each ranking has every record; `documents` are the
    whole corpus.

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
    duplicates = None
    if config.near_duplicate_threshold is not None:
        duplicates = NearDuplicates(
            lambda name: documents[name].full_text,
            threshold=config.near_duplicate_threshold,
            size=_SHINGLE,
        )
    taken, dropped = Counter[str](), Counter[str]()
    mined = []
    for record in records:
        close = _too_close(record, rankings, keys, config)
        lists = {
            each.name: list(_candidates(record, each, keys, close, duplicates, config, dropped))
            for each in rankings
        }
        chosen = _unique_texts(_union(lists, config), keys)[: config.negatives]
        taken.update(next(n for n, ids in lists.items() if name in ids) for name in chosen)
        mined.append(replace(record, negatives=(*record.negatives, *chosen)))
    unanswered = {
        ranking.name: sum(not ranking.run.get(record.query_id) for record in records)
        for ranking in rankings
    }
    pairs = zip(mined, records, strict=True)
    added = [len(new.negatives) - len(old.negatives) for new, old in pairs]
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
    """Text keys of documents above the score limit of a ranking: likely unlabeled positives."""
    texts: set[str] = set()
    for ranking in rankings:
        limit = _limit(ranking.positive_scores.get(record.query_id), config)
        scores = ranking.run.get(record.query_id, {})
        texts |= {keys[name] for name, score in scores.items() if score > limit and name in keys}
    return texts


def _candidates(
    record: TrainingRecord,
    ranking: Ranking,
    keys: Mapping[str, str],
    close: set[str],
    duplicates: NearDuplicates | None,
    config: MiningConfig,
    dropped: Counter[str],
) -> Iterator[str]:
    """Ids of candidates, best first; counts dropped documents by reason."""
    labeled_texts = {keys[name] for name in (*record.positives, *record.excluded) if name in keys}
    skipped = 0
    for name in list(ranking.run.get(record.query_id, {}))[: config.depth]:
        if name not in keys:
            raise DataError(f"the ranking {ranking.name} names {name!r}, which the corpus lacks")
        reason = _drop_reason(
            record, name, same_text=keys[name] in labeled_texts, too_close=keys[name] in close
        )
        if reason is None and duplicates and duplicates.contains(record.positives, name):
            reason = "near duplicate"
        if reason:
            dropped[reason] += 1
        elif skipped < config.skip:
            skipped += 1
            dropped["skipped"] += 1
        else:
            yield name


def _drop_reason(
    record: TrainingRecord, name: str, *, same_text: bool, too_close: bool
) -> str | None:
    if name in record.positives:
        return "positive"
    if name in record.excluded:
        return "excluded"
    if name in record.negatives:
        return "known"
    if same_text:
        return "same text"
    return "too close" if too_close else None


def _limit(positive: float | None, config: MiningConfig) -> float:
    """The highest score that a negative may have."""
    limits = [np.inf]
    if positive is not None and config.max_ratio is not None:
        # Below the positive by the same distance also where its cosine is negative.
        limits.append(positive - (1 - config.max_ratio) * abs(positive))
    if positive is not None and config.margin is not None:
        limits.append(positive + config.margin)
    return float(min(limits))


def _union(lists: Mapping[str, Sequence[str]], config: MiningConfig) -> list[str]:
    """Ids of all rankings without repetition, in joint order."""
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


def _unique_texts(names: Sequence[str], keys: Mapping[str, str]) -> list[str]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(keys[name], name)
    return list(first.values())
