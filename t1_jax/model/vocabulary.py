"""Embedding table and head, sharded over the vocabulary (arXiv:1909.08053, section 3).

Both are the largest weights of a small model. So devices exchange the embeddings of tokens and the
hidden states of targets, not the weights: each looks up and multiplies with its own rows.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from t1_jax.model.einsum import einsum_fp32_accum
from t1_jax.model.layers import ModuleContext
from t1_jax.model.lora_modules import TokenEmbeddingDelta
from t1_jax.parallel import ShardingRules, activation_axes

Axes = tuple[str, ...]


class VocabMask(nnx.Variable):
    """Which vocabulary rows may be sampled; neither trained nor exported."""


class Embedding(nnx.Module):
    """The token table; padding rows are zero."""

    def __init__(self, context: ModuleContext) -> None:
        config = context.config
        shape = (config.padded_vocab_size, config.embed_dim)
        self.table = context.weight("embed.table", "vd", shape, config.embed_dim**-0.5)
        self.row: TokenEmbeddingDelta | None = None


class Head(nnx.Module):
    """The language-model head of a model that does not tie it to the embedding."""

    def __init__(self, context: ModuleContext) -> None:
        config = context.config
        shape = (config.embed_dim, config.padded_vocab_size)
        self.kernel = context.weight("head.kernel", "dv", shape, config.embed_dim**-0.5)
        self.row: TokenEmbeddingDelta | None = None


def look_up(
    table: Float[Array, "V D"],
    tokens: Int[Array, "B L"],
    rules: ShardingRules,
    dtype: jnp.dtype,
) -> Float[Array, "B L D"]:
    """The rows of the table for these tokens, in `dtype`.

    Each device looks up its part of the vocabulary for the rows of all devices that share the
    table; the sum of their results, of which one is not zero, is exact in any dtype.
    """
    vocab = rules.table()["vocab_rows"]
    shared = tuple(axis for axis in rules.batch if axis in vocab)
    others = tuple(axis for axis in vocab if axis not in shared)

    def local(table: jax.Array, tokens: jax.Array) -> jax.Array:  # the part of one device
        if shared:
            tokens = jax.lax.all_gather(tokens, shared, axis=0, tiled=True)
        index = tokens
        if vocab:
            index = tokens - jax.lax.axis_index(vocab) * len(table)
            # A negative index would count from the end; one beyond the end gives zeros.
            index = jnp.where(index < 0, len(table), index)
        rows = table.at[index].get(mode="fill", fill_value=0).astype(dtype)
        if others:
            rows = jax.lax.psum(rows, others)
        if shared:
            rows = jax.lax.psum_scatter(rows, shared, scatter_dimension=0, tiled=True)
        return rows

    by_row = rules.spec(activation_axes("bl"))
    return jax.shard_map(
        local,
        in_specs=(jax.P(vocab or None, None), by_row),
        out_specs=rules.spec(activation_axes("bld")),
    )(table, jax.reshard(tokens, by_row))


def parallel_axes(rules: ShardingRules, sizes: Mapping[str, int], vocab_size: int) -> Axes:
    """Mesh axes for the vocabulary of logits in a loss, with the numbers of devices along each.

    Those of the stored head and, where the vocabulary divides over them, those of all rows: then no
    device has a sum over rows that others need too, and gradients of the head are added up between
    devices once, not for every chunk of targets.
    """
    stored = rules.table()["vocab_rows"]
    whole = stored + tuple(axis for axis in rules.batch if axis not in stored)
    return stored if vocab_size % math.prod(sizes[axis] for axis in whole) else whole


def project_logits(
    module: Embedding | Head,
    kernel: Float[Array, "_ _"],
    token_mask: Bool[Array, " V"],
    x: Float[Array, "B L D"],
    out: jax.P,
) -> Float[Array, "B L V"]:
    """Float32 logits of normalized hidden states; minus infinity in rows without a token.

    `kernel` is the weight of `module`, in any sharding; `out` is the sharding of the logits.
    """
    rows, length, vocab = out
    letters = "vd" if isinstance(module, Embedding) else "dv"
    logits = einsum_fp32_accum(
        f"bld,{letters}->blv",
        x,
        kernel,
        gathered=jax.P(*(vocab if letter == "v" else None for letter in letters)),
        gathered_x=jax.P(rows, length, None),
        out=out,
    )
    if module.row is not None:
        logits = module.row.add_to_logits(logits, x)
    return jnp.where(jax.reshard(token_mask, jax.P(vocab)), logits, -jnp.inf)
