"""The cost of thinking: seconds per query and per document, without compilation."""

import statistics
import time
from collections.abc import Callable

from benchmarks.experiment.plan import Plan
from t1_jax.generate import SamplingParams
from t1_jax.retrieval import Collection
from t1_jax.retriever import T1


def seconds_of(model: T1, collection: Collection, plan: Plan, *, thinks: bool) -> dict[str, float]:
    """Seconds per query for each row, and per `document`, in large batches.

    Args:
        model: the model to time.
        collection: source of queries and documents.
        plan: numbers of queries, documents and rounds, and sampling settings.
        thinks: whether to time thinking too.
    """
    queries = collection.subset_queries(plan.cost_queries).queries
    texts, ids = [query.text for query in queries], [query.id for query in queries]
    task = model.known_task(collection.name)
    distinct = dict.fromkeys(document.full_text for document in collection.documents)
    documents = list(distinct)[: plan.cost_documents]

    def without_thought() -> None:
        model.encode_query(texts, query_ids=ids, task=task, think=False)

    def thinking(n: int, temperature: float) -> Callable[[], None]:
        def think() -> None:
            model.encode_query(
                texts,
                query_ids=ids,
                task=task,
                n=n,
                max_thought_tokens=plan.max_thought_tokens,
                sampling=SamplingParams(temperature=temperature),
            )

        return think

    ways: dict[str, Callable[[], None]] = {"no-think": without_thought}
    if thinks:
        ways["own"] = thinking(1, 0.0)
        ways |= {f"samples-{k}": thinking(k, plan.temperature) for k in plan.samples}
    seconds = {name: _median(way, plan.cost_rounds) / len(texts) for name, way in ways.items()}

    def encode() -> None:
        model.encode_document(documents)

    return seconds | {"document": _median(encode, plan.cost_rounds) / len(documents)}


def _median(work: Callable[[], None], rounds: int) -> float:
    """Seconds of the median round, after one warm-up round."""
    work()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
