import shutil
from pathlib import Path

import pytest

from t1_jax.text import T1Tokenizer
from tests.train.toy_runs import write_model, write_zoo, write_zoo_records
from tests.train.toy_stages import ToyStages


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: T1Tokenizer) -> Path:
    """A model, a collection and its training records."""
    root = tmp_path_factory.mktemp("toys")
    write_model(root / "model", tiny_tokenizer)
    write_zoo(root / "zoo")
    write_zoo_records(root / "zoo.jsonl")
    return root


@pytest.fixture
def toys(toy_files: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    return Path(shutil.copytree(toy_files, tmp_path / "toys"))


@pytest.fixture(scope="session")
def toy(toy_files: Path) -> ToyStages:
    """Stages of a student that is loaded once."""
    return ToyStages(toy_files)
