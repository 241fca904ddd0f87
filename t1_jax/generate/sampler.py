"""The sampler: prompts in, thoughts out, in whatever order they end."""

from collections.abc import Iterator, Sequence

from flax import nnx

from t1_jax.errors import ConfigError
from t1_jax.generate.batch import Batch, Programs, Prompt
from t1_jax.generate.loop import StopTokens
from t1_jax.generate.sampling import SamplingParams
from t1_jax.generate.shapes import BatchShapes
from t1_jax.generate.thought import Thought
from t1_jax.interrupt import Interrupt
from t1_jax.model import Decoder
from t1_jax.parallel import MeshContext


class Sampler:
    """Draws thoughts from a decoder.

    Each prompt is prefilled once, whatever the number of its thoughts. Prompts of one length
    bucket share a batch; between blocks finished thoughts leave it and prompts of the queue take
    their places.

    Args:
        decoder: the model.
        mesh_context: that it lies on.
        stop: tokens that end a thought.
        shapes: of batches.
        interrupt: ends sampling early; checked before each chunk of decoding steps.
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
        unroll = decoder.options.unroll_decode
        with mesh_context.activate():
            prefill = nnx.split(decoder)
            step = nnx.split(decoder.unrolled()) if unroll else prefill
        self._config = decoder.config
        self._shapes = shapes
        self._interrupt = interrupt or Interrupt()
        self._programs = Programs(
            mesh_context=mesh_context,
            stop=stop,
            prefill=prefill,
            step=step,
            unroll=unroll,
            vocab_rows=decoder.config.padded_vocab_size,
        )

    def think(
        self,
        prompts: Sequence[Prompt],
        *,
        samples: int,
        max_thought_tokens: int,
        options: SamplingParams,
    ) -> Iterator[tuple[int, Thought]]:
        """Yields (index of the prompt, thought) in the order in which thoughts end.

        Args:
            prompts: any number, in any order.
            samples: G, thoughts per prompt.
            max_thought_tokens: most tokens of a thought, `<emb_token>` not counted.
            options: how tokens are drawn.

        Raises:
            ConfigError: a budget or number of samples below 1, or a prompt that leaves no room
                for its thought in the model's context.
        """
        self._check(prompts, samples, max_thought_tokens)
        for size, indices in self._by_size(prompts, samples):
            batch = Batch(
                self._programs,
                self._shapes,
                [(index, prompts[index]) for index in indices],
                prefix_size=size,
                samples=samples,
                max_thought_tokens=max_thought_tokens,
                options=options,
                interrupt=self._interrupt,
            )
            yield from batch.run()

    def _check(self, prompts: Sequence[Prompt], samples: int, max_thought_tokens: int) -> None:
        if max_thought_tokens < 1:
            raise ConfigError(
                f"a thought's budget must be at least 1 token, got {max_thought_tokens}",
                hint="to embed without a thought use think=False",
            )
        if samples < 1:
            raise ConfigError(f"the number of thoughts must be at least 1, got {samples}")
        for prompt in prompts:
            needed = len(prompt.token_ids) + max_thought_tokens + 1
            if len(prompt.token_ids) < 2 or needed > self._config.max_positions:
                raise ConfigError(
                    f"query {prompt.query_id}: a prompt of {len(prompt.token_ids)} tokens and a "
                    f"budget of {max_thought_tokens} need {needed} positions; the model has "
                    f"{self._config.max_positions}",
                    hint="lower the budget or the longest query",
                )

    def _by_size(self, prompts: Sequence[Prompt], samples: int) -> Iterator[tuple[int, list[int]]]:
        """Prompts by padded length; too few to fill half a batch move up to the next size."""
        half = self._shapes.prompt_sizes(samples)[0] // 2
        longest = self._config.max_positions
        sizes = [
            min(self._shapes.prefix_size(len(prompt.token_ids)), longest) for prompt in prompts
        ]
        carried: list[int] = []
        for size in sorted(set(sizes)):
            carried += [index for index, of in enumerate(sizes) if of == size]
            if len(carried) >= half or size == max(sizes):
                yield size, carried
                carried = []
