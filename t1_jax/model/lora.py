"""LoRA (arXiv:2106.09685): adapters added to a decoder, and merged into its weights again.

A decoder with an adapter computes whole rows: hidden states, logits, vectors. Generation wants a
merged decoder, which costs nothing extra per token.
"""

from collections.abc import Collection, Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.model.decoder import Decoder
from t1_jax.model.layers import Block, Projection
from t1_jax.model.low_rank import LoraConfig, LoraParam, LowRank, TokenEmbeddingDelta


def add_lora(
    decoder: Decoder, config: LoraConfig, rngs: nnx.Rngs, *, emb_token_id: int | None = None
) -> Decoder:
    """A decoder with an adapter, which changes nothing until it is trained; weights are shared.

    Call it inside `placement.activate()`.

    Args:
        decoder: without an adapter, its layers stacked.
        config: which projections, and how wide.
        rngs: source of A.
        emb_token_id: of `<emb_token>`, needed where `config.emb_row`.

    Raises:
        ConfigError: no valid `emb_token_id` where one is needed.
        UnsupportedError: the decoder has an adapter already, or its layers are taken apart.
    """
    if decoder.lora is not None:
        raise UnsupportedError("the decoder has an adapter", hint="merge it first: merge_lora")
    if config.emb_row and not 0 <= (-1 if emb_token_id is None else emb_token_id) < (
        decoder.config.vocab_size
    ):
        raise ConfigError(
            f"the row of <emb_token> is to be trained, but its id is {emb_token_id}",
            hint="give emb_token_id, or emb_row=false",
        )
    copy = _copy(decoder)
    projections = dict(_projections(copy))
    for target in config.targets:
        projection = projections[target]
        shape = projection.kernel[...].shape
        projection.lora = nnx.data(LowRank(projection.equation, shape, config, copy.rules, rngs))
    if config.emb_row and emb_token_id is not None:
        width = copy.config.embed_dim
        copy.embed.row = nnx.data(TokenEmbeddingDelta(width, emb_token_id, copy.rules))
        if copy.head is not None:
            copy.head.row = nnx.data(TokenEmbeddingDelta(width, emb_token_id, copy.rules))
    copy.lora = config
    return copy


def merge_lora(decoder: Decoder) -> Decoder:
    """The plain decoder W + scale * A B, of the same graph as one that never had an adapter.

    Sums are float32 and rounded once, to the stored dtype. A decoder without an adapter comes back
    as it is. May be traced.
    """
    if decoder.lora is None:
        return decoder
    copy = _copy(decoder)
    for _, projection in _projections(copy):
        if projection.lora is not None:
            projection.kernel[...] = projection.lora.merged(projection.kernel[...])
            projection.lora = nnx.static(None)
    if copy.embed.row is not None:
        copy.embed.table[...] = copy.embed.row.merged(copy.embed.table[...], axis=0)
        copy.embed.row = nnx.static(None)
    if copy.head is not None and copy.head.row is not None:
        copy.head.kernel[...] = copy.head.row.merged(copy.head.kernel[...], axis=1)
        copy.head.row = nnx.static(None)
    copy.lora = None
    return copy


def start_emb_row_from(decoder: Decoder, token_ids: Collection[int], emb_token_id: int) -> None:
    """Makes the row of `<emb_token>` the mean of other tokens' rows, in place.

    Where an adapter learns the row, the adapter holds the difference and the base stays as it is.
    Call it inside `placement.activate()`.

    Args:
        decoder: in training, with or without an adapter.
        token_ids: whose rows it starts from.
        emb_token_id: of `<emb_token>`.
    """
    for leaf, row, axis in (
        (decoder.embed.table, decoder.embed.row, 0),
        *(() if decoder.head is None else ((decoder.head.kernel, decoder.head.row, 1),)),
    ):
        wanted = _mean_row(leaf[...], token_ids, axis)
        moved = wanted - _mean_row(leaf[...], (emb_token_id,), axis)
        if row is not None:
            row.delta[...] = jax.device_put(moved, row.delta[...].sharding)
            continue
        ours = jnp.expand_dims(jnp.arange(leaf.shape[axis]) == emb_token_id, 1 - axis)
        changed = leaf[...] + jnp.where(ours, jnp.expand_dims(moved, axis), 0)
        leaf[...] = jax.device_put(changed.astype(leaf.dtype), leaf[...].sharding)


def _mean_row(table: jax.Array, token_ids: Collection[int], axis: int) -> Float[Array, " D"]:
    """In float32, without gathering a table whose vocabulary is sharded."""
    chosen = jnp.isin(jnp.arange(table.shape[axis]), jnp.asarray(sorted(token_ids)))
    chosen = jnp.expand_dims(chosen, 1 - axis)
    return jnp.sum(jnp.where(chosen, table.astype(jnp.float32), 0), axis) / len(token_ids)


def lora_state(decoder: Decoder) -> nnx.State:
    """The adapter's parameters alone."""
    return nnx.state(decoder, LoraParam)


def trainable_filter(decoder: Decoder) -> type[nnx.Param]:
    """What is trained: the adapter where there is one, else every parameter.

    ```python
    graph, trained, rest = nnx.split(decoder, trainable_filter(decoder), ...)
    ```
    """
    return nnx.Param if decoder.lora is None else LoraParam


def _copy(decoder: Decoder) -> Decoder:
    """Another decoder of the same arrays; without `copy` it would share the variables too."""
    graph, state = nnx.split(decoder)
    return nnx.merge(graph, state, copy=True)


def _projections(decoder: Decoder) -> Iterator[tuple[str, Projection]]:
    """Every projection of the stacked block, by its name in `LORA_TARGETS`."""
    block = decoder.blocks
    if not isinstance(block, Block):
        raise UnsupportedError(
            "adapters live in stacked layers, these are taken apart", hint="call it before unrolled"
        )
    attention, mlp = block.attention, block.mlp
    yield from (("q", attention.q), ("k", attention.k), ("v", attention.v), ("o", attention.o))
    yield from (("gate", mlp.gate), ("up", mlp.up), ("down", mlp.down))
