"""Users' rewards that cannot be used are named with file and line when the config is read."""

import functools
from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import ConfigError, T1Error
from t1_jax.train.rewards import RewardConfig, RewardContext, compute_rewards, register_reward
from tests.train.rewards.toys import context, outcome

WHERE = outcome([[1], [10]])


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Writes a module and returns its name, another one in each test."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        name = f"reward_{abs(hash(request.node.name))}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def f(context):\n    return (1\n", r"SyntaxError: .* \({file}:2\)"),
        ("def f(context):\nreturn 1\n", r"IndentationError: .* \({file}:2\)"),
        ("x = 1\nimport not_installed_at_all\n", r"No module named .* \({file}:2\)"),
        ("from math import no_such_name\n", r"ImportError: cannot import name .* \({file}:1\)"),
        ("\n\nwrong_name\n", r"NameError: name 'wrong_name' .* \({file}:3\)"),
        ("import json\n\njson.loads('')\n", r"JSONDecodeError: .* \({file}:3\)"),
        ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \({file}:2\)"),
        ("def f():\n    pass\n", r"cannot be called with one argument: .* \({file}:1\)"),
        ("\ndef f(context, weight):\n    pass\n", r"argument: missing .*'weight' \({file}:2\)"),
        ("def g(context):\n    pass\n", r"{file} has no function 'f'"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_or_called(module, tmp_path: Path, source: str, told: str):
    name = module(source)
    file = str(tmp_path / f"{name}.py").replace(".", r"\.")
    with pytest.raises(ConfigError, match=f"the reward '{name}:f': .*" + told.format(file=file)):
        RewardConfig(terms={f"{name}:f": 1.0})


def test_a_missing_package_is_told_from_a_misspelled_module(module):
    with pytest.raises(ConfigError, match="spelling; no_such_package must be beside the config"):
        RewardConfig(terms={"no_such_package.module:f": 1.0})
    with pytest.raises(ConfigError, match="hint: install not_installed_at_all"):
        RewardConfig(terms={f"{module('import not_installed_at_all')}:f": 1.0})


def test_what_it_raises_later_is_named_where_the_user_wrote_it(module, tmp_path: Path):
    name = module(
        "import numpy as np\n\ndef f(context):\n"
        "    return helper(context)\n\ndef helper(context):\n"
        "    return np.zeros(context.shape).reshape(7)\n"
    )
    with pytest.raises(T1Error, match=rf"'{name}:f' raised ValueError: .* \(.*{name}\.py:7\)"):
        compute_rewards(context(WHERE), RewardConfig(terms={f"{name}:f": 1.0}))


def scaled(context: RewardContext, scale: float) -> np.ndarray:
    return np.full(context.shape, scale)


def test_signatures_of_what_is_registered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("t1_jax.train.rewards.registry._REGISTRY", {})
    with pytest.raises(ConfigError, match="the reward 'scaled': .* missing a required argument"):
        register_reward("scaled")(scaled)  # pyright: ignore[reportArgumentType]
    register_reward("twice")(functools.partial(scaled, scale=2.0))
    found = compute_rewards(context(WHERE), RewardConfig(terms={"twice": 1.0}))
    assert found.total.tolist() == [[2.0, 2.0]]
