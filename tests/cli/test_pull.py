import importlib.metadata
import shutil
import sysconfig
from pathlib import Path

import pytest

from t1_jax import hub
from t1_jax.retrieval.datasets import DATASETS

_RUFF = DATASETS["ruff"]
_needs_that_ruff = pytest.mark.skipif(
    importlib.metadata.version("ruff") != _RUFF.version,
    reason="the installed ruff is not the one that the collection is made from",
)


@pytest.fixture(scope="session")
def ruff_wheel(tmp_path_factory) -> Path:
    """The package `ruff` as it lies unzipped, from the one that lints this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    member = folder / _RUFF.member
    member.parent.mkdir(parents=True)
    shutil.copyfile(Path(sysconfig.get_path("scripts")) / "ruff", member)
    return folder


@_needs_that_ruff
def test_a_collection_is_built_once_and_repaired(t1, cache, ruff_wheel, monkeypatch):
    asked = []

    def fetch(requirement: str) -> Path:
        asked.append(requirement)
        return ruff_wheel

    monkeypatch.setattr("t1_jax.hub.collections.pull_package", fetch)
    answer = t1("pull", "ruff", "--json")
    assert answer.code == 0, answer.err
    (pulled,) = answer.json["pulled"]
    assert pulled["sha256"] == _RUFF.data_hash
    assert pulled["documents"] == 977
    assert pulled["queries"] == {"train": 649, "validation": 99, "test": 194}
    assert Path(pulled["path"]) == cache / "collections" / "ruff"

    assert t1("pull", "ruff").code == 0
    assert asked == [_RUFF.requirement]  # the second time it was there

    corpus = cache / "collections" / "ruff" / "corpus.jsonl"
    corpus.write_text(corpus.read_text()[:-500])
    answer = t1("pull", "ruff", "--json")
    assert answer.json["pulled"] == [pulled]
    assert len(asked) == 2


def test_a_model_from_either_source(t1, monkeypatch, tmp_path):
    asked = []

    def fetch(name: str, *, source: str, revision: str | None) -> Path:
        asked.append((name, source, revision))
        return tmp_path

    monkeypatch.setattr(hub, "pull_model", fetch)
    answer = t1("pull", "smollm2-135m-instruct", "--json")
    assert answer.json["pulled"][0]["sha256"] == hub.MODELS["smollm2-135m-instruct"].sha256
    assert t1("pull", "smollm2-135m-instruct", "--source", "hub").code == 0
    assert t1("pull", "some/model", "--source", "hub", "--revision", "main").code == 0
    assert t1("pull", "one/model", "other/model", "one/model", "--source", "hub").code == 0
    assert asked == [
        ("smollm2-135m-instruct", "packages", None),
        ("smollm2-135m-instruct", "hub", None),
        ("some/model", "hub", "main"),
        ("one/model", "hub", None),
        ("other/model", "hub", None),
    ]


def test_a_benchmark(t1, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(hub, "pull_benchmark", lambda spec: (asked.append(spec.name), tmp_path)[1])
    (tmp_path / "own.yaml").write_text("extends: bright-long\nname: own\n")
    answer = t1("pull", "bright", tmp_path / "own.yaml", "--json")
    assert answer.code == 0, answer.err
    assert asked == ["bright", "own"]
    assert answer.json["pulled"][0] | {"tasks": 0} == {
        "name": "bright",
        "kind": "benchmark",
        "path": str(tmp_path),
        "tasks": 0,
    }


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (
            (),
            "known are t1-smollm2-135m, smollm2-135m-instruct, cwe, ruff, as in: "
            "t1 pull t1-smollm2-135m",
        ),
        (("cwe", "--all"), "give names to pull, or --all"),
        (("rufff",), "did you mean 'ruff'?"),
        (("bright-lon",), "did you mean 'bright-long'?"),
        (("cwe", "rufff"), "did you mean 'ruff'?"),
        (("some/model",), "--source hub"),
        (("cwe", "--revision", "main"), "add --source hub"),
        (("--all", "--source", "hub"), "t1 pull OWNER/NAME --source hub"),
    ],
)
def test_bad_input(t1, given, named):
    answer = t1("pull", *given)
    assert answer.code == 2
    assert named in answer.err
