"""For some queries of an evaluation: which sentence of the thought moved which document."""

from collections.abc import Mapping

from t1_jax.evaluate.controls import ControlQueries
from t1_jax.evaluate.examples import choose_queries
from t1_jax.evaluate.results import Evaluation, ranking
from t1_jax.evaluate.sentences import SentenceEffect, sentence_effects
from t1_jax.retrieval import Index

_DOCUMENTS = 10
"""Documents of each ranking whose ranks are compared."""


def leave_sentences_out(
    evaluation: Evaluation,
    queries: ControlQueries,
    index: Index,
    count: int,
    *,
    seed: int = 0,
) -> Mapping[str, tuple[SentenceEffect, ...]]:
    """Query id -> the effect of each sentence of its first thought.

    At most a third of the queries are those that the thought helped most, a third those that it
    hurt most, and the rest are random, as in the report.

    Args:
        evaluation: with the row of the own thought.
        queries: embeds the queries.
        index: the documents.
        count: number of queries.
        seed: of the random choice.
    """
    own, without = evaluation.control("own"), evaluation.control("no-think")
    if own is None:
        return {}
    third = -(-count // 3)
    chosen = choose_queries(evaluation, helped=third, hurt=third, random=count, seed=seed)
    texts = {query.id: query.text for query in evaluation.collection.queries}
    effects: dict[str, tuple[SentenceEffect, ...]] = {}
    for query_id, _ in chosen[:count]:
        rankings = [row.run.get(query_id, {}) for row in (own, without) if row is not None]
        names = [name for run in rankings for name in ranking(run)[:_DOCUMENTS]]
        excluded = evaluation.collection.excluded.get(query_id, ())
        effects[query_id] = sentence_effects(
            index,
            texts[query_id],
            own.thoughts[query_id][0].text,
            queries.encode_given,
            index.table.rows_of(dict.fromkeys(names)),
            index.table.rows_of(excluded),
        )
    return effects
