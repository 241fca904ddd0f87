"""Rewards by name and by place, their sum, and errors for anything else."""

from typing import Any

import numpy as np
import pytest

from t1_jax.config import load_config, undocumented_fields
from t1_jax.errors import ConfigError, DataError, T1Error
from t1_jax.train.rewards import (
    RewardConfig,
    RewardContext,
    RewardOptions,
    compute_rewards,
    register_reward,
    reward_names,
)
from tests.train.rewards.toys import context, outcome, record, thought

HERE = "tests.train.rewards.test_registry"
WHERE = outcome([[1], [10]], scores=[[0.8], [0.4]], negatives=[0.2])


def token_count(context: RewardContext) -> np.ndarray:
    return np.array([[float(t.reasoning_tokens) for t in group] for group in context.thoughts])


def beyond_nothink(context: RewardContext) -> np.ndarray:
    assert context.nothink is not None
    return context.outcome.positive_scores[..., 0] - context.nothink.positive_scores[..., 0]


def test_the_total_is_the_weighted_sum_of_the_terms():
    found = compute_rewards(context(WHERE), RewardConfig())
    assert list(found.terms) == ["format", "length", "log_rank", "gap"]
    np.testing.assert_allclose(found.total, [[0.5 + 0.2 + 1.0 + 0.3, 0.5 + 0.2 + 0.5 + 0.1]])
    np.testing.assert_allclose(found.terms["log_rank"], [[1.0, 0.5]])


def test_options_are_those_of_the_config():
    config = RewardConfig(terms={"ndcg": 1.0}, ndcg_k=5)
    assert compute_rewards(context(WHERE), config).total.tolist() == [[1.0, 0.0]]


def test_a_reward_of_ones_own_by_name_and_by_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("t1_jax.train.rewards.registry._REGISTRY", {})
    assert register_reward("tokens")(token_count) is token_count
    register_reward("tokens")(token_count)  # a notebook's cell, run again
    assert reward_names() == ("tokens",)
    for name in ("tokens", f"{HERE}:token_count"):
        found = compute_rewards(context(WHERE), RewardConfig(terms={name: 2.0}))
        assert found.total.tolist() == [[6.0, 6.0]]
        assert not RewardConfig(terms={name: 2.0}).needs_nothink
    register_reward("beyond", needs_nothink=True)(beyond_nothink)
    for name in ("beyond", f"{HERE}:beyond_nothink"):
        assert RewardConfig(terms={name: 1.0}).needs_nothink
    with pytest.raises(ConfigError, match=f"'tokens' is registered already, as {HERE}"):
        register_reward("tokens")(lambda context: token_count(context))
    with pytest.raises(ConfigError, match="has a colon"):
        register_reward("a:b")


def test_the_default_is_documented_and_a_file_may_change_it():
    assert undocumented_fields(RewardConfig) == []
    config = load_config(RewardConfig, overrides=["terms.gap=0", "terms.ndcg=1", "ndcg_k=5"])
    assert dict(config.weights) == {"format": 0.5, "length": 0.2, "log_rank": 1.0, "ndcg": 1.0}
    assert not config.needs_nothink
    assert RewardConfig(terms={"gain": 1.0}).needs_nothink


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"logrank": 1.0}, "unknown reward 'logrank'\n  hint: did you mean 'log_rank'"),
        ({"no_such_module:f": 1.0}, "module 'no_such_module' cannot be imported"),
        ({f"{HERE}:nothing": 1.0}, "has no function 'nothing'"),
        ({f"{HERE}:HERE": 1.0}, "test_registry.py has no function, but a value, 'HERE'"),
        ({":f": 1.0}, "cannot be imported"),
        ({"gap": float("nan")}, "the weight of the reward 'gap' is nan"),
        ({"gap": 0.0}, "no reward has a weight"),
    ],
)
def test_wrong_terms_are_refused_with_the_config(terms: dict[str, float], message: str):
    with pytest.raises(ConfigError, match=message):
        RewardConfig(terms=terms)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ndcg_k": 0}, "ndcg_k must be at least 1"),
        ({"length_target": 0}, "length_target must be at least 1"),
        ({"repetition_ngram": 0}, "repetition_ngram"),
        ({"gain_of": "rank"}, "unknown gain_of 'rank'"),
    ],
)
def test_wrong_options_are_refused(change: dict[str, Any], message: str):
    for config in (RewardOptions, RewardConfig):
        with pytest.raises(ConfigError, match=message):
            config(**change)


def returns_nan(context: RewardContext) -> np.ndarray:
    return np.array([[0.0, np.nan]])


def returns_the_wrong_shape(context: RewardContext) -> np.ndarray:
    return np.zeros(2)


def returns_whole_numbers(context: RewardContext) -> np.ndarray:
    return np.zeros(context.shape, np.int64)


def returns_a_list(context: RewardContext) -> np.ndarray:
    return [[0.0, 0.0]]  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("returns_nan", r"returned nan for thought 1 of query 'q0'"),
        ("returns_the_wrong_shape", r"returned float64\[2\], not float\[1, 2\]"),
        ("returns_whole_numbers", r"returned int64\[1, 2\]"),
        ("returns_a_list", "returned list"),
    ],
)
def test_what_is_no_reward_is_refused(function: str, message: str):
    config = RewardConfig(terms={"gap": 1.0, f"{HERE}:{function}": 1.0})
    line = globals()[function].__code__.co_firstlineno
    where = rf"{function}' \(.*test_registry.py:{line}\) "
    with pytest.raises(T1Error, match=where + message):
        compute_rewards(context(WHERE), config)


def writes_to_the_scores(context: RewardContext) -> np.ndarray:
    context.outcome.positive_scores[:] = 1.0
    return np.zeros(context.shape)


def writes_to_a_vector(context: RewardContext) -> np.ndarray:
    context.thoughts[0][1].embedding[:] = 0.0
    return np.zeros(context.shape)


def writes_to_the_nothink_ranks(context: RewardContext) -> np.ndarray:
    assert context.nothink is not None
    context.nothink.positive_ranks[:] = 1
    return np.zeros(context.shape)


@pytest.mark.parametrize(
    "function", ["writes_to_the_scores", "writes_to_a_vector", "writes_to_the_nothink_ranks"]
)
def test_a_reward_cannot_change_what_others_read(function: str):
    given = context(WHERE, nothink=outcome([[3]]))
    config = RewardConfig(terms={f"{HERE}:{function}": 1.0, "gap": 1.0})
    raised = rf"{function}' raised ValueError: .*read-only \(.*test_registry.py:\d+\)"
    with pytest.raises(T1Error, match=raised):
        compute_rewards(given, config)
    assert given.outcome.positive_scores.flags.writeable  # the caller's own stay as they were


def test_a_context_is_of_one_size():
    with pytest.raises(
        DataError, match="1 queries with 2 thoughts each, but 1 records and 1 groups"
    ):
        context(WHERE, thoughts=[thought([1])])
    with pytest.raises(DataError, match="but 2 records"):
        RewardContext(
            thoughts=[[thought([1])] * 2],
            records=[record(), record("q1")],
            outcome=WHERE,
            max_thought_tokens=4,
        )
    with pytest.raises(DataError, match=r"without a thought must be of \(1, 1\), got \(1, 2\)"):
        context(WHERE, nothink=WHERE)
