from pathlib import Path

import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.hub import open_collection, pull_collection
from t1_jax.retrieval import Collection, Document, Query, load_collection, save_collection


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("T1_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    collection = Collection(
        name="pets",
        documents=(Document(id="cat", text="it purrs"), Document(id="dog", text="it barks")),
        queries=(Query(id="who-purrs", text="who purrs?"),),
        qrels={"who-purrs": {"cat": 1}},
    )
    save_collection({"test": collection}, tmp_path / "pets")
    return tmp_path / "pets"


def test_a_fetched_collection_is_opened_by_name(cache, pets):
    save_collection({"test": load_collection(pets)}, cache / "collections" / "cwe")
    assert open_collection("cwe").name == "pets"


def test_a_folder_is_opened_by_its_path(pets):
    assert len(open_collection(str(pets)).queries) == 1
    with pytest.raises(DataError, match="choose one of test"):
        open_collection(str(pets), "dev")


def test_what_is_not_here_is_never_fetched():
    with pytest.raises(DataError, match="t1 pull ruff"):
        open_collection("ruff")
    with pytest.raises(DataError, match="did you mean 'ruff'"):
        open_collection("rufff")
    with pytest.raises(ConfigError, match="unknown collection 'pets'"):
        pull_collection("pets")
