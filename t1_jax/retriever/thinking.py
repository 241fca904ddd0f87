"""Thinking about many queries: in blocks, each of which is looked up in a cache of thoughts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from t1_jax.generate import Choices, Prompt, Sampler, SamplingParams, Thought
from t1_jax.retriever.thought_cache import ThoughtCache, thought_key
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
    on_thought: Callable[[Thought], None],
    choices: Choices | None = None,
) -> list[list[Thought]]:
    """The thoughts of each prompt with their texts, ordered by sample number.

    `on_thought` is called when a thought ends. Raises: as `Sampler.think`.
    """
    groups: list[list[Thought]] = [[] for _ in prompts]
    for index, thought in sampler.think(
        prompts,
        n=n,
        max_thought_tokens=max_thought_tokens,
        sampling=sampling,
        batch_size=batch_size,
        choices=choices,
    ):
        thought = replace(thought, text=tokenizer.decode_thought(thought.token_ids))
        groups[index].append(thought)
        on_thought(thought)
    return [sorted(thoughts, key=lambda thought: thought.sample) for thoughts in groups]


def block_size(model: "T1", n: int) -> int:
    """Queries of a block: as many as fill a few batches with n thoughts each."""
    return _BATCHES_OF_BLOCK * model.options.shapes.prompt_sizes(n)[0]


def think_in_blocks(
    model: "T1",
    prompts: Sequence[Prompt],
    *,
    n: int,
    max_thought_tokens: int,
    sampling: SamplingParams,
    batch_size: int | None = None,
    on_thought: Callable[[Thought], None],
    choices: Choices | None = None,
) -> list[list[Thought]]:
    """The thoughts of each prompt, from the model's cache where it has them.

    Equal prompts share their thoughts. With and without a cache the same blocks are computed, so
    an empty cache changes no bit, and thoughts that are read back have the bits of their first
    sampling. As with any other batch, the last bits of an embedding depend on the prompts that are
    computed together.

    `on_thought` is called for each thought of each prompt. Raises: as `Sampler.think`.
    """
    if choices is not None:
        max_thought_tokens = choices.max_thought_tokens(sampling)
    model.sampler.check(prompts, n, max_thought_tokens, sampling)
    numbers: dict[tuple[str, tuple[int, ...]], int] = {}
    number_of = [
        numbers.setdefault((prompt.query_id, tuple(prompt.token_ids)), len(numbers))
        for prompt in prompts
    ]
    distinct = [Prompt(query_id=name, token_ids=ids) for name, ids in numbers]

    def sample(prompts: Sequence[Prompt]) -> list[list[Thought]]:
        return sample_thoughts(
            model.sampler,
            model.tokenizer,
            prompts,
            n=n,
            max_thought_tokens=max_thought_tokens,
            sampling=sampling,
            batch_size=batch_size,
            on_thought=on_thought,
            choices=choices,
        )

    def keys(prompt: Prompt) -> list[bytes]:
        return [
            thought_key(
                model.thought_fingerprint,
                prompt,
                number,
                max_thought_tokens=max_thought_tokens,
                sampling=sampling,
                choices=choices,
            )
            for number in range(n)
        ]

    groups: list[list[Thought]] = []
    size = block_size(model, n)
    for start in range(0, len(distinct), size):
        block = distinct[start : start + size]
        if model.thought_cache is None:
            groups += sample(block)
        else:
            groups += _through_cache(model.thought_cache, block, keys, sample, on_thought)
    first = set()
    for number in number_of:
        if number in first:
            for thought in groups[number]:
                on_thought(thought)
        first.add(number)
    return [groups[number] for number in number_of]


def _through_cache(
    cache: ThoughtCache,
    prompts: Sequence[Prompt],
    keys: Callable[[Prompt], list[bytes]],
    sample: Callable[[Sequence[Prompt]], list[list[Thought]]],
    on_thought: Callable[[Thought], None],
) -> list[list[Thought]]:
    """Thoughts from the cache; the prompts that lack one are sampled, and their thoughts stored."""
    keys_of = [keys(prompt) for prompt in prompts]
    known = iter(cache.get([key for group in keys_of for key in group]))
    groups: list[list[Thought]] = []
    partly: dict[int, list[Thought | None]] = {}
    for index, group in enumerate(keys_of):
        found = [next(known) for _ in group]
        complete = [
            replace(thought, sample=number)
            for number, thought in enumerate(found)
            if thought is not None
        ]
        groups.append(complete)
        if len(complete) < len(group):
            partly[index] = found
        else:
            for thought in complete:
                on_thought(thought)
    if not partly:
        return groups
    sampled = sample([prompts[index] for index in partly])
    new: dict[bytes, Thought] = {}
    for (index, found), thoughts in zip(partly.items(), sampled, strict=True):
        new |= zip(keys_of[index], thoughts, strict=True)
        groups[index] = [
            thought if old is None else replace(old, sample=thought.sample)
            for old, thought in zip(found, thoughts, strict=True)
        ]
    cache.put(new)
    return groups
