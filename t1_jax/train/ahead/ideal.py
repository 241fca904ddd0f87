"""What the sharding of the weights alone makes devices send: the least that FSDP can do with.

Embedding table and head are sharded over the vocabulary and stay where they are; the activations
that travel instead (`t1_jax.model.vocabulary`) are not counted.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from t1_jax.parallel import MeshContext

_VOCABULARY = ("embed/table", "head/kernel")
"""Paths of the weights that are sharded over the vocabulary."""


@dataclass(frozen=True, kw_only=True)
class WeightPasses:
    """What a program does with all weights.

    Attributes:
        gathers: how often each is needed whole: once in a forward pass, and once in a backward
            pass, which shares it with what that pass computes again.
        gathers_vocabulary: whether embedding table and head are gathered too, as in a copy of all
            weights.
        gradients: whether each trained one has a gradient to add up between devices.
    """

    gathers: int = 0
    gathers_vocabulary: bool = False
    gradients: bool = False


def ideal_sent(
    trained: object,
    frozen: object,
    passes: WeightPasses,
    mesh_context: MeshContext,
    dtype: jnp.dtype,
) -> float:
    """Bytes that a chip sends if each weight travels as FSDP has it.

    Weights are gathered in the compute dtype over the mesh axes that shard them besides `tensor`,
    and gradients are reduced and scattered over these in float32 and then added up over the
    replicas. Gradients of embedding table and head are only added up over the replicas. Activations
    that travel (over `tensor`, and of the vocabulary) are not counted.
    """
    total = 0.0
    sizes = mesh_context.mesh.shape
    for weights, learns in ((trained, passes.gradients), (frozen, False)):
        for path, leaf in jax.tree.leaves_with_path(weights):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                continue
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            is_vocabulary = name.startswith(_VOCABULARY)
            axes = {axis for entry in leaf.sharding.spec for axis in _names(entry)}
            shards = math.prod(sizes[axis] for axis in axes - {"tensor"})
            whole = leaf.size / math.prod(sizes[axis] for axis in axes & {"tensor"})
            others = whole * (shards - 1) / shards
            if passes.gathers_vocabulary or not is_vocabulary:
                total += passes.gathers * dtype.itemsize * others
            if learns:
                replicas = math.prod(sizes[axis] for axis in set(sizes) - axes - {"tensor"})
                total += 0.0 if is_vocabulary else 4 * others
                total += 2 * 4 * whole / shards * (replicas - 1) / replicas
    return total


def _names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(entry or ())
