"""Every field of the config changes the computation, or is refused."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.model import DecoderConfig, RopeConfig
from t1_jax.model.rotary import rotary_tables
from tests.model.tiny import TINY, build, tiny, tokens

LLAMA3 = RopeConfig(
    theta=100.0, kind="llama3", factor=8.0, original_max_positions=64, low_freq_factor=0.5
)
YARN = RopeConfig(
    theta=100.0, kind="yarn", factor=4.0, original_max_positions=64, beta_fast=4.0, beta_slow=0.7
)

# Field -> another value for it. A new field without an entry fails.
CHANGED: dict[str, Any] = {
    "family": UnsupportedError,  # the export's name; here it is only known or unknown
    "vocab_size": 47,
    "vocab_multiple": 64,
    "embed_dim": 24,
    "num_layers": 1,
    "num_heads": 2,
    "num_kv_heads": 4,
    "head_dim": 4,
    "mlp_dim": 32,
    "norm_eps": 0.1,
    "rope": RopeConfig(theta=50.0),
    "max_positions": UnsupportedError,
    "qkv_bias": True,
    "out_bias": True,
    "mlp_bias": True,
    "qk_norm": True,
    "tie_embeddings": False,
    "windows": (0, 3),
}

CHANGED_ROPE: dict[str, tuple[RopeConfig, Any]] = {
    "theta": (RopeConfig(theta=100.0), 200.0),
    "kind": (dataclasses.replace(LLAMA3, low_freq_factor=1.0), "yarn"),
    "factor": (RopeConfig(theta=100.0, kind="linear", factor=2.0), 4.0),
    "original_max_positions": (LLAMA3, 32),
    "low_freq_factor": (LLAMA3, 1.0),
    "high_freq_factor": (LLAMA3, 6.0),
    "beta_fast": (YARN, 16.0),
    "beta_slow": (YARN, 0.1),
    "attention_factor": (YARN, 1.2),
    "truncate": (YARN, False),
}


@pytest.fixture(scope="module")
def usual() -> np.ndarray:
    """What the tiny decoder says."""
    return build().logits(tokens(2, 12))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(DecoderConfig)])
def test_every_decoder_field_changes_the_output_or_is_refused(
    field: str, usual: np.ndarray
) -> None:
    value = CHANGED[field]
    if field == "family":
        with pytest.raises(value, match="'gpt2' is not implemented; known: llama, mistral"):
            tiny(family="gpt2")
    elif field == "max_positions":
        with pytest.raises(value, match="12 tokens, .* at most 11 positions"):
            build(tiny(max_positions=11)).logits(tokens(2, 12))
    else:
        changed = build(tiny(**{field: value})).logits(tokens(2, 12))
        assert changed.shape != usual.shape or not np.allclose(changed, usual, atol=1e-3)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RopeConfig)])
def test_every_rope_field_changes_the_angles(field: str) -> None:
    rope, value = CHANGED_ROPE[field]
    positions = jnp.arange(40)[None]
    usual = np.stack(rotary_tables(rope, 16, positions))
    changed = np.stack(rotary_tables(dataclasses.replace(rope, **{field: value}), 16, positions))
    assert not np.allclose(usual, changed, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("default", "factor", 2.0),
        ("linear", "original_max_positions", 64),
        ("linear", "truncate", False),
        ("llama3", "beta_fast", 16.0),
        ("llama3", "attention_factor", 1.1),
        ("yarn", "low_freq_factor", 2.0),
    ],
)
def test_rope_field_that_its_kind_does_not_read_is_refused(
    kind: str, field: str, value: Any
) -> None:
    needed = {"original_max_positions": 64} if kind in ("llama3", "yarn") else {}
    with pytest.raises(ConfigError, match=f"'{kind}' does not read {field}, got {value}\n.*use"):
        RopeConfig(theta=100.0, kind=kind, **{**needed, field: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "longrope"}, "'longrope' is not implemented; known: default, linear"),
        ({"theta": 0.0}, "must be positive"),
        ({"kind": "linear", "factor": 1e39}, "factor must be a finite number"),
        ({"kind": "llama3", "original_max_positions": 8, "low_freq_factor": 0.0}, "be positive"),
        ({"kind": "yarn", "theta": 1.0, "original_max_positions": 8}, "theta other than 1"),
        ({"theta": float("inf")}, "theta must be a finite number, got inf"),
        ({"kind": "linear", "factor": float("nan")}, "factor must be a finite number, got nan"),
        ({"kind": "linear", "factor": -1.0}, "must be positive"),
        ({"kind": "llama3", "factor": 8.0}, "needs original_max_position_embeddings"),
        ({"kind": "yarn", "factor": 8.0}, "needs original_max_position_embeddings"),
        ({"kind": "llama3", "original_max_positions": 8, "low_freq_factor": 4.0}, "above low"),
        ({"kind": "yarn", "original_max_positions": 8, "beta_slow": 40.0}, "at least beta_slow"),
    ],
)
def test_impossible_ropes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnsupportedError), match=message):
        RopeConfig(**{"theta": 100.0, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 0}, "embed_dim must be positive, got 0"),
        ({"num_layers": 10**10}, "num_layers must be at most 10000, got 10000000000"),
        ({"norm_eps": float("nan")}, "norm_eps must be a finite number"),
        ({"num_kv_heads": 3}, "num_heads 4 is not a multiple of num_kv_heads 3"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"windows": (1,)}, "each of 2 layers"),
        ({"windows": (4, -1)}, "non-negative"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**changes)


def test_vocabulary_is_padded_to_the_multiple() -> None:
    assert TINY.padded_vocab_size == 56
    assert tiny(vocab_size=56).padded_vocab_size == 56
    assert tiny(vocab_multiple=1).padded_vocab_size == 50


def test_windows_default_to_none_and_tell_whether_layers_agree() -> None:
    assert TINY.windows == (0, 0)
    assert TINY.uniform_window == 0
    assert tiny(windows=(4, 4)).uniform_window == 4
    assert tiny(windows=(0, 4)).uniform_window is None
