"""A tiny benchmark in BRIGHT's layout."""

from pathlib import Path

import pytest

from t1_jax.retrieval.benchmarks import Benchmark, load_benchmark
from tests.retrieval.benchmarks.bright_files import TINY, write_bright


@pytest.fixture
def bright_folder(tmp_path: Path) -> Path:
    return write_bright(tmp_path / "bright")


@pytest.fixture
def tiny(tmp_path: Path) -> Benchmark:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return load_benchmark(tmp_path / "tiny.yaml")
