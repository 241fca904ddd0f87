"""LoRA (arXiv:2106.09685): adds an adapter to a decoder, and merges it into the weights.

A decoder with an unmerged adapter computes whole rows: hidden states, logits, embeddings.
Generation needs a merged decoder, which costs nothing extra per token.
"""

from collections.abc import Iterator

from flax import nnx

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.model.decoder import Decoder
from t1_jax.model.layers import Block, Projection
from t1_jax.model.lora_modules import LoraConfig, LoraDelta, LoraParam, TokenEmbeddingDelta


def add_lora(
    decoder: Decoder, config: LoraConfig, rngs: nnx.Rngs, *, emb_token_id: int | None = None
) -> Decoder:
    """A decoder with a new adapter, which computes the same until it is trained; shares weights.

    Call it inside `mesh_context.activate()`. `rngs` is the source of A; `emb_token_id` is required
    if `config.emb_row`.

    Raises:
        ConfigError: `emb_token_id` is required but missing or out of range.
        UnsupportedError: the decoder has an adapter already, or its layers are unstacked.
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
        projection.lora = nnx.data(LoraDelta(projection.equation, shape, config, copy.rules, rngs))
    if config.emb_row and emb_token_id is not None:
        embed_dim = copy.config.embed_dim
        copy.embed.row = nnx.data(TokenEmbeddingDelta(embed_dim, emb_token_id, copy.rules))
        if copy.head is not None:
            copy.head.row = nnx.data(TokenEmbeddingDelta(embed_dim, emb_token_id, copy.rules))
    copy.lora = config
    return copy


def merge_lora(decoder: Decoder) -> Decoder:
    """The decoder with weights W + scale * A B; its graph is that of a decoder without adapter.

    Sums are float32 and rounded once, to the stored dtype. A decoder without an adapter is
    returned unchanged. Works under `jax.jit`.
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


def lora_state(decoder: Decoder) -> nnx.State:
    """The adapter's parameters alone."""
    return nnx.state(decoder, LoraParam)


def trainable_filter(decoder: Decoder) -> type[nnx.Param]:
    """The type of the trainable parameters: the adapter's if there is one, else all.

    ```python
    graph, trained, rest = nnx.split(decoder, trainable_filter(decoder), ...)
    ```
    """
    return nnx.Param if decoder.lora is None else LoraParam


def _copy(decoder: Decoder) -> Decoder:
    """Another decoder of the same arrays; without `copy` the variables would be shared too."""
    graph, state = nnx.split(decoder)
    return nnx.merge(graph, state, copy=True)


def _projections(decoder: Decoder) -> Iterator[tuple[str, Projection]]:
    """The projections of the stacked block by their names in `LORA_TARGETS`."""
    block = decoder.blocks
    if not isinstance(block, Block):
        raise UnsupportedError(
            "adapters live in stacked layers, these are unstacked",
            hint="call it before unstack_layers",
        )
    attention, mlp = block.attention, block.mlp
    yield from (("q", attention.q), ("k", attention.k), ("v", attention.v), ("o", attention.o))
    yield from (("gate", mlp.gate), ("up", mlp.up), ("down", mlp.down))
