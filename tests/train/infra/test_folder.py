"""A run's folder tells one story, and never that of two runs at once."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from t1_jax.config import load_config
from t1_jax.errors import ConfigError, DataError, T1Error
from t1_jax.train.infra import RunFolder, versions


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage.

    Attributes:
        rate: of learning.
    """

    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run.

    Attributes:
        steps: how many.
        minutes: at most.
        stages: by name.
    """

    steps: int = 3
    minutes: float | None = None
    stages: dict[str, Stage] = field(default_factory=lambda: {"s1": Stage()})


def test_a_new_folder_says_what_is_run_and_with_what(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "run", Run(steps=7))
    assert load_config(Run, folder.path / "config.yaml") == Run(steps=7)
    found = json.loads((folder.path / "versions.json").read_text())
    assert found == versions()
    assert found["jax"] == jax.__version__
    assert found["platform"] == "cpu"
    assert found["devices"] == 8
    for name in ("python", "t1_jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy"):
        assert found[name]
    assert found["commit"] is None or len(found["commit"].removesuffix("-dirty")) == 40


def test_the_same_config_takes_the_folder_up_again(tmp_path: Path) -> None:
    RunFolder(tmp_path, Run()).record(1, {"loss": 2.0})
    again = RunFolder(tmp_path, Run())
    again.record(2, {"loss": 1.0})
    assert [line["step"] for line in again.metrics()] == [1, 2]
    assert not list(tmp_path.glob("config.before-*"))


def test_another_config_is_refused_with_what_differs(tmp_path: Path) -> None:
    RunFolder(tmp_path, Run())
    other = Run(steps=4, stages={"s1": Stage(rate=2.0), "s2": Stage()})
    with pytest.raises(ConfigError) as caught:
        RunFolder(tmp_path, other)
    for part in (
        "steps was 3, is 4",
        "stages.s1.rate was 1.0, is 2.0",
        "stages.s2 was None, is {'rate': 1.0}",
    ):
        assert part in caught.value.message
    assert "resume=true" in (caught.value.hint or "")
    assert load_config(Run, tmp_path / "config.yaml") == Run()


def test_free_keys_may_differ(tmp_path: Path) -> None:
    RunFolder(tmp_path, Run())
    RunFolder(tmp_path, Run(minutes=5.0), free=["minutes"]).commit()
    with pytest.raises(ConfigError, match="config: steps was 3, is 4\n"):
        RunFolder(tmp_path, Run(minutes=9.0, steps=4), free=["minutes"])


def test_resuming_with_another_config_keeps_the_former(tmp_path: Path) -> None:
    RunFolder(tmp_path, Run()).record(1, {"loss": 2.0})
    for steps in (4, 5):
        folder = RunFolder(tmp_path, Run(steps=steps), resume=True)
        folder.commit()
    assert load_config(Run, tmp_path / "config.yaml") == Run(steps=5)
    assert load_config(Run, tmp_path / "config.before-1.yaml") == Run(steps=3)
    assert load_config(Run, tmp_path / "config.before-2.yaml") == Run(steps=4)
    assert len(folder.metrics()) == 1
    RunFolder(tmp_path, Run(steps=6), resume=True)  # and refused by something else after that
    assert load_config(Run, tmp_path / "config.yaml") == Run(steps=5)


def test_resuming_with_other_packages_keeps_the_former_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder(tmp_path, Run())
    monkeypatch.setattr("t1_jax.train.infra.folder.versions", lambda: {"jax": "another"})
    RunFolder(tmp_path, Run()).commit()
    RunFolder(tmp_path, Run()).commit()
    assert json.loads((tmp_path / "versions.json").read_text()) == {"jax": "another"}
    assert json.loads((tmp_path / "versions.before-1.json").read_text()) == versions()
    assert not (tmp_path / "versions.before-2.json").exists()


def test_overwriting_begins_anew_and_keeps_the_former_run_until_it_is_dropped(
    tmp_path: Path,
) -> None:
    (tmp_path / "run.before-1").mkdir()
    RunFolder(tmp_path / "run", Run()).record(1, {"loss": 2.0})
    folder = RunFolder(tmp_path / "run", Run(steps=4), overwrite=True)
    assert folder.metrics() == []
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.yaml", "versions.json"]
    assert folder.overwritten == tmp_path / "run.before-2"
    assert (tmp_path / "run.before-2/metrics.jsonl").exists()
    folder.drop_overwritten()
    folder.drop_overwritten()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.before-1"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(T1Error, match="not the folder of a run"):
        RunFolder(tmp_path, Run(), resume=True, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_numbers_of_every_kind_are_logged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, Run())
    folder.record(1, {"loss": float("nan"), "n": 3, "x": float(np.float32(0.5)), "stage": "s1"})
    (line,) = folder.metrics()
    del line["time"]
    assert line == {"step": 1, "loss": None, "n": 3, "x": 0.5, "stage": "s1"}


def test_what_was_logged_after_the_restored_step_is_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, Run())
    for step in range(1, 6):
        folder.record(step, {"loss": float(step)})
        folder.write_thoughts(step, [{"query_id": "q", "text": f"é {step}\u2028"}])
    folder.truncate_logs(3)
    folder.record(4, {"loss": 40.0})
    assert [(line["step"], line["loss"]) for line in folder.metrics()] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 40.0),
    ]
    assert folder.thoughts() == [
        {"step": step, "query_id": "q", "text": f"é {step}\u2028"} for step in (1, 2, 3)
    ]


def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, Run())
    folder.record(1, {"loss": 1.0, "stage": "a\u2028b"})
    folder.write_thoughts(1, [{"query_id": "q"}])
    for log in (folder.metrics_file, folder.thoughts_file):
        with log.open("a") as file:
            file.write('{"step": 2, "lo')
    assert [line["step"] for line in folder.metrics()] == [1]
    again = RunFolder(tmp_path, Run())
    again.commit()
    again.record(2, {"loss": 2.0})
    again.write_thoughts(2, [{"query_id": "q"}])
    assert [line["step"] for line in again.metrics()] == [1, 2]
    assert [line["step"] for line in again.thoughts()] == [1, 2]


def test_other_data_is_refused(tmp_path: Path) -> None:
    facts = {"cwe": {"sha256": "ab", "records": 3}, "leaks": {"removed": 0}}
    RunFolder(tmp_path, Run()).write_data(facts)
    RunFolder(tmp_path, Run()).write_data(facts)
    assert json.loads((tmp_path / "data.json").read_text()) == facts
    with pytest.raises(DataError, match=r"other data: cwe\.sha256 was 'ab', is 'cd'"):
        RunFolder(tmp_path, Run()).write_data(facts | {"cwe": {"sha256": "cd", "records": 3}})


def test_other_processes_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    folder = RunFolder(tmp_path / "run", replace(Run()))
    folder.record(1, {"loss": 1.0})
    folder.write_data({})
    folder.write_thoughts(1, [])
    folder.truncate_logs(0)
    assert not (tmp_path / "run").exists()
    assert folder.metrics() == []


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, Run())
    folder.metrics_file.mkdir()
    folder.thoughts_file.mkdir()
    with pytest.raises(T1Error, match=r"metrics\.jsonl could not be written"):
        folder.record(1, {"loss": 1.0})
    with pytest.raises(T1Error, match=r"thoughts\.jsonl could not be written"):
        folder.write_thoughts(1, [{"query_id": "q"}])
