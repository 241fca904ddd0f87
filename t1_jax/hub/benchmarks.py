"""The data of benchmarks: fetched by `t1 pull` at the pinned commit, or in a folder of the user."""

from pathlib import Path

from t1_jax.errors import ConfigError, DataError
from t1_jax.hub.pull import cache_folder, pull_lock
from t1_jax.retrieval.benchmarks import EXAMPLES, Benchmark, write_source


def benchmark_folder(benchmark: Benchmark) -> Path:
    """Where `pull_benchmark` writes the data; benchmarks with the same commit share it."""
    folder = cache_folder() / "benchmarks"
    if benchmark.dataset is None:
        return folder / benchmark.name
    return folder / benchmark.dataset.replace("/", "--") / (benchmark.revision or "newest")


def locate_benchmark(benchmark: Benchmark, name: str, folder: Path | None = None) -> Path:
    """The folder with the data: the given one, or else that of `t1 pull`; nothing is fetched.

    `name` is how the user calls the benchmark.

    Raises:
        DataError: the folder does not exist; the hint is the command that fetches it.
    """
    if folder is not None:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder", hint="check --data")
        return folder
    if not _repositories(benchmark):
        raise DataError(
            f"the data of {benchmark.title} are not on the hub", hint="add --data FOLDER"
        )
    cached = benchmark_folder(benchmark)
    if not cached.is_dir():
        raise DataError(
            f"the data of {benchmark.title} are not in {cache_folder()}", hint=f"t1 pull {name}"
        )
    return cached


def pull_benchmark(benchmark: Benchmark) -> Path:
    """Downloads the data of a benchmark from the Hugging Face hub, and returns their folder.

    Rewritten queries come along. Files that are there are not downloaded again, and interrupted
    downloads are resumed.

    Raises:
        ConfigError: the data are not on the hub.
        DataError: the download failed.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    folder = benchmark_folder(benchmark)
    repositories = _repositories(benchmark)
    if not repositories:
        raise ConfigError(
            f"the data of {benchmark.title} are not on the hub",
            hint="leave it out: `t1 evaluate --data` reads them from a folder",
        )
    for repository, subfolder in repositories:
        options = {
            "repo_type": "dataset",
            "local_dir": folder / subfolder,
            "allow_patterns": _patterns(benchmark),
        }
        try:
            with pull_lock(f"benchmark-{repository}"):
                files = snapshot_download(
                    repository, revision=benchmark.revision, dry_run=True, **options
                )
                if not files:
                    raise DataError(
                        f"{repository} has none of the files {', '.join(_patterns(benchmark))}"
                    )
                commit = files[0].commit_hash
                snapshot_download(repository, revision=commit, **options)
                write_source(folder, {repository: commit})
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise DataError(
                f"the download of {repository} from the hub failed: {error}",
                hint="check the connection, then run the command again",
            ) from error
    return folder


def _repositories(benchmark: Benchmark) -> list[tuple[str, str]]:
    """Each repository of a benchmark with its subfolder; empty for data that are not on the hub."""
    of_tasks = [(task.dataset, name) for name, task in benchmark.tasks.items() if task.dataset]
    return [(benchmark.dataset, "."), *of_tasks] if benchmark.dataset else of_tasks


def _patterns(benchmark: Benchmark) -> list[str]:
    if benchmark.layout == "bright":
        folders = [EXAMPLES, "*_reason", benchmark.documents]
    elif benchmark.layout == "beir-parquet":
        folders = ["corpus", "queries", "qrels"]
    else:
        return ["*"]
    return [f"{name}/*.parquet" for name in folders]
