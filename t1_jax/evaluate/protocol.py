"""The evaluation protocol: documents and thoughts once, then every control and every metric."""

import itertools
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from t1_jax.errors import DataError
from t1_jax.evaluate.baselines import BM25Baseline, BM25QSBaseline
from t1_jax.evaluate.config import EvaluationConfig
from t1_jax.evaluate.controls import (
    CONSTRAINED,
    CONTROLS,
    OVER_CANDIDATES,
    VERIFIED,
    Control,
    ControlQueries,
    QueryVectors,
)
from t1_jax.evaluate.documents import EncodedDocuments, encode_in_memory
from t1_jax.evaluate.encoders import Encoder
from t1_jax.evaluate.results import Evaluation, ModelFacts, Row, System, ranking
from t1_jax.evaluate.sentence_ablation import ablate_sentences
from t1_jax.evaluate.title_rows import constrained_to_titles, over_candidates
from t1_jax.evaluate.verified import verified_row
from t1_jax.progress import counted
from t1_jax.retrieval import Collection, Index, Run, build_index, score_run


@runtime_checkable
class Baseline(Protocol):
    """Another retriever with a row in the table."""

    @property
    def name(self) -> str:
        """Name in files, unique in an evaluation."""
        ...

    @property
    def label(self) -> str:
        """Name in tables."""
        ...

    def retrieve(self, collection: Collection, k: int) -> Run:
        """At least the best `k` documents of every query that are not excluded, with their scores.

        Excluded and further documents may be among them; they are removed before scoring.
        """
        ...


def evaluate_collection(
    model: Encoder,
    collection: Collection,
    config: EvaluationConfig | None = None,
    *,
    facts: ModelFacts,
    split: str | None = None,
    system: str = "T1",
    baselines: Sequence[Baseline] = (),
    encode_documents: Callable[[Collection], EncodedDocuments] | None = None,
    log: Callable[[str], None] = lambda line: None,
    show_progress_bar: bool = False,
) -> Evaluation:
    """Evaluates a model on a collection under each control of `config`.

    Queries without a relevant document are skipped: metrics are not defined for them.

    Args:
        model: embeds queries and documents.
        collection: one split of a collection.
        config: settings.
        facts: description of the model.
        split: name of the split.
        system: name of the model in the table; another checkpoint needs another name.
        baselines: further retrievers; their rows follow BM25.
        encode_documents: encodes the documents; by default in memory.
        log: receives one line before each step.
        show_progress_bar: show the rate and the time left of each step.

    Raises:
        DataError: no query can be scored, or an embedding is zero or not finite.
        ConfigError: the model cannot score thoughts (`verify`), or its prompts show no candidates.
    """
    config, start = config or EvaluationConfig(), time.perf_counter()
    extra = (
        *([VERIFIED.name] if config.verify else ()),
        *(OVER_CANDIDATES if config.candidates else ()),
        *([CONSTRAINED.name] if config.constrained else ()),
    )
    control_rows = [_row_name(system, name) for name in (*config.controls, *extra)]
    others = evaluate_baselines(baselines, collection, config, split=split, taken=control_rows)
    evaluated, title = others.collection, others.title
    log(f"{title}: encoding {counted(len(evaluated.documents), 'documents')}")
    if encode_documents is None:
        documents = encode_in_memory(model, evaluated, show_progress_bar=show_progress_bar)
    else:
        documents = encode_documents(evaluated)
    queries = ControlQueries(model, evaluated, config, show_progress_bar=show_progress_bar)
    embedded: dict[str, QueryVectors] = {}
    for name in config.controls:
        log(f"{title}: {CONTROLS[name].label}, {counted(len(evaluated.queries), 'queries')}")
        embedded[name] = queries.embed(name)
    index = documents.build(config.index, next(iter(embedded.values())).vectors)
    rows = [
        _control_row(CONTROLS[name], vectors, index, evaluated, config, system)
        for name, vectors in embedded.items()
    ]
    if config.verification is not None:
        log(f"{title}: {VERIFIED.label}, {counted(config.verify, 'documents')} of each query")
        own = next(row for row in rows if row.control == "own")
        rows.append(
            verified_row(
                model,
                own,
                evaluated,
                config,
                config.verification,
                lambda run: score(run, evaluated, config),
                task=queries.task,
                show_progress_bar=show_progress_bar,
            )
        )
    if config.candidates:
        for control, vectors in over_candidates(model, queries, index, config.candidates):
            log(
                f"{title}: {control.label}, {counted(config.candidates, 'documents')} of each query"
            )
            rows.append(_control_row(control, vectors, index, evaluated, config, system))
    if config.constrained:
        log(f"{title}: {CONSTRAINED.label}")
        vectors = constrained_to_titles(model, queries)
        rows.append(_control_row(CONSTRAINED, vectors, index, evaluated, config, system))
    described = System(
        name=system,
        model=facts,
        config=config,
        distinct_documents=documents.distinct,
        truncated_documents=documents.truncated,
        document_seconds=documents.seconds,
        index_recall_at_10=_index_recall(index, embedded),
    )
    evaluation = replace(others, rows=(*others.rows, *rows), systems=(described,))
    if config.sentence_ablation:
        log(f"{title}: leaving sentences out, {counted(config.sentence_ablation, 'queries')}")
        effects = ablate_sentences(evaluation, queries, index, config.sentence_ablation)
        evaluation = replace(evaluation, sentence_effects=effects)
    return replace(evaluation, seconds=time.perf_counter() - start)


def evaluate_baselines(
    baselines: Sequence[Baseline],
    collection: Collection,
    config: EvaluationConfig | None = None,
    *,
    split: str | None = None,
    taken: Iterable[str] = (),
) -> Evaluation:
    """An evaluation without a model: BM25 as `config` asks, then others, such as run files.

    A name in `taken`, and a repeated name or label, gets a number.

    Raises:
        DataError: no query can be scored.
    """
    config = config or EvaluationConfig()
    started, start = datetime.now(UTC), time.perf_counter()
    evaluated = scorable_queries(collection, config)
    known = {query.id for query in collection.queries}
    names, labels, rows = set(taken), set[str](), []
    lexical = [BM25Baseline()] * config.bm25 + [BM25QSBaseline()] * config.bm25qs
    for baseline in (*lexical, *baselines):
        row = evaluate_baseline(baseline, evaluated, config, known_queries=known)
        row = replace(
            row,
            name=free_name(row.name, names, "{}-{}"),
            label=free_name(row.label, labels, "{} ({})"),
        )
        names.add(row.name)
        labels.add(row.label)
        rows.append(row)
    return Evaluation(
        collection=evaluated,
        split=split,
        skipped_queries=len(collection.queries) - len(evaluated.queries),
        rows=tuple(rows),
        systems=(),
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - start,
        bootstrap_samples=config.bootstrap_samples,
        bootstrap_seed=config.bootstrap_seed,
    )


def free_name(name: str, taken: Container[str], form: str) -> str:
    """The name, or if it is taken the first free one of `form` with 2, 3, ..."""
    numbered = (form.format(name, number) for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)


def scorable_queries(collection: Collection, config: EvaluationConfig) -> Collection:
    """The collection with the queries that have a relevant document, sampled as in `config`.

    Raises:
        DataError: no query has one.
    """
    with_relevant = [
        key
        for key, grades in collection.all_qrels.items()
        if any(grade > 0 for grade in grades.values())
    ]
    if not with_relevant:
        raise DataError(f"{collection.name}: no query has a relevant document")
    scorable = collection.with_queries(with_relevant)
    if config.exclude_same_id:
        scorable = _exclude_same_id(scorable)
    if config.max_queries:
        return scorable.subset_queries(config.max_queries, seed=config.query_seed)
    return scorable


def _exclude_same_id(collection: Collection) -> Collection:
    excluded = dict(collection.excluded)
    for query in collection.queries:
        grades = collection.qrels.get(query.id, {})
        if query.id in collection.documents_by_id and grades.get(query.id, 0) <= 0:
            excluded[query.id] = excluded.get(query.id, frozenset()) | {query.id}
    return replace(collection, excluded=excluded)


def evaluate_baseline(
    baseline: Baseline,
    collection: Collection,
    config: EvaluationConfig | None = None,
    *,
    known_queries: Container[str] = (),
) -> Row:
    """The row of another retriever, on all queries of the collection.

    It may rank other queries if they are known; the rest is in `Row.unknown`.
    """
    config = config or EvaluationConfig()
    start = time.perf_counter()
    ranked = baseline.retrieve(collection, config.top_k)
    seconds = time.perf_counter() - start
    run = {
        query.id: _truncate(ranked, query.id, collection, config) for query in collection.queries
    }
    values, missing = score(run, collection, config)
    return Row(
        name=baseline.name,
        label=baseline.label,
        run=run,
        values=values,
        missing=missing,
        unknown=tuple(name for name in ranked if name not in run and name not in known_queries),
        relevant_ranks=ranks_in_run(run, collection),
        seconds=seconds,
    )


def _truncate(
    run: Run, query_id: str, collection: Collection, config: EvaluationConfig
) -> dict[str, float]:
    """The top documents of one query, without excluded ones."""
    excluded = collection.excluded.get(query_id, frozenset())
    allowed = {name: x for name, x in run.get(query_id, {}).items() if name not in excluded}
    return {name: allowed[name] for name in ranking(allowed)[: config.top_k]}


def score(
    run: Run, collection: Collection, config: EvaluationConfig
) -> tuple[dict[str, Float[np.ndarray, " B"]], tuple[str, ...]]:
    """Metric -> value of each query in order, and the ids of queries without result."""
    scores = score_run(
        run,
        collection.all_qrels,
        metrics=config.metrics,
        excluded=collection.excluded,
        depth=config.top_k,
    )
    values = {
        metric: np.array([scores.per_query[metric][query.id] for query in collection.queries])
        for metric in config.metrics
    }
    return values, scores.missing


def ranks_in_run(run: Run, collection: Collection) -> dict[str, dict[str, int]]:
    """Query id -> relevant document id -> its rank in the run, if it is in the run."""
    ranks: dict[str, dict[str, int]] = {}
    for query in collection.queries:
        rank_of = {name: rank for rank, name in enumerate(ranking(run.get(query.id, {})), 1)}
        ranks[query.id] = {
            name: rank_of[name]
            for name, grade in collection.qrels.get(query.id, {}).items()
            if grade > 0 and name in rank_of
        }
    return ranks


def _row_name(system: str, control: str) -> str:
    return f"{system.lower()}-{control}"


def _control_row(
    control: Control,
    queries: QueryVectors,
    index: Index,
    collection: Collection,
    config: EvaluationConfig,
    system: str,
) -> Row:
    ids = [query.id for query in collection.queries]
    excluded = [index.table.rows_of(collection.excluded.get(key, ())) for key in ids]
    run = index.search(queries.vectors, config.top_k, excluded).to_run(ids, index.ids)
    values, missing = score(run, collection, config)
    return Row(
        name=_row_name(system, control.name),
        label=f"{system}, {control.label}",
        system=system,
        control=control.name,
        oracle=control.oracle,
        run=run,
        values=values,
        missing=missing,
        relevant_ranks=_all_ranks(queries.vectors, index, collection, excluded, run),
        thoughts=dict(zip(ids, queries.thoughts, strict=True)),
        seconds=queries.seconds,
    )


def _all_ranks(
    vectors: Float[np.ndarray, "B D"],
    index: Index,
    collection: Collection,
    excluded: Sequence[Sequence[int]],
    run: Run,
) -> dict[str, dict[str, int]]:
    """Ranks of the relevant documents: as in the run, or below it the exact rank."""
    listed = ranks_in_run(run, collection)
    relevant = {
        query.id: [
            name
            for name, grade in collection.qrels.get(query.id, {}).items()
            if grade > 0 and name not in collection.excluded.get(query.id, ())
        ]
        for query in collection.queries
    }
    rows = np.full((len(relevant), max(map(len, relevant.values()))), -1, np.int64)
    for row, names in enumerate(relevant.values()):
        rows[row, : len(names)] = index.table.rows_of(names)
    exact = index.rank_of(vectors, rows, excluded)
    return {
        query_id: {
            name: listed[query_id].get(name, int(exact[row, column]))
            for column, name in enumerate(names)
        }
        for row, (query_id, names) in enumerate(relevant.items())
    }


def _index_recall(index: Index, embedded: dict[str, QueryVectors]) -> float:
    """Recall@10 of the index against exact search, over all queries of all controls."""
    if index.kind != "scann":
        return 1.0
    queries = np.concatenate([vectors.vectors for vectors in embedded.values()])
    exact = build_index("numpy", index.ids, index.vectors)
    k = min(10, len(index.ids))
    pairs = zip(index.search(queries, k).rows, exact.search(queries, k).rows, strict=True)
    return float(np.mean([np.isin(approximate, best).sum() / k for approximate, best in pairs]))
