"""Rotary fields: resolved to the very numbers that transformers computes with."""

import math

import pytest
import transformers

from t1_jax.hub.hf_rope import rope_from_hf, rope_to_hf
from t1_jax.model import RopeConfig

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
POSITIONS = {"max_position_embeddings": 1024}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, 0.1 * math.log(4) + 1),
        ({"attention_factor": 1.25}, 1.25),
        (
            {"mscale": 0.7, "mscale_all_dim": 1.3},
            (0.07 * math.log(4) + 1) / (0.13 * math.log(4) + 1),
        ),
        ({"mscale": 0.7}, 0.1 * math.log(4) + 1),
        ({"factor": 1.0}, 1.0),
    ],
    ids=str,
)
def test_yarns_attention_factor_is_resolved(extra: dict[str, float], expected: float) -> None:
    rope = rope_from_hf({"rope_theta": 1e6, "rope_scaling": {**YARN, **extra}, **POSITIONS})
    assert rope.attention_factor == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "extra",
    [{}, {"attention_factor": 1.25}, {"mscale": 0.7, "mscale_all_dim": 1.3}, {"factor": None}],
    ids=str,
)
def test_yarn_agrees_with_transformers(extra: dict[str, float]) -> None:
    pytest.importorskip("torch")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = {**YARN, **extra}
    theirs = transformers.Qwen3Config(
        rope_parameters={"rope_theta": 1e6, **scaling}, max_position_embeddings=1536, head_dim=16
    )
    _, attention_factor = ROPE_INIT_FUNCTIONS["yarn"](theirs)
    ours = rope_from_hf(
        {"rope_theta": 1e6, "rope_scaling": scaling, "max_position_embeddings": 1536}
    )
    assert ours.attention_factor == pytest.approx(attention_factor, rel=1e-12)


def test_yarns_defaults_are_transformers_defaults() -> None:
    rope = rope_from_hf({"rope_theta": 1e6, "rope_scaling": YARN, **POSITIONS})
    assert (rope.beta_fast, rope.beta_slow, rope.truncate) == (32.0, 1.0, True)


def test_the_original_context_defaults_to_the_stated_one() -> None:
    scaling = {"rope_type": "yarn", "factor": 2.0}
    rope = rope_from_hf({"rope_theta": 1e6, "rope_scaling": scaling, **POSITIONS})
    assert rope.original_max_positions == 1024


def test_the_old_name_of_the_type_is_understood() -> None:
    old = {"type": "linear", "factor": 2.0}
    assert rope_from_hf({"rope_theta": 1e4, "rope_scaling": old}).kind == "linear"


def test_both_layouts_are_written() -> None:
    fields = rope_to_hf(RopeConfig(theta=7.0, kind="linear", factor=3.0))
    assert fields["rope_theta"] == 7.0
    assert fields["rope_scaling"] == {"rope_type": "linear", "factor": 3.0}
    assert fields["rope_parameters"] == {"rope_theta": 7.0, "rope_type": "linear", "factor": 3.0}
    assert rope_to_hf(RopeConfig(theta=7.0))["rope_scaling"] is None
