"""The decoder: token ids in; hidden states, logits or caches out."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from t1_jax.errors import UnsupportedError
from t1_jax.model.attention import check_backend
from t1_jax.model.cache import PrefixCache, SuffixCache
from t1_jax.model.config import DecoderConfig
from t1_jax.model.layers import Block, ModuleContext, RMSNorm
from t1_jax.model.lora_modules import LoraConfig
from t1_jax.model.mask import AttentionMask, Window
from t1_jax.model.options import REMAT_POLICIES, ModelOptions
from t1_jax.model.rotary import rotary_tables
from t1_jax.model.vocabulary import (
    Embedding,
    Head,
    VocabMask,
    look_up,
    parallel_axes,
    project_logits,
)
from t1_jax.parallel import MeshContext, activation_axes

LayerStep = Callable[[jax.Array, Block, Window, Any], tuple[jax.Array, Any]]
"""x, output = step(x, block, window, inputs of the layer)."""


class Decoder(nnx.Module):
    """A causal language model of the llama, qwen2 or qwen3 family.

    Construct it, and call its methods, inside `mesh_context.activate()`. Batches have
    a multiple of `mesh_context.batch_divisor` rows.

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
        context = ModuleContext(config, options, mesh_context, rngs)
        self.config = config
        self.options = options
        self.rules = mesh_context.rules
        self.lora: LoraConfig | None = None
        self._batch_divisor = mesh_context.batch_divisor
        self._parallel_vocab = parallel_axes(
            self.rules, mesh_context.mesh.shape, config.padded_vocab_size
        )
        self.embed = Embedding(context)
        self.blocks: Block | nnx.List[Block] = Block(context)
        self.final_norm = RMSNorm(context, "final_norm", "d", stacked=False)
        self.head = None if config.tie_embeddings else Head(context)
        rows = jnp.arange(config.padded_vocab_size) < config.vocab_size
        self.token_mask = VocabMask(jax.device_put(rows, mesh_context.activation("v")))

    def __call__(
        self,
        tokens: Int[Array, "B L"],
        *,
        positions: Int[Array, "B L"] | None = None,
        mask: AttentionMask | None = None,
    ) -> Float[Array, "B L D"]:
        """The forward pass over whole rows.

        Args:
            tokens: right-padded rows.
            positions: default 0 .. L-1; those of packed rows start again with every segment.
            mask: segments of packed rows; default causal, one text per row. The sliding window
                is the config's.

        Returns:
            Hidden states of the last block in the compute dtype, before the final norm; `logits`
            and `pool_embeddings` take them.

        Raises:
            UnsupportedError: the attention back end cannot compute the mask (a shared prefix needs
                `xla` and no sliding window); rows that do not divide over the mesh; without
                `positions`, more tokens than the checkpoint has positions.
        """
        return self._forward(tokens, positions, mask or AttentionMask(), keep_caches=False)[0]

    def logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
        """Float32 logits over the padded vocabulary; minus infinity in rows without a token."""
        out = self.rules.spec(activation_axes("blv"))
        return self._logits(self._head_kernel, hidden, out)

    def vocab_parallel_logits(
        self,
    ) -> Callable[[Float[Array, "B L D"]], Float[Array, "B L V"]]:
        """`logits` for a loss, as a function to call on one chunk of targets after the other.

        The vocabulary is sharded over the devices that share rows, and the rows are not: hidden
        states travel instead of the head, and its gradient needs no sum per chunk.
        """
        vocab = self._parallel_vocab
        rows = tuple(axis for axis in self.rules.batch if axis not in vocab)
        letters = "vd" if self.head is None else "dv"
        kernel = jax.reshard(
            self._head_kernel, jax.P(*(vocab if letter == "v" else None for letter in letters))
        )
        out = jax.P(rows or None, None, vocab or None)
        return functools.partial(self._logits, kernel, out=out)

    @property
    def _head_kernel(self) -> Float[Array, "_ _"]:
        """The weight of the head, [V D] of a tied one and [D V] of its own."""
        return (self.embed.table if self.head is None else self.head.kernel)[...]

    def _logits(
        self, kernel: Float[Array, "_ _"], hidden: Float[Array, "B L D"], out: jax.P
    ) -> Float[Array, "B L V"]:
        module = self.embed if self.head is None else self.head
        x = self.final_norm(hidden)
        return project_logits(module, kernel, self.token_mask[...], x, out)

    def prefill(self, tokens: Int[Array, "P S"], lengths: Int[Array, " P"]) -> PrefixCache:
        """Keys and values of right-padded prompts with `lengths` tokens.

        Raises:
            UnsupportedError: as for `__call__`; the decoder has an adapter that is not merged.
        """
        self._reject_lora("generation")
        _, layers = self._forward(tokens, None, AttentionMask(), keep_caches=True)
        return PrefixCache(layers, lengths)

    def decode(
        self,
        tokens: Int[Array, "P G"],
        positions: Int[Array, "P G"],
        slot: Int[Array, "*P"],
        prefix: PrefixCache,
        suffix: SuffixCache,
    ) -> tuple[Float[Array, "P G D"], SuffixCache]:
        """Consumes one token per thought.

        Args:
            tokens: the next token of each thought.
            positions: of these tokens in prompt + thought.
            slot: of the suffix cache, where their keys and values are written; one for all
                thoughts, or one for each prompt.
            prefix: from `prefill`.
            suffix: of the thoughts so far.

        Returns:
            Hidden states as from `__call__`, and the suffix cache with the tokens written.
        """
        x = self._embed(tokens)
        rotary = rotary_tables(self.config.rope, self.config.head_dim, positions)

        def step(x: jax.Array, block: Block, window: Window, caches: Any) -> Any:
            of_prefix, of_suffix = caches
            return block.decode(
                x,
                rotary,
                positions,
                slot,
                prefix._replace(layers=of_prefix),
                suffix._replace(layers=of_suffix),
                window,
            )

        x, layers = self._over_layers(step, x, (prefix.layers, suffix.layers))
        return x, suffix._replace(layers=layers)

    def unstack_layers(self) -> "Decoder":
        """The same decoder with one module per layer; copies the layers' weights.

        See `ModelOptions.unroll_decode`.

        Raises:
            UnsupportedError: the decoder has an adapter that is not merged.
        """
        self._reject_lora("unstacking layers")
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

    def _reject_lora(self, operation: str) -> None:
        if self.lora is not None:
            raise UnsupportedError(
                f"{operation} needs a decoder without an unmerged adapter",
                hint="merge the adapter first: merge_lora",
            )

    def _embed(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        """Token embeddings."""
        if tokens.shape[0] % self._batch_divisor:
            raise UnsupportedError(
                f"{tokens.shape[0]} rows do not divide over the {self._batch_divisor} devices that "
                f"share a batch",
                hint=f"pad the batch to a multiple of {self._batch_divisor} rows",
            )
        row, dtype = self.embed.row, self.options.compute_dtype
        looked_up = dtype if row is None else jnp.dtype(jnp.float32)
        rows = look_up(self.embed.table[...], tokens, self.rules, looked_up)
        if row is not None:
            rows = row.add_to_embeddings(rows, tokens)
        return rows.astype(dtype)

    def _forward(
        self,
        tokens: Int[Array, "B L"],
        positions: Int[Array, "B L"] | None,
        mask: AttentionMask,
        *,
        keep_caches: bool,
    ) -> tuple[Float[Array, "B L D"], Any]:
        """All layers over whole rows; their caches only on request, as they are large."""
        x = self._embed(tokens)
        if positions is None:
            positions = self._default_positions(tokens)
        rotary = rotary_tables(self.config.rope, self.config.head_dim, positions)

        def step(x: jax.Array, block: Block, window: Window, _: tuple[()]) -> Any:
            x, kv_cache = block(x, rotary, mask.with_window(window))
            return x, kv_cache if keep_caches else None

        return self._over_layers(self._remat(step), x, ())

    def _default_positions(self, tokens: Int[Array, "B L"]) -> Int[Array, "B L"]:
        """Positions 0 .. L-1 of rows that hold one text each."""
        if tokens.shape[1] > self.config.max_positions:
            raise UnsupportedError(
                f"{tokens.shape[1]} tokens, but the checkpoint was made for at most "
                f"{self.config.max_positions} positions",
                hint="cut the text, or use a checkpoint made for longer contexts",
            )
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        return jax.reshard(positions, self.rules.spec(activation_axes("bl")))

    def _remat(self, step: LayerStep) -> LayerStep:
        """The step with the rematerialization policy of `options.remat`."""
        if self.options.remat == "none":
            return step
        policy = REMAT_POLICIES[self.options.remat]
        unstacked = isinstance(self.blocks, nnx.List)  # a scan keeps XLA from undoing the remat

        def remat(x: jax.Array, block: Block, window: Window, inputs: Any) -> Any:
            static = 2 if isinstance(window, int) else ()  # attention needs the window as an int
            checkpointed = jax.checkpoint(
                step, policy=policy, prevent_cse=unstacked, static_argnums=static
            )
            return checkpointed(x, block, window, inputs)

        return remat

    def _over_layers(
        self, step: LayerStep, x: jax.Array, per_layer: tuple[Any, ...]
    ) -> tuple[jax.Array, Any]:
        """Applies `step` to every layer in turn; returns the last x and the layers' outputs.

        Stacked blocks are scanned, so the program holds one layer; unstacked blocks are unrolled.
        `per_layer` and the outputs are stacked or tuples accordingly.
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
