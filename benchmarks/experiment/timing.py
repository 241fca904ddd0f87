"""What thinking costs: seconds for a query and for a document, after everything is compiled."""

import statistics
import time
from collections.abc import Callable

from benchmarks.experiment.plan import Plan
from t1_jax.generate import SamplingParams
from t1_jax.retrieval import Collection
from t1_jax.retriever import T1


def seconds_of(model: T1, collection: Collection, plan: Plan, *, thinks: bool) -> dict[str, float]:
    """Seconds for one query by the name of its row, and for one `document`, in large batches.

    Args:
        model: to be timed.
        collection: whose queries and documents are taken.
        plan: how many of them, and how thoughts are drawn.
        thinks: whether to time thinking too.
    """
    queries = collection.subset_queries(plan.cost_queries).queries
    texts, ids = [query.text for query in queries], [query.id for query in queries]
    distinct = dict.fromkeys(document.full_text for document in collection.documents)
    documents = list(distinct)[: plan.cost_documents]

    def at_once() -> None:
        model.encode_query(texts, query_ids=ids, task=collection.name, think=False)

    def thinking(n: int, temperature: float) -> Callable[[], None]:
        def think() -> None:
            model.encode_query(
                texts,
                query_ids=ids,
                task=collection.name,
                n=n,
                max_thought_tokens=plan.max_thought_tokens,
                sampling=SamplingParams(temperature=temperature),
            )

        return think

    ways: dict[str, Callable[[], None]] = {"no-think": at_once}
    if thinks:
        ways["own"] = thinking(1, 0.0)
        ways |= {f"samples-{k}": thinking(k, plan.temperature) for k in plan.samples}
    found = {name: _median(way, plan.cost_rounds) / len(texts) for name, way in ways.items()}

    def encode() -> None:
        model.encode_document(documents)

    return found | {"document": _median(encode, plan.cost_rounds) / len(documents)}


def _median(work: Callable[[], None], rounds: int) -> float:
    """Seconds of the median round, after one that compiles and warms up."""
    work()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
