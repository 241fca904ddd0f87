"""A decoding batch as the host schedules it: which prompts are active, and which join or leave."""

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from flax import nnx

from t1_jax.generate.loop import StopTokens, decode_chunk
from t1_jax.generate.sampling import SamplingParams, thought_keys
from t1_jax.generate.shapes import BatchShapes, shrunk, smallest_fit
from t1_jax.generate.state import DecodeState, PromptBatch, compact_and_admit, start_batch
from t1_jax.generate.thought import FinishReason, Thought
from t1_jax.generate.trie import Choices
from t1_jax.interrupt import Interrupt
from t1_jax.model import Decoder
from t1_jax.parallel import MeshContext, all_global_to_host, global_to_host, host_to_global


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A query that is ready for thinking.

    Attributes:
        query_id: names the random streams of its thoughts.
        token_ids: the prompt; at least two tokens.
    """

    query_id: str
    token_ids: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class CompiledModel:
    """The model as the compiled functions take it, as graph and weights.

    Layers are stacked in `prefill`, and in `decode` unless `unstacked` (see
    `ModelOptions.unroll_decode`). `vocab_rows` includes the padding of the embedding table.
    """

    mesh_context: MeshContext
    stop: StopTokens
    prefill: tuple[nnx.GraphDef[Decoder], nnx.State]
    decode: tuple[nnx.GraphDef[Decoder], nnx.State]
    unstacked: bool
    vocab_rows: int


@dataclass
class _Generated:
    """Tokens so far of thought `sample` of a query, with their log-probabilities; see `Thought`."""

    sample: int
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    log_probs_at_1: list[float] = field(default_factory=list)


@dataclass
class _ActivePrompt:
    """A prompt in the batch.

    Attributes:
        index: its number among the caller's prompts.
        row: its row in the batch.
        start: the slot its thoughts started at.
        thoughts: the running thought in each column of the row; None where it has ended.
    """

    index: int
    row: int
    start: int
    thoughts: list[_Generated | None]

    @property
    def running(self) -> list[tuple[int, _Generated]]:
        """Columns with the thoughts that have not ended."""
        return [(column, t) for column, t in enumerate(self.thoughts) if t is not None]


class DecodeBatch:
    """Generates the thoughts of prompts of one padded length, `prefix_size`; see `Sampler`.

    With `choices` each thought is one of these texts. The queue holds the prompts with their
    numbers among the caller's prompts.
    """

    def __init__(
        self,
        model: CompiledModel,
        shapes: BatchShapes,
        queue: Sequence[tuple[int, Prompt]],
        *,
        prefix_size: int,
        n: int,
        max_thought_tokens: int,
        sampling: SamplingParams,
        interrupt: Interrupt,
        choices: Choices | None = None,
    ) -> None:
        self._trie = None if choices is None else choices.on(model.mesh_context)
        self._model = model
        self._shapes = shapes
        self._queue = deque(queue)
        self._prefix_size = prefix_size
        self._n = n
        self._max_thought_tokens = max_thought_tokens
        self._seed = sampling.seed
        self._sampling = dataclasses.replace(sampling, seed=0)  # a seed must not recompile
        self._interrupt = interrupt
        self._active: list[_ActivePrompt] = []
        self._size = (0, 0)  # prompts, thoughts per prompt
        self._slot = 0  # the slot that is written next
        self._slots = 0  # size of the suffix caches
        self._state: DecodeState | None = None

    def run(self) -> Iterator[tuple[int, Thought]]:
        """Yields (number of the prompt, thought) as thoughts end.

        Raises:
            Interrupted: the interrupt was requested.
        """
        while self._queue or self._active:
            self._interrupt.check()
            with self._model.mesh_context.activate():
                self._schedule()
                finished = self._decode_chunk()
            yield from finished

    def _schedule(self) -> None:
        """Before a chunk: prompts join, ended thoughts leave, and caches grow, where needed."""
        joining = self._next_prompts()
        if not self._active:
            self._start(joining)
            return
        size = self._next_size(len(joining))
        is_full = self._slot + self._shapes.chunk_steps > self._slots
        if joining or is_full or size != self._size:
            self._compact_and_admit(joining, size)

    def _next_prompts(self) -> list[tuple[int, Prompt]]:
        """Takes prompts off the queue once half of the rows are free."""
        most = self._shapes.prompt_sizes(self._n)[0]
        free = most - len(self._active)
        if free < max(most // 2, 1):
            return []
        return [self._queue.popleft() for _ in range(min(free, len(self._queue)))]

    def _next_size(self, joining: int) -> tuple[int, int]:
        """Prompts and thoughts per prompt of the batch from now on."""
        shapes, n = self._shapes, self._n
        prompts = smallest_fit(shapes.prompt_sizes(n), len(self._active) + joining)
        if joining:
            return prompts, n
        prompts = shrunk(self._size[0], prompts)
        if self._queue:  # prompts that join later need columns for all their thoughts
            return prompts, n
        longest = max(len(prompt.running) for prompt in self._active)
        return prompts, shrunk(self._size[1], smallest_fit(shapes.thought_sizes(n), longest))

    def _start(self, joining: list[tuple[int, Prompt]]) -> None:
        """A new batch that holds these prompts only."""
        prompts = smallest_fit(self._shapes.prompt_sizes(self._n), len(joining))
        self._slots = self._shapes.suffix_size(self._shapes.chunk_steps)
        self._slot = 0
        self._size = (prompts, self._n)
        self._active = [self._activate(index, row) for row, (index, _) in enumerate(joining)]
        self._state = self._prefill(joining, prompts)

    def _activate(self, index: int, row: int) -> _ActivePrompt:
        return _ActivePrompt(index, row, self._slot, [_Generated(i) for i in range(self._n)])

    def _prefill(self, joining: list[tuple[int, Prompt]], num_prompts: int) -> DecodeState:
        """Prefills prompts into a batch of their own with this many rows."""
        model, n = self._model, self._n
        tokens = np.zeros((num_prompts, self._prefix_size), np.int32)
        lengths = np.full(num_prompts, 2, np.int32)
        keys = np.zeros((num_prompts, n, 2), np.uint32)
        done = np.ones((num_prompts, n), bool)
        seen = np.zeros((num_prompts, model.vocab_rows), bool)
        for row, (_, prompt) in enumerate(joining):
            lengths[row] = len(prompt.token_ids)
            tokens[row, : lengths[row]] = prompt.token_ids
            keys[row] = thought_keys(self._seed, prompt.query_id, n)
            done[row] = False
            seen[row, list(prompt.token_ids)] = True
        prompts = PromptBatch(
            tokens=self._put(tokens, "ps"),
            lengths=self._put(lengths, "p"),
            last_token=self._put(tokens[np.arange(num_prompts), lengths - 1], "p"),
            keys=self._put(keys, "pg"),
            done=self._put(done, "pg"),
            token_seen_mask=(
                self._put(seen, "p") if self._sampling.repetition_penalty != 1 else None
            ),
            trie_node=(
                None
                if self._trie is None
                else self._put(np.zeros((num_prompts, n), np.int32), "pg")
            ),
        )
        return start_batch(
            *model.prefill,
            prompts,
            mesh_context=model.mesh_context,
            unstacked=model.unstacked,
            slots=self._slots,
        )

    def _compact_and_admit(self, joining: list[tuple[int, Prompt]], size: tuple[int, int]) -> None:
        """Moves the running thoughts, and the prompts that join, into a batch of this size."""
        new = None
        if joining:
            sizes = self._shapes.prompt_sizes(self._n)
            new = self._prefill(joining, smallest_fit(sizes, len(joining)))
        num_prompts, num_thoughts = size
        prompt_indices = np.zeros(num_prompts, np.int32)
        thought_indices = np.zeros((num_prompts, num_thoughts), np.int32)
        done = np.ones((num_prompts, num_thoughts), bool)
        for row, prompt in enumerate(self._active):
            columns = list(range(num_thoughts))
            if num_thoughts < len(prompt.thoughts):
                columns = [column for column, _ in prompt.running]
            prompt_indices[row], prompt.row = prompt.row, row
            thought_indices[row, : len(columns)] = columns
            prompt.thoughts = [prompt.thoughts[column] for column in columns]
            prompt.thoughts += [None] * (num_thoughts - len(columns))
            done[row] = [thought is None for thought in prompt.thoughts]
        for number, (index, _) in enumerate(joining):
            row = len(self._active)
            prompt_indices[row] = self._size[0] + number
            thought_indices[row] = np.arange(num_thoughts)
            done[row] = False
            self._active.append(self._activate(index, row))
        shift = min(prompt.start for prompt in self._active)
        for prompt in self._active:
            prompt.start -= shift
        self._slot -= shift
        slots = self._shapes.suffix_size(self._slot + self._shapes.chunk_steps)
        self._slots, self._size = max(self._slots, slots), size
        assert self._state is not None
        self._state = compact_and_admit(
            self._state,
            new,
            self._put(prompt_indices, "p"),
            self._put(thought_indices, "pg"),
            self._put(done, "pg"),
            np.int32(shift),
            mesh_context=self._model.mesh_context,
            slots=self._slots,
        )

    def _decode_chunk(self) -> list[tuple[int, Thought]]:
        """Runs one chunk of steps and removes the thoughts that ended in it."""
        assert self._state is not None
        state, output = decode_chunk(
            *self._model.decode,
            self._state,
            self._put(np.full(self._size, self._max_thought_tokens, np.int32), "pg"),
            sampling=self._sampling,
            stop=self._model.stop,
            max_steps=self._shapes.chunk_steps,
            trie=self._trie,
        )
        self._state, thoughts = state, state.thoughts
        *generated, num_steps, done = all_global_to_host([*output, thoughts.done])
        steps = int(num_steps)
        self._slot += steps
        finished: list[tuple[int, Thought]] = []
        embeddings: np.ndarray | None = None
        for prompt in self._active:
            for column, thought in prompt.running:
                at = (prompt.row, column)
                tokens, log_probs, log_probs_at_1 = (array[at][:steps] for array in generated)
                is_token = tokens >= 0  # -1 marks steps after the thought was done
                thought.tokens += tokens[is_token].tolist()
                thought.log_probs += log_probs[is_token].tolist()
                thought.log_probs_at_1 += log_probs_at_1[is_token].tolist()
                if not done[at]:
                    continue
                if embeddings is None:
                    embeddings = global_to_host(thoughts.embeddings)
                prompt.thoughts[column] = None
                finished.append((prompt.index, self._finish(thought, embeddings[at])))
        self._active = [prompt for prompt in self._active if prompt.running]
        return finished

    def _finish(self, generated: _Generated, embedding: np.ndarray) -> Thought:
        tokens = generated.tokens
        eos, most = self._model.stop.eos, self._max_thought_tokens
        return Thought(
            token_ids=np.array(tokens, np.int32),
            log_probs=np.array(generated.log_probs, np.float32),
            log_probs_at_1=np.array(generated.log_probs_at_1, np.float32),
            embedding=embedding.copy(),
            finish_reason=FinishReason.of(tokens, eos, most),
            sample=generated.sample,
        )

    def _put(self, array: np.ndarray, letters: str) -> jax.Array:
        return host_to_global(array, self._model.mesh_context.activation(letters))
