"""`t1 compile` on a toy run: no data and no weights are read."""

from pathlib import Path

import jax
import pytest
import yaml

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
