"""A decoding batch for serving: a fixed number of rows, which thoughts take and leave.

`DecodeBatch` moves its rows together as thoughts end, which is best for a list of prompts that is
known from the start. Here nothing moves and every row has slots of its own from 0 on. A prompt can
join between any two chunks, few programs are compiled, and what a row computes does not depend on
which other thoughts are in the batch or when they joined.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from t1_jax.generate.batch import CompiledModel, Prompt
from t1_jax.generate.loop import decode_chunk, probe_embeddings
from t1_jax.generate.sampling import SamplingParams, thought_keys
from t1_jax.generate.shapes import BatchShapes
from t1_jax.generate.state import DecodeState, PromptBatch, partition_specs, start_batch
from t1_jax.generate.thought import FinishReason, Thought
from t1_jax.model import KVCache, PrefixCache, SuffixCache
from t1_jax.parallel import MeshContext, all_global_to_host, global_to_host, host_to_global

_PREFILL_LENGTHS = 4
_SLOT_STEP = 8


@dataclass(kw_only=True, eq=False)
class RunningThought:
    """A thought in the batch.

    Attributes:
        sample: its number among the thoughts of the query.
        max_tokens: `<emb_token>` is appended once it has so many tokens.
        tokens: tokens so far, with `<emb_token>` where it has been chosen.
        log_probs: of each token, as in `Thought`.
        log_probs_at_1: of each token, as in `Thought`.
    """

    sample: int
    max_tokens: int
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    log_probs_at_1: list[float] = field(default_factory=list)


def prefill_lengths(prefix_size: int) -> list[int]:
    """Lengths to which prompts of a prefix size are padded for prefill, ascending.

    A prefill costs as much as decoding a short thought, so half of it should not be padding.
    """
    step = -(-prefix_size // _PREFILL_LENGTHS)
    return [*range(step, prefix_size, step), prefix_size]


class ContinuousBatch:
    """Thoughts about prompts of one padded length, under the same sampling parameters.

    Call all methods from one thread.

    Attributes:
        rows: the number of thoughts that the batch can hold.
        prefix_size: tokens that each prompt is padded to.
    """

    def __init__(
        self,
        model: CompiledModel,
        shapes: BatchShapes,
        *,
        prefix_size: int,
        max_thought_tokens: int,
        sampling: SamplingParams,
    ) -> None:
        """An empty batch with `shapes.max_rows` rows; the seed of `sampling` is not read.

        `max_thought_tokens` bounds those of every thought.
        """
        divisor = shapes.batch_divisor
        self.rows = -(-shapes.max_rows // divisor) * divisor
        self.prefix_size = prefix_size
        self._model = model
        self._shapes = shapes
        self._sampling = dataclasses.replace(sampling, seed=0)  # a seed must not recompile
        self._running: dict[int, RunningThought] = {}
        self._max_thought_tokens = max_thought_tokens
        # Those of the prompt's last token and <emb_token> too. One size, as sums over other numbers
        # of slots round differently.
        self._slots = -(-(max_thought_tokens + 2) // _SLOT_STEP) * _SLOT_STEP
        self._state: DecodeState | None = None

    @property
    def free(self) -> int:
        """Thoughts that can join now."""
        return self.rows - len(self._running)

    @property
    def running(self) -> int:
        """Thoughts in the batch."""
        return len(self._running)

    def insert(
        self, prompt: Prompt, *, seed: int, samples: Sequence[int], max_thought_tokens: int
    ) -> list[RunningThought]:
        """Prefills a prompt once and starts thoughts about it; there must be as many free rows.

        Args:
            prompt: at most `prefix_size` tokens.
            seed: with query id and sample number it gives the random stream of a thought.
            samples: numbers of the thoughts among those of the query.
            max_thought_tokens: most tokens of each.
        """
        assert len(samples) <= self.free
        assert max_thought_tokens <= self._max_thought_tokens
        with self._model.mesh_context.activate():
            new = self._prefill(prompt)
            if self._state is None:
                self._state = _empty_batch(
                    new,
                    rows=self.rows,
                    prefix_size=self.prefix_size,
                    slots=self._slots,
                    mesh_context=self._model.mesh_context,
                )
            keys = thought_keys(seed, prompt.query_id, max(samples) + 1)
            free = (row for row in range(self.rows) if row not in self._running)
            thoughts: dict[int, RunningThought] = {}
            for sample, row in zip(samples, list(free), strict=False):
                self._state = _insert_row(
                    self._state,
                    new,
                    np.int32(row),
                    keys[sample],
                    mesh_context=self._model.mesh_context,
                )
                thoughts[row] = RunningThought(sample=sample, max_tokens=max_thought_tokens)
        self._running |= thoughts  # only now, so that a failure leaves no thought behind
        return list(thoughts.values())

    def remove(self, thoughts: Sequence[RunningThought]) -> None:
        """Frees the rows of thoughts that are no longer wanted."""
        unwanted = set(map(id, thoughts))
        self._running = {
            row: thought for row, thought in self._running.items() if id(thought) not in unwanted
        }

    def decode_chunk(self) -> list[tuple[RunningThought, Thought]]:
        """Runs up to `chunk_steps` steps; removes and returns the thoughts that ended in them.

        The text of a `Thought` is empty here. Its embedding may be not finite, if the model's is.
        """
        assert self._state is not None
        limits = np.zeros((self.rows, 1), np.int32)
        for row, thought in self._running.items():
            limits[row] = thought.max_tokens
        with self._model.mesh_context.activate():
            state, output = decode_chunk(
                *self._model.decode,
                self._state,
                self._put(limits, "pg"),
                sampling=self._sampling,
                stop=self._model.stop,
                max_steps=self._shapes.chunk_steps,
            )
            self._state = state
            *generated, num_steps, is_done = all_global_to_host([*output, state.thoughts.done])
            ended = [row for row in self._running if is_done[row, 0]]
            vectors = global_to_host(state.thoughts.embeddings) if ended else None
        steps = int(num_steps)
        for row, thought in self._running.items():
            tokens, log_probs, log_probs_at_1 = (array[row, 0, :steps] for array in generated)
            is_token = tokens >= 0
            thought.tokens += tokens[is_token].tolist()
            thought.log_probs += log_probs[is_token].tolist()
            thought.log_probs_at_1 += log_probs_at_1[is_token].tolist()
        finished = []
        for row in ended:
            assert vectors is not None
            thought = self._running.pop(row)
            finished.append((thought, self._finish(thought, vectors[row, 0])))
        return finished

    def probe(self) -> list[tuple[RunningThought, Float[np.ndarray, " D"]]]:
        """The embedding that each thought would have with `<emb_token>` after its tokens so far.

        The last token of a running thought is not consumed yet, so it is not part of the probe.
        Costs one decoding step and changes nothing.
        """
        if self._state is None or not self._running:
            return []
        with self._model.mesh_context.activate():
            self._state, embeddings = probe_embeddings(
                *self._model.decode, self._state, stop=self._model.stop
            )
            vectors = global_to_host(embeddings)
        return [(thought, vectors[row, 0].copy()) for row, thought in self._running.items()]

    def end_with_probe(
        self,
        thought: RunningThought,
        embedding: Float[np.ndarray, " D"],
        finish_reason: FinishReason,
    ) -> Thought:
        """Ends a thought at its probe: removes it, and returns its tokens with `<emb_token>`."""
        self.remove([thought])
        emb, count = self._model.stop.emb, max(len(thought.tokens) - 1, 0)
        return Thought(
            token_ids=np.array([*thought.tokens[:count], emb], np.int32),
            log_probs=np.array([*thought.log_probs[:count], 0.0], np.float32),
            log_probs_at_1=np.array([*thought.log_probs_at_1[:count], 0.0], np.float32),
            embedding=embedding,
            finish_reason=finish_reason,
            sample=thought.sample,
        )

    def _prefill(self, prompt: Prompt) -> DecodeState:
        """A batch of this prompt alone, or of as many rows as devices share a batch."""
        model, rows = self._model, self._shapes.batch_divisor
        lengths = prefill_lengths(self.prefix_size)
        length = next(length for length in lengths if length >= len(prompt.token_ids))
        tokens = np.zeros((rows, length), np.int32)
        tokens[:, : len(prompt.token_ids)] = prompt.token_ids
        seen = None
        if self._sampling.repetition_penalty != 1:
            seen = np.zeros((rows, model.vocab_rows), bool)
            seen[:, list(prompt.token_ids)] = True
        prompts = PromptBatch(
            tokens=self._put(tokens, "ps"),
            lengths=self._put(np.full(rows, len(prompt.token_ids), np.int32), "p"),
            last_token=self._put(np.full(rows, prompt.token_ids[-1], np.int32), "p"),
            keys=self._put(np.zeros((rows, 1, 2), np.uint32), "pg"),
            done=self._put(np.zeros((rows, 1), bool), "pg"),
            token_seen_mask=None if seen is None else self._put(seen, "p"),
        )
        state = start_batch(
            *model.prefill,
            prompts,
            mesh_context=model.mesh_context,
            unstacked=model.unstacked,
            slots=1,
        )
        return state._replace(slot=self._put(np.zeros(rows, np.int32), "p"))

    def _finish(self, thought: RunningThought, embedding: Float[np.ndarray, " D"]) -> Thought:
        tokens = thought.tokens
        return Thought(
            token_ids=np.array(tokens, np.int32),
            log_probs=np.array(thought.log_probs, np.float32),
            log_probs_at_1=np.array(thought.log_probs_at_1, np.float32),
            embedding=embedding.copy(),
            finish_reason=FinishReason.of(tokens, self._model.stop.eos, thought.max_tokens),
            sample=thought.sample,
        )

    def _put(self, array: np.ndarray, letters: str) -> jax.Array:
        return host_to_global(array, self._model.mesh_context.activation(letters))


@functools.partial(jax.jit, static_argnames=("mesh_context",), donate_argnames=("state",))
def _insert_row(
    state: DecodeState,
    new: DecodeState,
    row: Int[Array, ""],
    key: UInt32[Array, "2"],
    *,
    mesh_context: MeshContext,
) -> DecodeState:
    """The first prompt of `new` in this row of the batch, with an empty suffix cache."""

    def apply(state: DecodeState, new: DecodeState, row: jax.Array, key: jax.Array) -> DecodeState:
        def put(axis: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
            def write(old: jax.Array, first: jax.Array) -> jax.Array:
                at = old.ndim + axis if axis < 0 else axis
                first = jax.lax.slice_in_dim(first, 0, 1, axis=at)
                shape = [1 if i == at else size for i, size in enumerate(old.shape)]
                first = jnp.pad(
                    first, [(0, size - f) for size, f in zip(shape, first.shape, strict=True)]
                )
                return jax.lax.dynamic_update_slice_in_dim(old, first, row, axis=at)

            return write

        keys = jnp.broadcast_to(key, new.thoughts.keys.shape)
        thoughts = new.thoughts._replace(keys=keys)
        return DecodeState(
            prefix=PrefixCache(
                jax.tree.map(put(-4), state.prefix.layers, new.prefix.layers),
                put(0)(state.prefix.lengths, new.prefix.lengths),
            ),
            suffix=SuffixCache(
                jax.tree.map(put(-5), state.suffix.layers, new.suffix.layers),
                put(0)(state.suffix.starts, new.suffix.starts),
            ),
            slot=put(0)(state.slot, new.slot),
            thoughts=jax.tree.map(put(0), state.thoughts, thoughts),
        )

    return _auto_sharded(apply, state, mesh_context)(state, new, row, key)


@functools.partial(jax.jit, static_argnames=("rows", "prefix_size", "slots", "mesh_context"))
def _empty_batch(
    new: DecodeState, *, rows: int, prefix_size: int, slots: int, mesh_context: MeshContext
) -> DecodeState:
    """A batch without a thought, of the structure of `new`."""

    def apply(new: DecodeState) -> DecodeState:
        def zeros(leaf: jax.Array, sizes: dict[int, int]) -> jax.Array:
            shape = list(leaf.shape)
            for axis, size in sizes.items():
                shape[axis] = size
            return jnp.zeros(shape, leaf.dtype)

        def caches(layers: Any, row_axis: int, slots: int) -> Any:
            def of(cache: KVCache) -> KVCache:
                return KVCache(
                    zeros(cache.keys, {row_axis: rows, -2: slots}),
                    zeros(cache.values, {row_axis: rows, -1: slots}),
                )

            return jax.tree.map(of, layers, is_leaf=_is_cache)

        thoughts = jax.tree.map(lambda leaf: zeros(leaf, {0: rows}), new.thoughts)
        return DecodeState(
            prefix=PrefixCache(
                caches(new.prefix.layers, -4, prefix_size), jnp.ones(rows, jnp.int32)
            ),
            suffix=SuffixCache(caches(new.suffix.layers, -5, slots), jnp.zeros(rows, jnp.int32)),
            slot=jnp.zeros(rows, jnp.int32),
            thoughts=thoughts._replace(done=jnp.ones((rows, 1), bool)),
        )

    return _auto_sharded(apply, new, mesh_context)(new)


def _is_cache(leaf: object) -> bool:
    return isinstance(leaf, KVCache)


def _auto_sharded(
    apply: Callable[..., DecodeState], state: DecodeState, mesh_context: MeshContext
) -> Callable[..., DecodeState]:
    """`apply` with shardings that the compiler chooses inside, and those of a batch outside."""
    specs: Any = partition_specs(state, mesh_context)
    specs = specs._replace(slot=mesh_context.activation("p").spec)
    return cast(Callable[..., DecodeState], jax.sharding.auto_axes(apply, out_sharding=specs))
