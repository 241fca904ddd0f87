"""The plan: what runs, in which order, within which time; told without JAX."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.plan import PARTS, TOTAL_SECONDS, chosen, limit_of, plan_table

ROOT = Path(__file__).parents[3]


def test_every_part_has_a_program_and_may_use_its_limit():
    for part in PARTS:
        assert importlib.util.find_spec(f"benchmarks.gpu.parts.{part.name}") is not None
    fixed = [part.seconds for part in PARTS if not part.takes_the_rest]
    assert sum(fixed) <= TOTAL_SECONDS <= 9 * 60


def test_correctness_comes_first_and_training_last():
    groups = [part.group for part in PARTS]
    assert groups == sorted(groups, key=["correctness", "speed", "training"].index)
    assert [part.takes_the_rest for part in PARTS] == [False] * (len(PARTS) - 1) + [True]


def test_parts_are_picked_by_name_or_group_and_keep_their_order():
    assert [part.name for part in chosen(["training", "machine"])] == ["machine", "training"]
    assert {part.group for part in chosen(["speed"])} == {"speed"}
    assert chosen([]) == PARTS
    with pytest.raises(ValueError, match="unknown parts: sped; known: attention"):
        chosen(["sped"])


def test_a_limit_never_exceeds_what_is_left():
    machine, training = PARTS[0], PARTS[-1]
    assert limit_of(machine, 500.0) == machine.seconds
    assert limit_of(machine, 3.0) == 3.0
    assert limit_of(training, 300.0) == 300.0
    assert limit_of(machine, 500.0, toy=True) > machine.seconds


def test_the_plan_is_told_on_a_machine_without_jax():
    code = "import sys; sys.modules['jax'] = sys.modules['numpy'] = None\n"
    code += "import runpy; sys.argv = ['check', '--plan', '--only', 'correctness']\n"
    code += "runpy.run_module('benchmarks.gpu', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == plan_table(chosen(["correctness"])), done.stderr
