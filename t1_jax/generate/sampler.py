"""The sampler: prompts in, thoughts out, in the order in which they end."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flax import nnx

from t1_jax.errors import ConfigError
from t1_jax.generate.batch import CompiledModel, DecodeBatch, Prompt
from t1_jax.generate.continuous import ContinuousBatch
from t1_jax.generate.loop import StopTokens
from t1_jax.generate.sampling import SamplingParams
from t1_jax.generate.shapes import BatchShapes
from t1_jax.generate.thought import Thought
from t1_jax.generate.trie import Choices
from t1_jax.interrupt import Interrupt
from t1_jax.model import Decoder
from t1_jax.parallel import MeshContext


class Sampler:
    """Samples thoughts from a decoder without an unmerged adapter.

    Each prompt is prefilled once, whatever the number of its thoughts. Prompts of similar length
    share a batch (continuous batching): between chunks of decoding steps, ended thoughts leave the
    batch and waiting prompts join it. The interrupt is checked before each chunk.
    """

    def __init__(
        self,
        decoder: Decoder,
        mesh_context: MeshContext,
        stop: StopTokens,
        shapes: BatchShapes,
        *,
        interrupt: Interrupt | None = None,
    ) -> None:
        unstacked = decoder.options.unroll_decode
        with mesh_context.activate():
            prefill = nnx.split(decoder)
            decode = nnx.split(decoder.unstack_layers()) if unstacked else prefill
        self._max_positions = decoder.config.max_positions
        self._shapes = shapes
        self._interrupt = interrupt or Interrupt()
        self._model = CompiledModel(
            mesh_context=mesh_context,
            stop=stop,
            prefill=prefill,
            decode=decode,
            unstacked=unstacked,
            vocab_rows=decoder.config.padded_vocab_size,
        )

    def think(
        self,
        prompts: Sequence[Prompt],
        *,
        n: int,
        max_thought_tokens: int,
        sampling: SamplingParams,
        batch_size: int | None = None,
        choices: Choices | None = None,
    ) -> Iterator[tuple[int, Thought]]:
        """Yields (number of the prompt, thought) in the order in which thoughts end.

        `n` is the number of thoughts per prompt (G in shapes); `max_thought_tokens` does not count
        `<emb_token>`. `batch_size` bounds the prompts that are thought about at once; by default
        the shapes do. With `choices` each thought is one of these texts, however long it is.

        Raises:
            ConfigError: as `check_thought_limits`, `batch_size` is below 1, or a prompt leaves no
                room for its thought in the model's context.
            Interrupted: the interrupt was requested.
        """
        if choices is not None:
            max_thought_tokens = choices.max_thought_tokens(sampling)
        self.check(prompts, n, max_thought_tokens, sampling)
        shapes = self._shapes if batch_size is None else self._shapes.with_prompts(batch_size, n)
        for prefix_size, indices in self._by_size(prompts, n, shapes):
            batch = DecodeBatch(
                self._model,
                shapes,
                [(index, prompts[index]) for index in indices],
                prefix_size=prefix_size,
                n=n,
                max_thought_tokens=max_thought_tokens,
                sampling=sampling,
                interrupt=self._interrupt,
                choices=choices,
            )
            yield from batch.run()

    def continuous_batch(
        self,
        *,
        prefix_size: int,
        max_thought_tokens: int,
        sampling: SamplingParams,
        shapes: BatchShapes,
    ) -> ContinuousBatch:
        """An empty batch for a server, which decides itself who joins it and when.

        `shapes` gives rows, slots and steps of a chunk; its `batch_divisor` is that of the sampler.
        """
        shapes = replace(shapes, batch_divisor=self._shapes.batch_divisor)
        return ContinuousBatch(
            self._model,
            shapes,
            prefix_size=prefix_size,
            max_thought_tokens=max_thought_tokens,
            sampling=sampling,
        )

    def check(
        self, prompts: Sequence[Prompt], n: int, max_thought_tokens: int, sampling: SamplingParams
    ) -> None:
        """Raises the ConfigError that `think` would raise."""
        check_thought_limits(n, max_thought_tokens, sampling)
        for prompt in prompts:
            needed = len(prompt.token_ids) + max_thought_tokens + 1
            if len(prompt.token_ids) < 2 or needed > self._max_positions:
                raise ConfigError(
                    f"query {prompt.query_id}: a prompt of {len(prompt.token_ids)} tokens and a "
                    f"thought of up to {max_thought_tokens} need {needed} positions; the model has "
                    f"{self._max_positions}",
                    hint="lower max_thought_tokens or shorten the longest query",
                )

    def _by_size(
        self, prompts: Sequence[Prompt], n: int, shapes: BatchShapes
    ) -> Iterator[tuple[int, list[int]]]:
        """Prompts by padded length; too few to fill half a batch move up to the next size."""
        half_batch = shapes.prompt_sizes(n)[0] // 2
        sizes = [
            min(shapes.prefix_size(len(prompt.token_ids)), self._max_positions)
            for prompt in prompts
        ]
        waiting: list[int] = []
        for size in sorted(set(sizes)):
            waiting += [index for index, padded in enumerate(sizes) if padded == size]
            if len(waiting) >= half_batch or size == max(sizes):
                yield size, waiting
                waiting = []


def check_thought_limits(n: int, max_thought_tokens: int, sampling: SamplingParams) -> None:
    """Checks number and length of the thoughts about one query.

    Raises:
        ConfigError: one of them is below 1, or several thoughts are decoded greedily, and so equal.
    """
    if max_thought_tokens < 1:
        raise ConfigError(
            f"max_thought_tokens must be at least 1, got {max_thought_tokens}",
            hint="to embed a query without a thought, use think=False",
        )
    if n < 1:
        raise ConfigError(f"the number of thoughts n must be at least 1, got {n}")
    if n > 1 and sampling.temperature == 0:
        raise ConfigError(
            f"n={n} at temperature 0 samples the same thought {n} times",
            hint="set a temperature above 0, as in 0.7, or n=1",
        )
