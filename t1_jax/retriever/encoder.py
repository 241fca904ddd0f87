"""Whole rows of tokens to unit vectors, in batches of few shapes."""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from t1_jax.errors import DataError
from t1_jax.interrupt import Interrupt
from t1_jax.model import Decoder
from t1_jax.parallel import MeshContext, global_to_host, host_to_global
from t1_jax.progress import track
from t1_jax.text import (
    BucketConfig,
    PromptTokens,
    T1Tokenizer,
    TokenBatch,
    restore_order,
    token_batches,
)


@functools.partial(jax.jit, static_argnames=("graph",))
def _encode(
    graph: nnx.GraphDef[Decoder],
    weights: nnx.State,
    tokens: Int[Array, "B L"],
    emb_position: Int[Array, " B"],
) -> Float[Array, "B D"]:
    decoder = nnx.merge(graph, weights)
    return decoder.pool(decoder.hidden(tokens), emb_position)


class Encoder:
    """Reads the vector at `<emb_token>` of rows that are complete: documents and given thoughts.

    Args:
        decoder: the model.
        mesh_context: that it lies on.
        tokenizer: of the rows.
        buckets: shapes of batches.
        interrupt: ends encoding early; checked before each batch.
    """

    def __init__(
        self,
        decoder: Decoder,
        mesh_context: MeshContext,
        tokenizer: T1Tokenizer,
        buckets: BucketConfig,
        *,
        interrupt: Interrupt | None = None,
    ) -> None:
        self._placement = mesh_context
        self._interrupt = interrupt or Interrupt()
        self._tokenizer = tokenizer
        self._buckets = buckets.within(decoder.config.max_positions)
        self._embed_dim = decoder.config.embed_dim
        with mesh_context.activate():
            self._graph, self._weights = nnx.split(decoder)

    def encode(
        self,
        rows: Sequence[PromptTokens],
        *,
        names: Sequence[str],
        description: str,
        show_progress_bar: bool = False,
    ) -> Float[np.ndarray, "B D"]:
        """Unit vectors in float32, in the order of `rows`.

        Args:
            rows: token rows that hold `<emb_token>` exactly once.
            names: what to call each row in an error.
            description: what the progress bar says.
            show_progress_bar: whether to draw one.

        Raises:
            DataError: a vector is not finite; names the row.
        """
        if not rows:
            return np.zeros((0, self._embed_dim), np.float32)
        batches = token_batches(
            rows,
            self._buckets,
            pad_id=self._tokenizer.pad_id,
            emb_token_id=self._tokenizer.emb_token_id,
        )
        total = sum(len(row.ids) for row in rows)
        outputs: list[np.ndarray] = []
        waiting: list[tuple[TokenBatch, jax.Array]] = []
        with (
            self._placement.activate(),
            track(description, total, "tokens", shown=show_progress_bar) as advance,
        ):

            def collect() -> None:
                batch, vectors = waiting.pop(0)
                outputs.append(global_to_host(vectors)[: len(batch.tokens)])
                advance(int(batch.lengths[batch.input_index >= 0].sum()))

            for batch in batches:
                self._interrupt.check()
                waiting.append((batch, self._dispatch(batch)))
                if len(waiting) > 1:  # the device works on one batch while the host reads another
                    collect()
            while waiting:
                collect()
        vectors = restore_order(batches, outputs)
        broken = ~np.isfinite(vectors).all(axis=1)
        if broken.any():
            raise DataError(
                f"{names[int(np.argmax(broken))]}: the model's vector is not finite "
                f"({int(broken.sum())} of {len(vectors)} rows)",
                hint="load the model in float32, or check the weights",
            )
        return vectors

    def _dispatch(self, batch: TokenBatch) -> jax.Array:
        """Starts a batch; rows are added where devices need more than it has."""
        mesh_context = self._placement
        missing = -len(batch.tokens) % mesh_context.batch_divisor
        tokens = np.pad(
            batch.tokens, ((0, missing), (0, 0)), constant_values=self._tokenizer.pad_id
        )
        at = np.pad(batch.emb_position, (0, missing))
        return _encode(
            self._graph,
            self._weights,
            host_to_global(tokens, mesh_context.activation("bl")),
            host_to_global(at, mesh_context.activation("b")),
        )
