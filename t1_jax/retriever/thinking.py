"""Thinking about many queries: in blocks, each of which is looked up in a cache of thoughts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from t1_jax.generate import Prompt, Sampler, SamplingParams, Thought
from t1_jax.progress import Advance, track
from t1_jax.retriever.thought_cache import thought_key
from t1_jax.text import T1Tokenizer

if TYPE_CHECKING:
    from t1_jax.retriever.t1 import T1

_BATCHES_OF_BLOCK = 8
"""Full batches of a block. Its thoughts are stored together, so an interruption costs one block."""


def sample_thoughts(
    sampler: Sampler,
    tokenizer: T1Tokenizer,
    prompts: Sequence[Prompt],
    *,
    n: int,
    max_thought_tokens: int,
    sampling: SamplingParams,
    batch_size: int | None,
    advance: Advance,
) -> list[list[Thought]]:
    """The thoughts of each prompt with their texts, ordered by sample number.

    `advance` is told of each thought. Raises: as `Sampler.think`.
    """
    groups: list[list[Thought]] = [[] for _ in prompts]
    for index, thought in sampler.think(
        prompts,
        n=n,
        max_thought_tokens=max_thought_tokens,
        sampling=sampling,
        batch_size=batch_size,
    ):
        text = tokenizer.decode_thought(thought.token_ids)
        groups[index].append(replace(thought, text=text))
        advance(1)
    return [sorted(thoughts, key=lambda thought: thought.sample) for thoughts in groups]


def think_in_blocks(
    model: "T1",
    prompts: Sequence[Prompt],
    *,
    n: int,
    max_thought_tokens: int,
    sampling: SamplingParams,
    batch_size: int | None,
    show_progress_bar: bool,
) -> list[list[Thought]]:
    """The thoughts of each prompt, from the model's cache where it has them.

    Equal prompts share their thoughts. With and without a cache the same blocks are computed, so
    an empty cache changes no bit, and thoughts that are read back have the bits of their first
    sampling. As with any other batch, the last bits of an embedding depend on the prompts that are
    computed together.

    Raises: as `Sampler.think`.
    """
    model.sampler.check(prompts, n, max_thought_tokens, sampling)
    places: dict[tuple[str, tuple[int, ...]], int] = {}
    place = [
        places.setdefault((prompt.query_id, tuple(prompt.token_ids)), len(places))
        for prompt in prompts
    ]
    distinct = [Prompt(query_id=name, token_ids=ids) for name, ids in places]
    size = _BATCHES_OF_BLOCK * model.options.shapes.prompt_sizes(n)[0]
    groups: list[list[Thought]] = []
    with track("thinking", len(distinct) * n, "thoughts", shown=show_progress_bar) as advance:

        def sample(prompts: Sequence[Prompt]) -> list[list[Thought]]:
            return sample_thoughts(
                model.sampler,
                model.tokenizer,
                prompts,
                n=n,
                max_thought_tokens=max_thought_tokens,
                sampling=sampling,
                batch_size=batch_size,
                advance=advance,
            )

        def keys(prompt: Prompt) -> list[bytes]:
            return [
                thought_key(
                    model.thought_fingerprint,
                    prompt,
                    number,
                    max_thought_tokens=max_thought_tokens,
                    sampling=sampling,
                )
                for number in range(n)
            ]

        for start in range(0, len(distinct), size):
            block = distinct[start : start + size]
            if model.thought_cache is None:
                groups += sample(block)
            else:
                groups += _through_cache(model, block, keys, sample, advance)
    return [groups[index] for index in place]


def _through_cache(
    model: "T1",
    prompts: Sequence[Prompt],
    keys: Callable[[Prompt], list[bytes]],
    sample: Callable[[Sequence[Prompt]], list[list[Thought]]],
    advance: Advance,
) -> list[list[Thought]]:
    """Thoughts from the cache; the prompts that lack one are sampled, and their thoughts stored."""
    assert model.thought_cache is not None
    keys_of = [keys(prompt) for prompt in prompts]
    known = iter(model.thought_cache.get([key for group in keys_of for key in group]))
    found = [[next(known) for _ in group] for group in keys_of]
    missing = [index for index, group in enumerate(found) if None in group]
    advance(sum(len(group) for group in found) - sum(len(found[index]) for index in missing))
    sampled = sample([prompts[index] for index in missing]) if missing else []
    model.thought_cache.put(
        {
            key: thought
            for index, group in zip(missing, sampled, strict=True)
            for key, thought in zip(keys_of[index], group, strict=True)
        }
    )
    for index, group in zip(missing, sampled, strict=True):
        found[index] = [old or new for old, new in zip(found[index], group, strict=True)]
    return [
        [replace(thought, sample=number) for number, thought in enumerate(group) if thought]
        for group in found
    ]
