"""Data of benchmarks: fetched from the hub only on request, at the pinned commit."""

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from t1_jax.errors import ConfigError, DataError
from t1_jax.hub import benchmark_folder, locate_benchmark, pull_benchmark
from t1_jax.retrieval.benchmarks import BenchmarkData, load_benchmark

PINNED = "3066d29c9651a576c8aba4832d249807b181ecae"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("T1_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Hub:
    """Stands in for huggingface_hub.snapshot_download."""

    def __init__(self, commit: str, files: int) -> None:
        self.commit, self.files = commit, files
        self.calls: list[tuple[str, dict]] = []

    def __call__(self, repository: str, *, dry_run: bool = False, **options):
        if dry_run:
            return [SimpleNamespace(commit_hash=self.commit)] * self.files
        self.calls.append((repository, options))
        options["local_dir"].mkdir(parents=True, exist_ok=True)
        return str(options["local_dir"])


@pytest.fixture
def hub(monkeypatch):
    def install(commit: str = PINNED, files: int = 1) -> Hub:
        fake = Hub(commit, files)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
        return fake

    return install


def test_bright_is_fetched_at_its_commit_with_rewritten_queries(cache, hub):
    fake, bright = hub(), load_benchmark("bright")
    folder = pull_benchmark(bright)
    assert folder == cache / "benchmarks" / "xlangai--BRIGHT" / PINNED == benchmark_folder(bright)
    ((repository, options),) = fake.calls
    assert (repository, options["repo_type"], options["revision"]) == (
        "xlangai/BRIGHT",
        "dataset",
        PINNED,
    )
    assert options["allow_patterns"] == [
        "examples/*.parquet",
        "*_reason/*.parquet",
        "documents/*.parquet",
    ]
    assert BenchmarkData(benchmark=bright, folder=folder).revisions == {"xlangai/BRIGHT": PINNED}
    assert locate_benchmark(bright, "bright") == folder
    assert benchmark_folder(load_benchmark("bright-long")) == folder
    assert benchmark_folder(load_benchmark("bright-mteb")) != folder


def test_each_data_set_of_nanobeir_has_a_folder_and_a_commit(cache, hub):
    fake, nano = hub("f" * 40), load_benchmark("nanobeir")
    folder = pull_benchmark(nano)
    assert len(fake.calls) == 13
    assert fake.calls[0][0] == "zeta-alpha-ai/NanoArguAna"
    assert fake.calls[0][1]["local_dir"] == folder / "NanoArguAna"
    revisions = BenchmarkData(benchmark=nano, folder=folder).revisions
    assert revisions["zeta-alpha-ai/NanoTouche2020"] == "f" * 40


def test_failures(monkeypatch, hub):
    bright = load_benchmark("bright")
    hub(files=0)
    with pytest.raises(DataError, match="xlangai/BRIGHT has none of the files examples"):
        pull_benchmark(bright)

    def offline(*args: object, **options: object) -> None:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(DataError, match="the download of xlangai/BRIGHT from the hub failed: no"):
        pull_benchmark(bright)


def test_nothing_is_fetched_unasked(tmp_path):
    bright = load_benchmark("bright")
    with pytest.raises(DataError, match="the data of BRIGHT are not in") as caught:
        locate_benchmark(bright, "bright")
    assert caught.value.hint == "t1 pull bright"
    with pytest.raises(DataError, match="nowhere is not a folder"):
        locate_benchmark(bright, "bright", Path("nowhere"))
    assert locate_benchmark(bright, "bright", tmp_path) == tmp_path


def test_data_of_ones_own_are_in_a_folder(tmp_path):
    (tmp_path / "own.yaml").write_text("name: own\ntitle: Own\nlayout: beir\ntasks: {bugs: {}}")
    own = load_benchmark(tmp_path / "own.yaml")
    with pytest.raises(DataError, match="not on the hub") as caught:
        locate_benchmark(own, "own.yaml")
    assert caught.value.hint == "add --data FOLDER"
    with pytest.raises(ConfigError, match="not on the hub"):
        pull_benchmark(own)
