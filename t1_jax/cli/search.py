"""`t1 search`: think about a query, and find documents in an index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    Budget,
    CollectionName,
    Dtype,
    Instruction,
    Model,
    Preset,
    Seed,
    Task,
    Temperature,
    Thoughts,
    TopP,
)
from t1_jax.cli.output import Output

if TYPE_CHECKING:
    from t1_jax.retrieval import Collection, Fingerprint

_TITLE_CHARACTERS = 80


def search(
    index: Annotated[Path, typer.Argument(help="An index, or vectors that `t1 encode` wrote.")],
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Documents to show.")] = 10,
    n: Thoughts = 1,
    budget: Budget = None,
    think: Annotated[
        bool, typer.Option("--think/--no-think", help="Whether to think before searching.")
    ] = True,
    show_thought: Annotated[
        bool, typer.Option("--show-thought", help="Print the thoughts too.")
    ] = False,
    collection: CollectionName = None,
    model: Model = DEFAULT_MODEL,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    task: Task = None,
    instruction: Instruction = None,
    preset: Preset = None,
    dtype: Dtype = "bfloat16",
    as_json: AsJson = False,
) -> None:
    """Think about the query, and show the documents whose vectors are nearest.

    An index made by another model, prompt or dtype is refused. Titles are shown where the
    collection is here; name your own with --collection.

    Example: t1 search runs/cwe-index "a form field is copied into a page unescaped" --show-thought
    """
    from t1_jax.cli.model import check_task, document_fingerprint
    from t1_jax.cli.texts import given_queries
    from t1_jax.cli.think import show_thoughts, thought_fields
    from t1_jax.generate import SamplingOptions
    from t1_jax.retrieval import load_index, read_manifest
    from t1_jax.retriever import T1

    out = Output(as_json)
    given_queries([query], None)
    sampling = SamplingOptions(temperature=temperature, top_p=top_p, seed=seed)
    stated = read_manifest(index).fingerprint
    texts = _texts(collection, stated)
    loaded = T1.load(model, dtype=dtype, preset=preset)
    check_task(loaded, task)
    data_hash = stated.data if texts is None else texts.data_hash
    found = load_index(index, document_fingerprint(loaded, data_hash))
    if texts is not None and task is None and instruction is None:
        task = texts.name
    vectors, thoughts = loaded.encode_query(
        [query],
        n_thoughts=n,
        budget=budget,
        return_thoughts=True,
        think=think,
        task=task,
        instruction=instruction,
        sampling=sampling,
    )
    ranked = found.search(vectors, k).to_run(["query"], found.ids)["query"]
    if show_thought:
        show_thoughts(out, query, thoughts[0])
    titles = {name: _title(texts, name) for name in ranked}
    out.table(
        ("rank>", "score>", "document", "title"),
        [
            (str(rank), f"{score:.4f}", name, titles[name])
            for rank, (name, score) in enumerate(ranked.items(), 1)
        ],
    )
    out.result(
        {
            "query": query,
            "thoughts": [thought_fields(thought) for thought in thoughts[0]],
            "results": [
                {"rank": rank, "id": name, "score": score, "title": titles[name]}
                for rank, (name, score) in enumerate(ranked.items(), 1)
            ],
        }
    )


def _texts(collection: str | None, stated: "Fingerprint") -> "Collection | None":
    """The documents behind the index: those named, or a known collection that is here."""
    from t1_jax.hub import known_collection, open_collection

    if collection is not None:
        return open_collection(collection)
    return known_collection(stated.data)


def _title(texts: "Collection | None", document_id: str) -> str:
    if texts is None:
        return ""
    return texts.documents_by_id[document_id].full_text.splitlines()[0][:_TITLE_CHARACTERS]
