"""One decoding batch as the host sees it: who sits where, who leaves, who joins."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx

from t1_jax.generate.keys import thought_keys
from t1_jax.generate.loop import StopTokens, decode_block
from t1_jax.generate.sampling import SamplingParams
from t1_jax.generate.shapes import BatchShapes, smallest_fit
from t1_jax.generate.state import Arrivals, DecodeState, rearrange, start_batch
from t1_jax.generate.thought import FinishReason, Thought
from t1_jax.interrupt import Interrupt
from t1_jax.model import Decoder
from t1_jax.parallel import MeshContext, all_global_to_host, global_to_host, host_to_global


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A query ready to be thought about.

    Attributes:
        query_id: names the thought's random stream.
        token_ids: the prompt; at least two tokens.
    """

    query_id: str
    token_ids: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The model as the compiled functions take it.

    Attributes:
        mesh_context: mesh and rules.
        stop: tokens that end a thought.
        prefill: graph and weights with stacked layers.
        step: graph and weights that decode; layers taken apart if `unroll`.
        unroll: see `ModelOptions.unroll_decode`.
        vocab_rows: rows of the embedding table, padding included.
    """

    mesh_context: MeshContext
    stop: StopTokens
    prefill: tuple[nnx.GraphDef[Decoder], nnx.State]
    step: tuple[nnx.GraphDef[Decoder], nnx.State]
    unroll: bool
    vocab_rows: int


@dataclass
class _Flight:
    """A prompt in the batch.

    Attributes:
        index: its number among the caller's prompts.
        row: its row in the batch.
        start: the slot its thoughts began at.
        samples: the sample number of the thought at each place; None where it has ended.
        drawn: per sample number, (token, log-probability, the same at temperature 1) so far.
    """

    index: int
    row: int
    start: int
    samples: list[int | None]
    drawn: list[list[tuple[int, float, float]]]

    @property
    def places(self) -> list[int]:
        """Places of thoughts that have not ended."""
        return [place for place, sample in enumerate(self.samples) if sample is not None]


class Batch:
    """Thinks about the prompts of one length bucket."""

    def __init__(
        self,
        programs: Programs,
        shapes: BatchShapes,
        queue: Sequence[tuple[int, Prompt]],
        *,
        prefix_size: int,
        samples: int,
        max_thought_tokens: int,
        options: SamplingParams,
        interrupt: Interrupt,
    ) -> None:
        self._programs = programs
        self._interrupt = interrupt
        self._shapes = shapes
        self._queue = list(queue)
        self._prefix_size = prefix_size
        self._samples = samples
        self._budget = max_thought_tokens
        self._seed = options.seed
        self._options = dataclasses.replace(options, seed=0)  # not a reason to compile again
        self._flights: list[_Flight] = []
        self._size = (0, 0)
        self._slot = 0
        self._slots = 0
        self._state: DecodeState | None = None

    def run(self) -> Iterator[tuple[int, Thought]]:
        """Yields (index of the prompt, thought) as thoughts end."""
        while self._queue or self._flights:
            self._interrupt.check()
            with self._programs.mesh_context.activate():
                self._arrange()
                finished = self._decode()
            yield from finished

    def _arrange(self) -> None:
        """Between blocks: prompts join, ended thoughts leave, the suffix grows, if need be."""
        joining = self._next_prompts()
        if not self._flights:
            self._start(joining)
            return
        # A batch cut down in thoughts per prompt cannot take a whole group any more.
        thoughts = self._samples
        if not self._queue and not joining:
            longest = max(len(flight.places) for flight in self._flights)
            thoughts = smallest_fit(self._shapes.thought_sizes(self._samples), longest)
            thoughts = self._shapes.cut_down(self._size[1], thoughts)
        prompts = smallest_fit(
            self._shapes.prompt_sizes(self._samples), len(self._flights) + len(joining)
        )
        if not joining:
            prompts = self._shapes.cut_down(self._size[0], prompts)
        crowded = self._slot + self._shapes.block > self._slots
        if not joining and not crowded and (prompts, thoughts) == self._size:
            return
        self._rearrange(joining, prompts, thoughts)

    def _next_prompts(self) -> list[tuple[int, Prompt]]:
        """Takes prompts off the queue once half of the places are free."""
        most = self._shapes.prompt_sizes(self._samples)[0]
        free = most - len(self._flights)
        if free < max(most // 2, 1):
            return []
        joining, self._queue = self._queue[:free], self._queue[free:]
        return joining

    def _start(self, joining: list[tuple[int, Prompt]]) -> None:
        """A new batch of prompts alone."""
        prompts = smallest_fit(self._shapes.prompt_sizes(self._samples), len(joining))
        self._slots = self._shapes.suffix_size(self._shapes.block)
        self._slot = 0
        self._size = (prompts, self._samples)
        self._flights = [self._flight(index, row) for row, (index, _) in enumerate(joining)]
        self._state = self._prefilled(joining, prompts)

    def _flight(self, index: int, row: int) -> _Flight:
        samples = self._samples
        return _Flight(index, row, self._slot, list(range(samples)), [[] for _ in range(samples)])

    def _prefilled(self, joining: list[tuple[int, Prompt]], prompts: int) -> DecodeState:
        """Prefills prompts into a batch of their own, of so many rows."""
        programs = self._programs
        tokens = np.zeros((prompts, self._prefix_size), np.int32)
        lengths = np.full(prompts, 2, np.int32)
        keys = np.zeros((prompts, self._samples, 2), np.uint32)
        live = np.zeros((prompts, self._samples), bool)
        seen = np.zeros((prompts, programs.vocab_rows), bool)
        for row, (_, prompt) in enumerate(joining):
            lengths[row] = len(prompt.token_ids)
            tokens[row, : lengths[row]] = prompt.token_ids
            keys[row] = thought_keys(self._seed, prompt.query_id, self._samples)
            live[row] = True
            seen[row, list(prompt.token_ids)] = True
        penalized = self._options.repetition_penalty != 1
        arrivals = Arrivals(
            tokens=self._put(tokens, "ps"),
            lengths=self._put(lengths, "p"),
            last_token=self._put(tokens[np.arange(prompts), lengths - 1], "p"),
            keys=self._put(keys, "pg"),
            live=self._put(live, "pg"),
            seen=self._put(seen, "p") if penalized else None,
        )
        return start_batch(
            *programs.prefill,
            arrivals,
            mesh_context=programs.mesh_context,
            unroll=programs.unroll,
            slots=self._slots,
        )

    def _rearrange(self, joining: list[tuple[int, Prompt]], prompts: int, thoughts: int) -> None:
        """Moves the thoughts in flight, and the prompts that join, into a batch of this size."""
        fresh = None
        if joining:
            most = self._shapes.prompt_sizes(self._samples)
            fresh = self._prefilled(joining, smallest_fit(most, len(joining)))
        take = np.zeros(prompts, np.int32)
        take_thought = np.zeros((prompts, thoughts), np.int32)
        live = np.zeros((prompts, thoughts), bool)
        for row, flight in enumerate(self._flights):
            kept = flight.places if thoughts < len(flight.samples) else range(thoughts)
            take[row], flight.row = flight.row, row
            take_thought[row, : len(kept)] = list(kept)
            flight.samples = [flight.samples[place] for place in kept]
            flight.samples += [None] * (thoughts - len(flight.samples))
            live[row] = [sample is not None for sample in flight.samples]
        for place, (index, _) in enumerate(joining):
            row = len(self._flights)
            take[row] = self._size[0] + place
            take_thought[row] = np.arange(thoughts)
            live[row] = True
            self._flights.append(self._flight(index, row))
        shift = min(flight.start for flight in self._flights)
        for flight in self._flights:
            flight.start -= shift
        self._slot -= shift
        slots = max(self._slots, self._shapes.suffix_size(self._slot + self._shapes.block))
        assert self._state is not None
        self._state = rearrange(
            self._state,
            fresh,
            self._put(take, "p"),
            self._put(take_thought, "pg"),
            self._put(live, "pg"),
            np.int32(shift),
            mesh_context=self._programs.mesh_context,
            slots=slots,
        )
        self._slots, self._size = slots, (prompts, thoughts)

    def _decode(self) -> list[tuple[int, Thought]]:
        """Runs one block and takes out the thoughts that ended in it."""
        programs = self._programs
        assert self._state is not None
        state, output = decode_block(
            *programs.step,
            self._state,
            np.int32(self._budget),
            options=self._options,
            stop=programs.stop,
            block=self._shapes.block,
        )
        self._state = state
        tokens, log_probs, log_probs_at_1, block_steps, live = all_global_to_host(
            [*output, state.live]
        )
        steps = int(block_steps)
        self._slot += steps
        finished: list[tuple[int, Thought]] = []
        vectors: np.ndarray | None = None
        for flight in self._flights:
            for place in flight.places:
                at = (flight.row, place)
                sample = flight.samples[place]
                assert sample is not None
                flight.drawn[sample] += _drawn(
                    tokens[at][:steps], log_probs[at][:steps], log_probs_at_1[at][:steps]
                )
                if live[at]:
                    continue
                if vectors is None:
                    vectors = global_to_host(state.vectors)
                flight.samples[place] = None
                thought = self._thought(flight.drawn[sample], vectors[at], sample)
                finished.append((flight.index, thought))
        self._flights = [flight for flight in self._flights if flight.places]
        return finished

    def _thought(
        self, drawn: list[tuple[int, float, float]], vector: np.ndarray, sample: int
    ) -> Thought:
        tokens, log_probs, log_probs_at_1 = (
            np.array(column) for column in zip(*drawn, strict=True)
        )
        if len(tokens) > 1 and tokens[-2] in self._programs.stop.eos:
            finish_reason = FinishReason.EOS
        elif len(tokens) == self._budget + 1:
            finish_reason = FinishReason.LENGTH
        else:
            finish_reason = FinishReason.EMB_TOKEN
        return Thought(
            token_ids=tokens.astype(np.int32),
            log_probs=log_probs.astype(np.float32),
            log_probs_at_1=log_probs_at_1.astype(np.float32),
            vector=vector.copy(),
            finish_reason=finish_reason,
            sample=sample,
        )

    def _put(self, array: np.ndarray, letters: str) -> jax.Array:
        return host_to_global(array, self._programs.mesh_context.activation(letters))


def _drawn(
    tokens: np.ndarray, log_probs: np.ndarray, log_probs_at_1: np.ndarray
) -> list[tuple[int, float, float]]:
    """The draws of one thought in one block; -1 marks steps at which it drew nothing."""
    real = tokens >= 0
    columns = (tokens[real].tolist(), log_probs[real].tolist(), log_probs_at_1[real].tolist())
    return list(zip(*columns, strict=True))
