"""Calibrates `think: auto`: quality, length and time of thoughts that end once they have settled.

`python -m benchmarks.serve.adaptive` thinks about validation queries, reads the embedding every few
tokens, and ranks with the embedding at which a thought would have ended, for each threshold. Then
it thinks about some of the queries again, one at a time and as the service does, with each
threshold in turn, so that other work on the machine slows down all of them. It prints a table in
Markdown; docs/serving.md has it.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from t1_jax.generate import ContinuousBatch, FinishReason, Prompt, SamplingParams
from t1_jax.hub import open_collection
from t1_jax.retrieval import Collection, build_index, score_run
from t1_jax.retriever import T1, default_index_folder, read_stored_index
from t1_jax.serve.adaptive import Settling
from t1_jax.text import tokenize_queries

STEPS = (2, 4, 8)
COSINES = (0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 1.01)
SETTINGS = [(step, cosine) for step in STEPS for cosine in COSINES]
NO_THOUGHT, WHOLE = (0, 0.0), (0, 1.0)
"""Settings without a probe."""
Probes = dict[int, np.ndarray]
"""Tokens -> embedding after them; the last entry is the whole thought."""


def main() -> None:
    """See `--help`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", default="cwe")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--timed-queries", type=int, default=30)
    parser.add_argument("--max-thought-tokens", type=int, default=64)
    arguments = parser.parse_args()
    model = T1.load()
    collection = open_collection(arguments.collection, arguments.split)
    queries = collection.queries[: arguments.queries]
    vectors = _document_vectors(model, collection)
    index = build_index("numpy", [document.id for document in collection.documents], vectors)
    probes = _probe(model, [query.text for query in queries], arguments.max_thought_tokens)

    def quality(rows: Sequence[np.ndarray]) -> float:
        run = index.search(np.stack(rows), 10).to_run([query.id for query in queries], index.ids)
        qrels = {query.id: collection.qrels[query.id] for query in queries}
        return score_run(run, qrels, metrics=["nDCG@10"]).mean("nDCG@10")

    whole = quality([list(probe.values())[-1] for probe in probes])
    plain = quality(list(model.encode_query([query.text for query in queries], think=False)))
    print(f"{len(queries)} queries of {arguments.collection}, {arguments.split}; no thought: "
          f"nDCG@10 {plain:.4f}")  # fmt: skip
    timed = [query.text for query in queries[: arguments.timed_queries]]
    seconds = _seconds(model, timed, arguments.max_thought_tokens)
    print(f"time of {len(timed)} queries, one at a time, in ms per query; no thought: "
          f"{1000 * np.mean(seconds[NO_THOUGHT]):.0f}, without probes: "
          f"{1000 * np.mean(seconds[WHOLE]):.0f}")  # fmt: skip
    print("| tokens between probes | cosine | mean tokens | nDCG@10 | change | ms | time |")
    print("|---|---|---|---|---|---|---|")
    for step, cosine in SETTINGS:
        ends = [_settled(probe, step, cosine) for probe in probes]
        found = quality([probe[end] for probe, end in zip(probes, ends, strict=True)])
        label = "never settles" if cosine > 1 else f"{cosine}"
        own, all_of_it = np.mean(seconds[step, cosine]), np.mean(seconds[WHOLE])
        print(
            f"| {step} | {label} | {np.mean(ends):.1f} | {found:.4f} | {found - whole:+.4f} | "
            f"{1000 * own:.0f} | {own / all_of_it:.2f} |"
        )


def _document_vectors(model: T1, collection: Collection) -> np.ndarray:
    """Of the index that `t1 search` keeps of the collection, if there is one."""
    from t1_jax.hub import collection_folder

    stored = read_stored_index(default_index_folder(collection_folder(collection.name)))
    if stored is not None:
        table = stored.table
        if all(document.id in table.row_of for document in collection.documents):
            rows = [table.row_of[document.id] for document in collection.documents]
            return np.asarray(table.vectors[rows])
    texts = [document.full_text for document in collection.documents]
    return model.encode_document(texts, show_progress_bar=True)


def _probe(model: T1, texts: Sequence[str], max_thought_tokens: int) -> list[Probes]:
    """Embeddings of each thought every two tokens."""
    prompts = _prompts(model, texts)
    batch = _batch(model, prompts, max_thought_tokens, chunk_steps=2)
    found: list[Probes] = [{} for _ in texts]
    waiting, owner = list(range(len(texts))), {}
    while waiting or owner:
        while waiting and batch.free:
            number = waiting.pop(0)
            (thought,) = batch.insert(
                prompts[number], seed=0, samples=[0], max_thought_tokens=max_thought_tokens
            )
            owner[thought] = number
        for running, thought in batch.decode_chunk():
            found[owner.pop(running)][thought.reasoning_tokens] = thought.embedding
        for running, vector in batch.probe():
            found[owner[running]][len(running.tokens) - 1] = vector
    return found


def _seconds(
    model: T1, texts: Sequence[str], max_thought_tokens: int
) -> dict[tuple[int, float], list[float]]:
    """Seconds of each query with each setting; a query runs with all of them before the next."""
    prompts = _prompts(model, texts)
    batch = _batch(model, prompts, max_thought_tokens, chunk_steps=1)
    settings = [NO_THOUGHT, WHOLE, *SETTINGS]
    found: dict[tuple[int, float], list[float]] = {setting: [] for setting in settings}
    for number, (text, prompt) in enumerate(
        zip([texts[0], *texts], [prompts[0], *prompts], strict=True)
    ):
        turn = number % len(settings)
        for setting in settings[turn:] + settings[:turn]:
            started = time.perf_counter()
            if setting == NO_THOUGHT:
                model.encode_query(text, think=False)
            else:
                _think(batch, prompt, setting, max_thought_tokens)
            if number:  # the first compiles
                found[setting].append(time.perf_counter() - started)
    return found


def _think(
    batch: ContinuousBatch, prompt: Prompt, setting: tuple[int, float], max_thought_tokens: int
) -> None:
    """One thought from its prompt to its embedding, as the engine of the service decodes it."""
    step, cosine = setting
    (thought,) = batch.insert(prompt, seed=0, samples=[0], max_thought_tokens=max_thought_tokens)
    settling = Settling(cosine, probe_step=step)
    while not batch.decode_chunk():
        if step and settling.is_due(thought):
            ((_, vector),) = batch.probe()
            if settling.add(thought, vector):
                batch.end_with_probe(thought, vector, FinishReason.SETTLED)
                return


def _prompts(model: T1, texts: Sequence[str]) -> list[Prompt]:
    rows = tokenize_queries(
        model.tokenizer, model.preset, texts, max_tokens=model.options.max_query_tokens
    )
    return [
        Prompt(query_id=text, token_ids=row.ids.tolist())
        for text, row in zip(texts, rows, strict=True)
    ]


def _batch(
    model: T1, prompts: Sequence[Prompt], max_thought_tokens: int, *, chunk_steps: int
) -> ContinuousBatch:
    shapes = dataclasses.replace(model.options.shapes, max_rows=16, chunk_steps=chunk_steps)
    return model.sampler.continuous_batch(
        prefix_size=shapes.prefix_size(max(len(prompt.token_ids) for prompt in prompts)),
        max_thought_tokens=max_thought_tokens,
        sampling=SamplingParams(temperature=0.0),
        shapes=shapes,
    )


def _settled(probes: Probes, step: int, cosine: float) -> int:
    """The tokens after which a thought ends, as `Settling` would end it."""
    last: tuple[int, np.ndarray | None] = (0, None)
    *earlier, whole = probes
    for tokens in earlier:
        if tokens < last[0] + step:
            continue
        if last[1] is not None and float(last[1] @ probes[tokens]) >= cosine:
            return tokens
        last = tokens, probes[tokens]
    return whole


if __name__ == "__main__":
    main()
