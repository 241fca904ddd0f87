"""The rules table: what each axis maps to, and what is refused."""

import string

import jax
import pytest

from t1_jax.errors import ConfigError
from t1_jax.parallel import LETTER_AXES, MESH_AXES, ShardingRules, activation_axes, weight_axes


def test_default_table_splits_rows_heads_units_and_vocabulary() -> None:
    spec = ShardingRules().spec
    assert spec(activation_axes("bld")) == jax.P(("data", "fsdp"), None, None)
    assert spec(activation_axes("blnh")) == jax.P(("data", "fsdp"), None, ("tensor",), None)
    assert spec(activation_axes("pgksh")) == jax.P(("data", "fsdp"), None, ("tensor",), None, None)
    assert spec(weight_axes("ydnh")) == jax.P(None, ("fsdp",), ("tensor",), None)
    assert spec(weight_axes("vd")) == jax.P(("fsdp", "tensor"), None)


def test_width_of_weights_and_activations_are_different_axes() -> None:
    assert weight_axes("d") == ("embed",)
    assert activation_axes("d") == ("act_embed",)


def test_every_letter_names_a_rule_or_nothing() -> None:
    rules = ShardingRules().table()
    assert set(LETTER_AXES) <= set(string.ascii_lowercase)
    assert {axis for axis in LETTER_AXES.values() if axis} <= set(rules)


def test_empty_rule_replicates() -> None:
    assert ShardingRules(embed=()).spec(("embed", "heads")) == jax.P(None, ("tensor",))


def test_collision_names_both_logical_axes_and_the_mesh_axis() -> None:
    rules = ShardingRules(embed=("tensor",))
    with pytest.raises(ConfigError, match=r"'embed' and 'heads'.*'tensor'"):
        rules.spec(("embed", "heads"))


def test_one_rule_may_not_use_a_mesh_axis_twice() -> None:
    with pytest.raises(ConfigError, match="data"):
        ShardingRules(batch=("data", "data"))


def test_unknown_logical_axis_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'width'; known: batch, length, act_embed"):
        ShardingRules().spec(("batch", "width"))


def test_unknown_mesh_axis_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=rf"rule mlp.*expert.*\n.*{', '.join(MESH_AXES)}"):
        ShardingRules(mlp=("expert",))


def test_table_holds_every_field() -> None:
    table = ShardingRules(length=("fsdp",), batch=("data",)).table()
    assert table["length"] == ("fsdp",)
    assert table["batch"] == ("data",)
    assert table["vocab_rows"] == ("fsdp", "tensor")  # of embedding table and head
    assert len(table) == 9
