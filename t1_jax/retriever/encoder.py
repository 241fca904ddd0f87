"""Complete rows of tokens to embeddings, in batches of few shapes."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Num

from t1_jax.errors import DataError
from t1_jax.generate import Thought
from t1_jax.interrupt import Interrupt
from t1_jax.model import Decoder, pool_embeddings
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
def encode_rows(
    graph: nnx.GraphDef[Decoder],
    weights: nnx.State,
    tokens: Int[Array, "B L"],
    emb_positions: Int[Array, " B"],
) -> Float[Array, "B D"]:
    """The embedding of each row, a unit vector, at the position of its `<emb_token>`."""
    decoder = nnx.merge(graph, weights)
    return pool_embeddings(decoder, decoder(tokens), emb_positions)


class Encoder:
    """Embeds rows that are complete: documents, queries without thoughts, user-supplied thoughts.

    The tokenizer names the ids of padding and `<emb_token>`. The interrupt is checked before each
    batch.

    Attributes:
        slots: tokens that were computed so far, padding included.
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
        self._mesh_context = mesh_context
        self._interrupt = interrupt or Interrupt()
        self._tokenizer = tokenizer
        self._buckets = buckets.within(decoder.config.max_positions)
        self._embed_dim = decoder.config.embed_dim
        self.slots = 0
        with mesh_context.activate():
            self._graph, self._weights = nnx.split(decoder)

    def encode(
        self,
        rows: Sequence[PromptTokens],
        *,
        names: Sequence[str],
        description: str,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        on_batch: Callable[[Int[np.ndarray, "B"]], None] = lambda rows: None,
    ) -> Float[np.ndarray, "B D"]:
        """Embeds rows with exactly one `<emb_token>` each as unit vectors in float32.

        `batch_size` bounds the rows of a batch; by default the buckets do. `on_batch` gets the
        positions in `rows` of those that are done, batch by batch.

        Raises:
            DataError: an embedding is not finite; says which of `names` it belongs to.
            Interrupted: the interrupt was requested.
        """
        if not rows:
            return np.zeros((0, self._embed_dim), np.float32)
        batches = token_batches(
            rows,
            self._buckets if batch_size is None else self._buckets.with_batch_size(batch_size),
            pad_id=self._tokenizer.pad_id,
            emb_token_id=self._tokenizer.emb_token_id,
        )
        total = sum(len(row.ids) for row in rows)
        outputs: list[np.ndarray] = []
        in_flight: list[tuple[TokenBatch, jax.Array]] = []
        with (
            self._mesh_context.activate(),
            track(description, total, "tokens", shown=show_progress_bar) as advance,
        ):

            def collect() -> None:
                batch, embeddings = in_flight.pop(0)
                outputs.append(global_to_host(embeddings)[: len(batch.tokens)])
                done = batch.input_index[batch.input_index >= 0]
                advance(int(batch.lengths[batch.input_index >= 0].sum()))
                on_batch(done)

            for batch in batches:
                self._interrupt.check()
                in_flight.append((batch, self._dispatch(batch)))
                if len(in_flight) > 1:  # the device works on one batch while the host reads another
                    collect()
            while in_flight:
                collect()
        embeddings = restore_order(batches, outputs)
        is_broken = ~np.isfinite(embeddings).all(axis=1)
        if is_broken.any():
            raise DataError(
                f"{names[int(np.argmax(is_broken))]}: the model's embedding is not finite "
                f"({int(is_broken.sum())} of {len(embeddings)} rows)",
                hint="load the model in float32, or check the weights",
            )
        return embeddings

    def _dispatch(self, batch: TokenBatch) -> jax.Array:
        """Starts a batch, padded to a number of rows that the mesh divides."""
        mesh_context = self._mesh_context
        missing = -len(batch.tokens) % mesh_context.batch_divisor
        tokens = np.pad(
            batch.tokens, ((0, missing), (0, 0)), constant_values=self._tokenizer.pad_id
        )
        emb_positions = np.pad(batch.emb_position, (0, missing))
        self.slots += tokens.size
        return encode_rows(
            self._graph,
            self._weights,
            host_to_global(tokens, mesh_context.activation("bl")),
            host_to_global(emb_positions, mesh_context.activation("b")),
        )


def mean_embeddings(
    thoughts: Sequence[Sequence[Thought]], embed_dim: int
) -> Float[np.ndarray, "B D"]:
    """The normalized mean of each query's embeddings (O1-Embedder, arXiv:2502.07555).

    Raises:
        DataError: a mean is zero or not finite.
    """
    if not thoughts:
        return np.zeros((0, embed_dim), np.float32)
    means = [np.mean([thought.embedding for thought in group], axis=0) for group in thoughts]
    return l2_normalize(np.stack(means))


def l2_normalize(vectors: Num[np.ndarray, "*B D"] | jax.Array) -> Float[np.ndarray, "*B D"]:
    """The vectors in float32 at unit length.

    Raises:
        DataError: a vector is zero or not finite.
    """
    vectors = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(vectors).all() or (norms == 0).any():
        raise DataError("a vector is zero or not finite, so it has no direction")
    return vectors / norms
