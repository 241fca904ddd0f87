"""Logical axis names and the one table that maps them to mesh axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import jax

from t1_jax.errors import ConfigError

MESH_AXES = ("data", "fsdp", "tensor")

LETTER_AXES: Mapping[str, str | None] = {
    "b": "batch",
    "p": "batch",
    "g": None,
    "l": "length",
    "s": "length",
    "d": "act_embed",
    "n": "heads",
    "k": "kv_heads",
    "h": None,
    "f": "mlp",
    "v": "vocab",
    "y": None,
    "r": None,
}
"""The dimension glossary: einsum letter -> logical axis of an activation (None: never sharded).

B rows, P prompts, G thoughts per prompt, L length, S cache length, D embed, N query heads,
K key/value heads, H head dimension, F feed-forward, V vocabulary, Y layers, R rank of an adapter.
"""


@dataclass(frozen=True, kw_only=True)
class ShardingRules:
    """Logical axis -> mesh axes; an empty tuple replicates.

    Attributes:
        batch: rows of activations.
        length: token positions.
        act_embed: the embed dimension of activations.
        embed: the embed dimension of weights (FSDP gathers it before use). Embedding table and head
            have their vocabulary there instead, see `table`.
        heads: query heads.
        kv_heads: key and value heads.
        mlp: feed-forward units.
        vocab: vocabulary rows.
    """

    batch: tuple[str, ...] = ("data", "fsdp")
    length: tuple[str, ...] = ()
    act_embed: tuple[str, ...] = ()
    embed: tuple[str, ...] = ("fsdp",)
    heads: tuple[str, ...] = ("tensor",)
    kv_heads: tuple[str, ...] = ("tensor",)
    mlp: tuple[str, ...] = ("tensor",)
    vocab: tuple[str, ...] = ("tensor",)

    def __post_init__(self) -> None:
        for name, axes in self.table().items():
            unknown = set(axes) - set(MESH_AXES)
            if unknown:
                raise ConfigError(
                    f"rule {name}: unknown mesh axes {sorted(unknown)}",
                    hint=f"use {', '.join(MESH_AXES)}",
                )
            if len(set(axes)) != len(axes):
                raise ConfigError(
                    f"rule {name}: a mesh axis occurs twice in {axes}", hint="name each axis once"
                )

    def table(self) -> dict[str, tuple[str, ...]]:
        """The rules as a dictionary, and the axis `vocab_rows` of embedding table and head.

        These two are sharded over the vocabulary alone, over the axes of both `embed` and `vocab`:
        their products then need activations of other devices instead of their weights, which are
        many times as large (arXiv:1909.08053, section 3).
        """
        rules = {field.name: self.__dict__[field.name] for field in fields(self)}
        more = tuple(axis for axis in self.vocab if axis not in self.embed)
        return rules | {"vocab_rows": self.embed + more}

    def spec(self, axes: Sequence[str | None]) -> jax.P:
        """The partition of an array with these logical axes.

        Raises:
            ConfigError: an axis is unknown, or two dimensions map to one mesh axis.
        """
        table = self.table()
        partition: list[tuple[str, ...] | None] = []
        used: dict[str, str] = {}
        for axis in axes:
            if axis is None:
                partition.append(None)
                continue
            if axis not in table:
                raise ConfigError(f"unknown logical axis {axis!r}; known: {', '.join(table)}")
            for mesh_axis in table[axis]:
                if mesh_axis in used:
                    raise ConfigError(
                        f"logical axes {used[mesh_axis]!r} and {axis!r} of one array both map to "
                        f"mesh axis {mesh_axis!r}",
                        hint="change one of the two rules",
                    )
                used[mesh_axis] = axis
            partition.append(table[axis] or None)
        return jax.P(*partition)


def weight_axes(letters: str) -> tuple[str | None, ...]:
    """Logical axes of a weight with these dimension letters.

    D is `embed`, not `act_embed`; beside a V it is not sharded, as V has its mesh axes.
    """
    if "v" in letters:
        return tuple("vocab_rows" if letter == "v" else None for letter in letters)
    return tuple("embed" if letter == "d" else LETTER_AXES[letter] for letter in letters)


def activation_axes(letters: str) -> tuple[str | None, ...]:
    """Logical axes of an activation with these dimension letters."""
    return tuple(LETTER_AXES[letter] for letter in letters)
