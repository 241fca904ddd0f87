"""`t1 compile` on a toy run: no data and no weights are read."""

from pathlib import Path

import jax
import pytest
import yaml

from t1_jax.train.ahead import Largest
from tests.train.toy_runs import S1, toy_fields


@pytest.fixture
def recipe(base_model: Path, tmp_path: Path) -> Path:
    jax.devices()  # JAX has started, so the command cannot change the devices of the other tests
    fields = toy_fields(tmp_path, {"s1": S1}, model={"path": str(base_model)})
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def test_it_says_what_fits(t1, recipe):
    answer = t1("compile", recipe, "--topology", "cpu-1", "--json")
    assert answer.code == 0
    assert "fits:" in answer.err
    assert "forward and backward, queries" in answer.err
    found = answer.json
    assert (found["topology"], found["chips"]) == ("cpu-1", 1)
    (stage,) = found["stages"]
    assert stage["fits"]
    assert stage["peak"] == max(
        sum(program[kind] for kind in ("arguments", "outputs", "temporary", "beside"))
        for program in stage["programs"]
    )


def test_what_is_wrong_is_said_before_anything_compiles(t1, recipe):
    assert "known chips are v5e" in t1("compile", recipe, "--topology", "v9-8").err
    assert "does not cover 2 devices" in t1(
        "compile", recipe, "--topology", "cpu-2", "mesh.data=1"
    ).err  # fmt: skip
    answer = t1("compile", recipe, "model.path=nowhere", "--topology", "cpu-1")
    assert (answer.code, "nowhere" in answer.err) == (2, True)


def test_a_search_needs_a_number_of_a_stage(t1, recipe):
    for setting in ("model.remat", "stages.s9.micro_batch.rows", "stages.s1.losses.sft"):
        answer = t1("compile", recipe, "--topology", "cpu-1", "--largest", setting)
        assert (answer.code, "stages.s1.micro_batch.rows" in answer.err) == (2, True)


def test_the_largest_value_that_fits(t1, recipe, monkeypatch):
    seen = []

    def found(config_with, start, step, shape, target, *, log):
        config = config_with(2 * start)
        seen.append((start, step, config.running, config.stages["s1"].micro_batch.rows))
        return Largest(value=2 * start, peak=2**20, tried={start: 2**19, 2 * start: 2**20})

    monkeypatch.setattr("t1_jax.train.ahead.find_largest", found)
    answer = t1(
        "compile", recipe, "--topology", "cpu-2", "mesh.data=2",
        "--largest", "stages.s1.micro_batch.rows", "--json",
    )  # fmt: skip
    assert (answer.code, seen) == (0, [(8, 2, ("s1",), 16)])
    assert "stages.s1.micro_batch.rows: up to 16 fits cpu-2, 1 MiB of 16.0 GiB" in answer.err
    assert answer.json["tried"] == {"8": 2**19, "16": 2**20}
