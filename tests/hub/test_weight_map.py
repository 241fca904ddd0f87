"""The weight map: every tensor and every parameter once, and both directions inverse."""

import itertools

import numpy as np
import pytest

from t1_jax.hub.weight_map import (
    expected_tensors,
    from_hf,
    hf_names,
    hf_shape,
    param_shape,
    rules_for,
    to_hf,
)

SWITCHES = [
    dict(
        zip(("qkv_bias", "out_bias", "mlp_bias", "qk_norm", "tie_embeddings"), values, strict=True)
    )
    for values in itertools.product([False, True], repeat=5)
]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_tensor_and_every_parameter_is_matched_once(tiny_config, switches) -> None:
    config = tiny_config(**switches)
    rules = rules_for(config)
    names = [name for rule in rules for name in hf_names(rule, config)]
    assert len(set(names)) == len(names) == len(expected_tensors(config))
    assert len({rule.path for rule in rules}) == len(rules)
    assert any("lm_head" in name for name in names) != config.tie_embeddings
    assert any("q_norm" in name for name in names) == config.qk_norm


def test_both_directions_are_inverse(tiny_config) -> None:
    config = tiny_config(
        qkv_bias=True, out_bias=True, mlp_bias=True, qk_norm=True, tie_embeddings=False
    )
    for rule in rules_for(config):
        shape = hf_shape(rule, config)
        theirs = np.arange(np.prod(shape)).reshape(shape)
        ours = from_hf(rule, theirs, config)
        assert ours.shape == param_shape(rule, config)
        np.testing.assert_array_equal(to_hf(rule, ours, config), theirs)


def test_the_layouts_are_those_of_the_projections(tiny_config) -> None:
    """Row n * H + h of q_proj makes element h of head n; column n * H + h of o_proj reads it."""
    config = tiny_config()
    rules = {rule.path: rule for rule in rules_for(config)}
    D, N, H = config.embed_dim, config.num_heads, config.head_dim
    q = np.arange(N * H * D).reshape(N * H, D)
    o = np.arange(D * N * H).reshape(D, N * H)
    ours_q = from_hf(rules["blocks/attention/q/kernel"], q, config)
    ours_o = from_hf(rules["blocks/attention/o/kernel"], o, config)
    assert ours_q[5, 2, 3] == q[2 * H + 3, 5]
    assert ours_o[2, 3, 5] == o[5, 2 * H + 3]


def test_padding_of_the_vocabulary_is_cut_on_the_way_out(tiny_config) -> None:
    config = tiny_config(tie_embeddings=False)
    for path in ("embed/table", "head/kernel"):
        rule = next(rule for rule in rules_for(config) if rule.path == path)
        padded = [40 if size == 37 else size for size in param_shape(rule, config)]
        assert to_hf(rule, np.zeros(padded), config).shape == (37, 12)


def test_turning_a_tensor_copies_nothing(tiny_config) -> None:
    config = tiny_config()
    for rule in rules_for(config):
        theirs = np.zeros(hf_shape(rule, config))
        assert np.shares_memory(from_hf(rule, theirs, config), theirs)
