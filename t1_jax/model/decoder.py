"""The decoder: token ids in, final hidden states, logits or caches out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from t1_jax.errors import UnsupportedError
from t1_jax.model.attention import check_backend
from t1_jax.model.blockwise import Window
from t1_jax.model.cache import LayerCache, PrefixCache, SuffixCache
from t1_jax.model.config import DecoderConfig
from t1_jax.model.einsum import einsum_fp32_accum
from t1_jax.model.layers import Block, ModuleContext, RMSNorm
from t1_jax.model.low_rank import LoraConfig, TokenEmbeddingDelta
from t1_jax.model.options import REMAT_POLICIES, ModelOptions
from t1_jax.model.rotary import rotary_tables
from t1_jax.parallel import MeshContext, activation_axes

LayerStep = Callable[[jax.Array, Block, Window, Any], tuple[jax.Array, Any]]
"""x, output = step(x, one layer's block, its window, its further inputs)."""


class _Packing(NamedTuple):
    """How several texts share a row; see `Decoder.hidden`."""

    segment_ids: Int[Array, "B L"] | None = None
    shared_prefix: bool = False


class VocabMask(nnx.Variable):
    """Which vocabulary rows a token may be drawn from; neither trained nor exported."""


class Embedding(nnx.Module):
    """The token table; padding rows are zero."""

    def __init__(self, build: ModuleContext) -> None:
        config = build.config
        shape = (config.padded_vocab_size, config.embed_dim)
        self.table = build.weight("embed.table", "vd", shape, config.embed_dim**-0.5)
        self.row: TokenEmbeddingDelta | None = None


class Head(nnx.Module):
    """The language-model head of a model that does not tie it to the embedding."""

    def __init__(self, build: ModuleContext) -> None:
        config = build.config
        shape = (config.embed_dim, config.padded_vocab_size)
        self.kernel = build.weight("head.kernel", "dv", shape, config.embed_dim**-0.5)
        self.row: TokenEmbeddingDelta | None = None


class Decoder(nnx.Module):
    """A causal language model of the llama, qwen2 or qwen3 family.

    Construct it, and call its methods, inside `placement.activate()`. Rows come in multiples of
    `placement.batch_divisor`.

    Raises:
        ConfigError: the mesh does not divide a weight.
        UnsupportedError: the attention back end cannot compute this decoder on this mesh.
    """

    def __init__(
        self,
        config: DecoderConfig,
        options: ModelOptions,
        mesh_context: MeshContext,
        rngs: nnx.Rngs,
    ) -> None:
        check_backend(options.attention, config, options.compute_dtype, mesh_context)
        build = ModuleContext(config, options, mesh_context, rngs)
        self.config = config
        self.options = options
        self.rules = mesh_context.rules
        self.lora: LoraConfig | None = None
        self._row_multiple = mesh_context.batch_divisor
        self.embed = Embedding(build)
        self.blocks: Block | nnx.List[Block] = Block(build)
        self.final_norm = RMSNorm(build, "final_norm", "d", stacked=False)
        self.head = None if config.tie_embeddings else Head(build)
        rows = jnp.arange(config.padded_vocab_size) < config.vocab_size
        self.token_mask = VocabMask(jax.device_put(rows, mesh_context.activation("v")))

    def hidden(
        self,
        tokens: Int[Array, "B L"],
        *,
        positions: Int[Array, "B L"] | None = None,
        segment_ids: Int[Array, "B L"] | None = None,
        shared_prefix: bool = False,
    ) -> Float[Array, "B L D"]:
        """Final-layer hidden states before the final norm, in the compute dtype.

        Args:
            tokens: right-padded rows.
            positions: default 0 .. L-1; packed rows restart them with every segment.
            segment_ids: for packed rows; padding has -1.
            shared_prefix: segment 0 of each row stands first and is seen by all its segments, as
                if each had a row of its own behind a copy of it. So the thoughts of one prompt
                share its computation; their positions go on from the prefix's.

        Raises:
            UnsupportedError: the attention back end cannot do this (a shared prefix needs `xla`
                and no sliding window); rows that do not divide over the mesh; without
                `positions`, more tokens than the checkpoint has positions.
        """
        packing = _Packing(segment_ids, shared_prefix)
        return self._run(tokens, positions, packing, keep_cache=False)[0]

    def pool(self, hidden: Float[Array, "B L D"], at: Int[Array, " B"]) -> Float[Array, "B D"]:
        """The vectors of one position of each row."""
        taken = hidden.at[jnp.arange(hidden.shape[0]), at].get(
            out_sharding=self.rules.spec(activation_axes("bd"))
        )
        return self.vectors(taken)

    def vectors(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """What `<emb_token>` says: the final norm of hidden states, at length 1, in float32."""
        return unit(self.final_norm(hidden.astype(jnp.float32)))

    def logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
        """Float32 logits over the padded vocabulary; rows without a token are masked."""
        spec = self.rules.spec
        x = self.final_norm(hidden)
        if self.head is None:
            kernel, letters, row = self.embed.table[...], "vd", self.embed.row
        else:
            kernel, letters, row = self.head.kernel[...], "dv", self.head.row
        logits = einsum_fp32_accum(
            f"bld,{letters}->blv",
            x,
            kernel,
            gathered=spec(activation_axes(letters)),
            out=spec(activation_axes("blv")),
        )
        if row is not None:
            logits = row.to_logits(logits, x)
        return jnp.where(self.token_mask[...], logits, -jnp.inf)

    def prefill(self, tokens: Int[Array, "P S"], lengths: Int[Array, " P"]) -> PrefixCache:
        """Keys and values of prompts; `lengths` says how many slots of each row are real.

        Raises:
            UnsupportedError: as for `hidden`; the decoder has an adapter that is not merged.
        """
        self._refuse_lora("generation")
        _, layers = self._run(tokens, None, _Packing(), keep_cache=True)
        return PrefixCache(layers, lengths)

    def decode(
        self,
        tokens: Int[Array, "P G"],
        positions: Int[Array, "P G"],
        slot: Int[Array, ""],
        prefix: PrefixCache,
        suffix: SuffixCache,
    ) -> tuple[Float[Array, "P G D"], SuffixCache]:
        """Consumes one token per thought, writing it at `slot`; returns pre-norm hidden states."""
        x = self._embed(tokens)
        rotary = rotary_tables(self.config.rope, self.config.head_dim, positions)

        def step(
            x: jax.Array, block: Block, window: Window, caches: Any
        ) -> tuple[jax.Array, LayerCache]:
            prefix_layer, suffix_layer = caches
            out, grown = block.attention.decode(
                block.attention_norm(x),
                rotary,
                window,
                positions,
                prefix_layer,
                prefix.lengths,
                suffix_layer,
                suffix.starts,
                slot,
            )
            x = x + out
            return x + block.mlp(block.mlp_norm(x)), grown

        x, layers = self._over_layers(step, x, (prefix.layers, suffix.layers))
        return x, SuffixCache(layers, suffix.starts)

    def unrolled(self) -> "Decoder":
        """The same decoder with its layers taken apart (a copy of their weights; see options).

        Raises:
            UnsupportedError: the decoder has an adapter that is not merged.
        """
        self._refuse_lora("taking layers apart")
        if isinstance(self.blocks, nnx.List):
            return self
        graph, state = nnx.split(self.blocks)
        layers = [
            nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], state))
            for i in range(self.config.num_layers)
        ]
        graph, state = nnx.split(self)
        copy = nnx.merge(graph, state)
        copy.blocks = nnx.List(layers)
        return copy

    def _refuse_lora(self, what: str) -> None:
        if self.lora is not None:
            raise UnsupportedError(
                f"{what} needs a decoder without an adapter beside its weights",
                hint="merge it into them first: merge_lora",
            )

    def _embed(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        """Rows of the table; it is gathered over `fsdp` first, or XLA rematerializes all of it."""
        if tokens.shape[0] % self._row_multiple:
            raise UnsupportedError(
                f"{tokens.shape[0]} rows do not divide over the {self._row_multiple} devices that "
                f"share a batch",
                hint=f"pad the batch to a multiple of {self._row_multiple} rows",
            )
        spec = self.rules.spec
        table = jax.reshard(self.embed.table[...], spec(activation_axes("vd")))
        rows = table.at[tokens].get(out_sharding=spec(activation_axes("bld")))
        if self.embed.row is not None:
            rows = self.embed.row.to_rows(rows, tokens)
        return rows.astype(self.options.compute_dtype)

    def _run(
        self,
        tokens: Int[Array, "B L"],
        positions: Int[Array, "B L"] | None,
        packing: _Packing,
        *,
        keep_cache: bool,
    ) -> tuple[Float[Array, "B L D"], Any]:
        """All layers over whole sequences; caches only where asked, as they are large."""
        x = self._embed(tokens)
        at = self._count(tokens) if positions is None else positions
        rotary = rotary_tables(self.config.rope, self.config.head_dim, at)

        def step(
            x: jax.Array, block: Block, window: Window, _: tuple[()]
        ) -> tuple[jax.Array, LayerCache | None]:
            out, cache = block.attention(
                block.attention_norm(x),
                rotary,
                window,
                packing.segment_ids,
                shared_prefix=packing.shared_prefix,
            )
            x = x + out
            return x + block.mlp(block.mlp_norm(x)), cache if keep_cache else None

        return self._over_layers(self._remat(step), x, ())

    def _count(self, tokens: Int[Array, "B L"]) -> Int[Array, "B L"]:
        """Positions 0 .. L-1 of rows that hold one text each."""
        if tokens.shape[1] > self.config.max_positions:
            raise UnsupportedError(
                f"{tokens.shape[1]} tokens, but the checkpoint was made for at most "
                f"{self.config.max_positions} positions",
                hint="cut the text, or use a checkpoint made for longer contexts",
            )
        counted = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        return jax.reshard(counted, self.rules.spec(activation_axes("bl")))

    def _remat(self, step: LayerStep) -> LayerStep:
        """The step, keeping for the backward pass only what the option `remat` says."""
        if self.options.remat == "none":
            return step
        policy = REMAT_POLICIES[self.options.remat]
        unrolled = isinstance(self.blocks, nnx.List)  # a scan keeps XLA from undoing the remat

        def remat(x: jax.Array, block: Block, window: Window, inputs: Any) -> Any:
            known = 2 if isinstance(window, int) else ()  # to attention, a window must stay an int
            kept = jax.checkpoint(step, policy=policy, prevent_cse=unrolled, static_argnums=known)
            return kept(x, block, window, inputs)

        return remat

    def _over_layers(
        self, step: LayerStep, x: jax.Array, per_layer: tuple[Any, ...]
    ) -> tuple[jax.Array, Any]:
        """x, outputs = step(x, block, window, inputs of the layer), layer after layer.

        Stacked blocks are scanned, so the program holds one layer; blocks taken apart are
        unrolled. `per_layer` and the outputs are stacked or tuples accordingly.
        """
        windows = self.config.windows
        if isinstance(self.blocks, nnx.List):
            outputs = []
            for i, block in enumerate(self.blocks):
                x, output = step(x, block, windows[i], tuple(inputs[i] for inputs in per_layer))
                outputs.append(output)
            return x, tuple(outputs)
        uniform = self.config.uniform_window
        if uniform is not None:
            return jax.lax.scan(
                lambda x, layer: step(x, layer[0], uniform, layer[1]), x, (self.blocks, per_layer)
            )
        return jax.lax.scan(
            lambda x, layer: step(x, layer[0], layer[2], layer[1]),
            x,
            (self.blocks, per_layer, jnp.asarray(windows)),
        )


def unit(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Rows of length 1, in float32; the zero vector stays zero and is refused where it is used."""
    x = x.astype(jnp.float32)
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    # The root has no gradient at 0, and 0 times what stands for it would be NaN.
    return x / jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
