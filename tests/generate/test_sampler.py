"""The sampler against plain full forwards of the same decoder."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from t1_jax.errors import ConfigError
from t1_jax.generate import BatchShapes, FinishReason, Prompt, Sampler, SamplingParams, StopTokens
from t1_jax.generate.thought import Thought
from t1_jax.model import Decoder, DecoderConfig, ModelOptions, RopeConfig, pool_embeddings
from t1_jax.parallel import (
    MeshConfig,
    MeshContext,
    count_compilations,
    make_mesh_context,
    single_device_mesh_context,
)
from tests.tiny import random_decoder

EMB, EOS = 16, 17
CONFIG = DecoderConfig(
    family="qwen3",
    vocab_size=200,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=64,
    norm_eps=1e-6,
    rope=RopeConfig(theta=1e4),
    max_positions=512,
    qkv_bias=True,
    qk_norm=True,
    windows=(0, 4),
)
SHAPES = BatchShapes(max_rows=8, prefix_sizes=(32,), suffix_step=16, chunk_steps=5)
# Half as many programs: the first suffix cache holds a whole thought.
ONE_SUFFIX = dataclasses.replace(SHAPES, suffix_step=32)
FOUR_ROWS = dataclasses.replace(SHAPES, max_rows=4)
FILTERED = SamplingParams(
    temperature=0.7, top_k=20, top_p=0.9, min_p=0.05, repetition_penalty=1.3, min_length=5
)
Found = dict[tuple[int, int], Thought]


def decoder_on(mesh_context: MeshContext, **options: Any) -> Decoder:
    return random_decoder(CONFIG, ModelOptions(**options), mesh_context)


def prompts(count: int = 13) -> list[Prompt]:
    example = np.random.default_rng(0)
    return [
        Prompt(
            query_id=f"q{i}", token_ids=example.integers(20, 200, example.integers(3, 30)).tolist()
        )
        for i in range(count)
    ]


def think(
    decoder: Decoder,
    mesh_context: MeshContext,
    *,
    shapes: BatchShapes = SHAPES,
    n: int = 1,
    max_thought_tokens: int = 21,
    sampling: SamplingParams = SamplingParams(seed=7),  # noqa: B008
    of: list[Prompt] | None = None,
) -> Found:
    shapes = dataclasses.replace(shapes, batch_divisor=mesh_context.batch_divisor)
    sampler = Sampler(decoder, mesh_context, StopTokens(emb=EMB, eos=(EOS,)), shapes)
    thoughts = sampler.think(
        of or prompts(), n=n, max_thought_tokens=max_thought_tokens, sampling=sampling
    )
    return {(index, thought.sample): thought for index, thought in thoughts}


def most_programs(shapes: BatchShapes, *, n: int, max_thought_tokens: int) -> int:
    """Bound on the compiled chunks, over all sizes of batch, suffix and prefix."""
    suffixes, size = 1, shapes.suffix_step
    while size < shapes.suffix_size(max_thought_tokens + 2 + shapes.chunk_steps):
        suffixes, size = suffixes + 1, size * 2
    batches = len(shapes.prompt_sizes(n)) * len(shapes.thought_sizes(n))
    return batches * suffixes * len(shapes.prefix_sizes)


def tokens(found: Found) -> dict[tuple[int, int], list[int]]:
    return {key: thought.token_ids.tolist() for key, thought in found.items()}


@functools.partial(jax.jit, static_argnames=("graph",))
def full_forward(
    graph: nnx.GraphDef[Decoder], weights: nnx.State, row: jax.Array, at: jax.Array
) -> tuple[jax.Array, jax.Array]:
    model = nnx.merge(graph, weights)
    hidden = model(row)
    return model.logits(hidden), pool_embeddings(model, hidden, at)


def assert_full_forward_agrees(
    decoder: Decoder, mesh_context: MeshContext, found: Found, temperature: float, pad: int
) -> None:
    """Log-probabilities to 1e-3 and vectors to a cosine of 0.99999, rows padded to `pad`."""
    graph, weights = nnx.split(decoder)

    for (index, _), thought in found.items():
        start = len(prompts()[index].token_ids)
        ids = [*prompts()[index].token_ids, *thought.token_ids.tolist()]
        row = np.zeros((1, pad or len(ids)), np.int32)
        row[0, : len(ids)] = ids
        with mesh_context.activate():
            logits, vector = full_forward(
                graph,
                weights,
                jax.device_put(row, mesh_context.activation("bl")),
                jax.device_put(np.array([len(ids) - 1]), mesh_context.activation("b")),
            )
        logits = np.asarray(logits)[0, start - 1 : len(ids) - 1, : CONFIG.vocab_size]
        for log_probs, at in (
            (thought.log_probs, temperature or 1.0),
            (thought.log_probs_at_1, 1.0),
        ):
            scaled = logits / at
            expected = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))
            picked = expected[np.arange(len(expected)), thought.token_ids]
            np.testing.assert_allclose(log_probs, picked, atol=1e-3)
        assert float(np.asarray(vector)[0] @ thought.embedding) > 0.99999


@pytest.fixture(scope="module")
def one() -> MeshContext:
    return single_device_mesh_context()


@pytest.fixture(scope="module")
def decoder(one: MeshContext) -> Decoder:
    return decoder_on(one)


@pytest.fixture(scope="module")
def alone(decoder: Decoder, one: MeshContext) -> Found:
    """One thought a prompt, four prompts at a time."""
    return think(decoder, one, shapes=FOUR_ROWS)


@pytest.fixture(scope="module")
def groups(decoder: Decoder, one: MeshContext) -> Found:
    """Four thoughts a prompt, two prompts at a time: the batch shrinks and refills."""
    return think(decoder, one, n=4)


@pytest.mark.parametrize("pad", [64, 0], ids=["padded", "unpadded"])
def test_full_forward_agrees(decoder: Decoder, one: MeshContext, alone: Found, pad: int):
    few = {key: alone[key] for key in list(alone)[:4]} if pad == 0 else alone
    assert_full_forward_agrees(decoder, one, few, 1.0, pad)


def test_full_forward_agrees_for_groups_that_joined_late(
    decoder: Decoder, one: MeshContext, groups: Found
):
    assert len(groups) == 13 * 4
    assert_full_forward_agrees(decoder, one, groups, 1.0, 64)


def test_full_forward_agrees_under_filters_and_temperature(decoder: Decoder, one: MeshContext):
    found = think(decoder, one, n=2, sampling=FILTERED, shapes=ONE_SUFFIX)
    assert min(thought.reasoning_tokens for thought in found.values()) >= FILTERED.min_length
    assert_full_forward_agrees(decoder, one, found, FILTERED.temperature, 64)


def test_a_thought_does_not_depend_on_its_batch(
    decoder: Decoder, one: MeshContext, alone: Found, groups: Found
):
    wide = think(decoder, one, shapes=dataclasses.replace(ONE_SUFFIX, max_rows=16, chunk_steps=24))
    assert tokens(wide) == tokens(alone)
    assert {key: tokens(groups)[key] for key in alone} == tokens(alone)
    single = think(decoder, one, of=[prompts()[7]], shapes=FOUR_ROWS)
    assert tokens(single)[0, 0] == tokens(alone)[7, 0]


def test_seed_and_query_id_choose_the_thought(decoder: Decoder, one: MeshContext, alone: Found):
    other = think(decoder, one, sampling=SamplingParams(seed=1), shapes=FOUR_ROWS)
    assert tokens(other) != tokens(alone)
    renamed = [dataclasses.replace(p, query_id=f"other {p.query_id}") for p in prompts()]
    assert tokens(think(decoder, one, of=renamed, shapes=FOUR_ROWS)) != tokens(alone)


def test_unrolled_layers_and_eight_devices_think_the_same(one: MeshContext, groups: Found):
    unrolled = think(decoder_on(one, unroll_decode=True), one, n=4, shapes=ONE_SUFFIX)
    assert tokens(unrolled) == tokens(groups)
    many = make_mesh_context(MeshConfig(data=2, fsdp=2, tensor=2))
    shapes = dataclasses.replace(ONE_SUFFIX, max_rows=16)
    sharded = think(decoder_on(many), many, n=4, shapes=shapes)
    assert tokens(sharded) == tokens(groups)
    for key, thought in groups.items():
        assert float(sharded[key].embedding @ thought.embedding) > 0.99999


def test_budget_end_of_text_and_own_choice_end_a_thought(groups: Found):
    ends = {thought.finish_reason for thought in groups.values()}
    assert ends == {FinishReason.LENGTH, FinishReason.EOS, FinishReason.EMB_TOKEN}
    for thought in groups.values():
        ids = thought.token_ids.tolist()
        assert ids[-1] == EMB
        assert EMB not in ids[:-1]
        assert len(ids) <= 22
        assert (len(ids) == 22) == (thought.finish_reason is FinishReason.LENGTH)
        assert (EOS in ids) == (thought.finish_reason is FinishReason.EOS)
        assert thought.emb_token_appended == (thought.finish_reason is not FinishReason.EMB_TOKEN)


def test_greedy_needs_no_seed(decoder: Decoder, one: MeshContext):
    first, second = (
        think(decoder, one, sampling=SamplingParams(temperature=0.0, seed=seed), shapes=ONE_SUFFIX)
        for seed in (1, 2)
    )
    assert tokens(first) == tokens(second)


def test_programs_are_bounded_by_the_buckets(one: MeshContext):
    # A vocabulary of its own, so that no other test has compiled these programs before.
    config = dataclasses.replace(CONFIG, vocab_size=205, num_layers=1, windows=())
    shapes = dataclasses.replace(FOUR_ROWS, prefix_sizes=(16, 32))
    decoder = random_decoder(config, ModelOptions(), one)
    with count_compilations() as compiled:
        think(decoder, one, n=2, shapes=shapes)
    bound = most_programs(shapes, n=2, max_thought_tokens=21)
    assert 0 < compiled.of["decode_chunk"] <= bound
    with count_compilations() as again:
        think(
            decoder,
            one,
            n=2,
            shapes=shapes,
            sampling=SamplingParams(seed=4),
            max_thought_tokens=20,
        )
    # Another seed and another budget are no reason to compile; other batch sizes may come up.
    assert again.of["decode_chunk"] <= bound - compiled.of["decode_chunk"]


def test_prompts_of_several_sizes_share_batches_where_they_are_few(
    decoder: Decoder, one: MeshContext, alone: Found
):
    shapes = dataclasses.replace(ONE_SUFFIX, prefix_sizes=(16, 32), max_rows=16)
    assert tokens(think(decoder, one, shapes=shapes)) == tokens(alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_thought_tokens": 0}, "think=False"),
        ({"n": 0}, "thoughts n must"),
        ({"max_thought_tokens": 500}, "lower max_thought_tokens"),
        ({"of": [Prompt(query_id="short", token_ids=[20])]}, "short"),
    ],
)
def test_impossible_requests_are_refused(
    decoder: Decoder, one: MeshContext, change: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        think(decoder, one, **change)


def test_no_prompts_no_thoughts(decoder: Decoder, one: MeshContext):
    sampler = Sampler(decoder, one, StopTokens(emb=EMB, eos=(EOS,)), SHAPES)
    assert list(sampler.think([], n=1, max_thought_tokens=5, sampling=SamplingParams())) == []
