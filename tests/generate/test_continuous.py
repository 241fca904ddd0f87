"""A batch for serving: its thoughts are the sampler's, whoever else is in the batch."""

import dataclasses

import jax
import numpy as np
import pytest

from t1_jax.generate import (
    ContinuousBatch,
    FinishReason,
    RunningThought,
    Sampler,
    SamplingParams,
    StopTokens,
    Thought,
)
from t1_jax.model import Decoder
from t1_jax.parallel import (
    MeshConfig,
    MeshContext,
    count_compilations,
    make_mesh_context,
)
from tests.generate.test_sampler import EMB, EOS, FOUR_ROWS, decoder_on, prompts, think, tokens
from tests.generate.test_sampler import decoder as decoder
from tests.generate.test_sampler import one as one

SAMPLING = SamplingParams(seed=7)
SHAPES = dataclasses.replace(FOUR_ROWS, chunk_steps=3)


@pytest.fixture(scope="module")
def sampler(decoder: Decoder, one: MeshContext) -> Sampler:
    return Sampler(decoder, one, StopTokens(emb=EMB, eos=(EOS,)), SHAPES)


def empty(sampler: Sampler) -> ContinuousBatch:
    return sampler.continuous_batch(
        prefix_size=32, max_thought_tokens=21, sampling=SAMPLING, shapes=SHAPES
    )


def served(batch: ContinuousBatch, limits: dict[int, int]) -> dict[int, Thought]:
    """Thoughts about these prompts, which join as soon as a row is free."""
    waiting, running, found = list(limits), {}, {}
    while waiting or running:
        if waiting and batch.free:  # one joins before each chunk
            index = waiting.pop(0)
            (thought,) = batch.insert(
                prompts()[index], seed=7, samples=[0], max_thought_tokens=limits[index]
            )
            running[id(thought)] = index
        for thought, result in batch.decode_chunk():
            found[running.pop(id(thought))] = result
    return found


def same(a: Thought, b: Thought) -> bool:
    return (
        a.token_ids.tolist() == b.token_ids.tolist()
        and a.finish_reason is b.finish_reason
        and np.array_equal(a.embedding, b.embedding)
        and np.array_equal(a.log_probs, b.log_probs)
    )


def test_thoughts_are_those_of_the_sampler(decoder: Decoder, one: MeshContext, sampler: Sampler):
    expected = think(decoder, one, shapes=FOUR_ROWS)
    found = served(empty(sampler), dict.fromkeys(range(13), 21))
    assert {(i, 0): t.token_ids.tolist() for i, t in found.items()} == tokens(expected)
    for index, thought in found.items():
        assert float(thought.embedding @ expected[index, 0].embedding) > 0.99999
        assert thought.finish_reason is expected[index, 0].finish_reason


def test_company_changes_no_bit(sampler: Sampler):
    limits = {index: 5 + 4 * (index % 5) for index in range(9)}
    together = served(empty(sampler), limits)
    assert {len(thought.token_ids) for thought in together.values()} != {22}
    for index in (0, 4, 7):
        (alone,) = served(empty(sampler), {index: limits[index]}).values()
        assert same(alone, together[index])


def test_several_thoughts_share_one_prefill(decoder: Decoder, one: MeshContext, sampler: Sampler):
    expected = think(decoder, one, n=4, of=prompts()[:1])
    batch = empty(sampler)
    running = batch.insert(prompts()[0], seed=7, samples=[2, 0, 3, 1], max_thought_tokens=21)
    assert [thought.sample for thought in running] == [2, 0, 3, 1]
    found = {}
    while batch.running:
        found |= {thought.sample: thought for _, thought in batch.decode_chunk()}
    assert {(0, i): t.token_ids.tolist() for i, t in found.items()} == tokens(expected)


def test_a_probe_is_the_embedding_of_the_shorter_thought(sampler: Sampler):
    batch = empty(sampler)
    (running,) = batch.insert(prompts()[0], seed=7, samples=[0], max_thought_tokens=21)
    batch.decode_chunk()
    batch.decode_chunk()
    assert len(running.tokens) == 6
    ((_, vector),) = batch.probe()
    shorter = served(empty(sampler), {0: 5})[0]
    assert float(vector @ shorter.embedding) > 0.99999
    ended = batch.end_with_probe(running, vector, FinishReason.DEADLINE)
    assert ended.token_ids.tolist() == shorter.token_ids.tolist()
    assert ended.emb_token_appended
    assert batch.running == 0


def test_a_probe_changes_no_bit_of_the_thought(sampler: Sampler):
    plain = served(empty(sampler), {3: 12})[3]
    batch = empty(sampler)
    batch.insert(prompts()[3], seed=7, samples=[0], max_thought_tokens=12)
    found = []
    while batch.running:
        batch.probe()
        found += batch.decode_chunk()
    assert same(found[0][1], plain)


def test_a_removed_thought_leaves_the_others_and_its_row_is_free(sampler: Sampler):
    plain = served(empty(sampler), {1: 12})[1]
    batch = empty(sampler)
    unwanted: list[RunningThought] = []
    for index in (0, 2, 3):
        unwanted += batch.insert(prompts()[index], seed=7, samples=[0], max_thought_tokens=21)
    batch.insert(prompts()[1], seed=7, samples=[0], max_thought_tokens=12)
    assert batch.free == 0
    batch.decode_chunk()
    batch.remove(unwanted)
    assert batch.free == 3
    found = []
    while batch.running:
        found += batch.decode_chunk()
    assert [same(thought, plain) for _, thought in found] == [True]


def test_joining_and_leaving_compile_nothing_new(sampler: Sampler):
    served(empty(sampler), {0: 21, 1: 21})
    with count_compilations() as compiled:
        served(empty(sampler), dict.fromkeys(range(6), 20))
    assert compiled.count == 0


def test_eight_devices_think_the_same(decoder: Decoder, one: MeshContext, sampler: Sampler):
    many = make_mesh_context(MeshConfig(data=2, fsdp=2, tensor=2))
    shapes = dataclasses.replace(SHAPES, batch_divisor=many.batch_divisor)
    sharded = Sampler(decoder_on(many), many, StopTokens(emb=EMB, eos=(EOS,)), shapes)
    limits = {0: 21, 5: 21, 6: 21}
    here, there = served(empty(sampler), limits), served(empty(sharded), limits)
    for index in limits:
        assert there[index].token_ids.tolist() == here[index].token_ids.tolist()
        assert float(there[index].embedding @ here[index].embedding) > 0.99999


def test_the_state_is_on_the_mesh(sampler: Sampler, one: MeshContext):
    batch = empty(sampler)
    batch.insert(prompts()[0], seed=7, samples=[0], max_thought_tokens=3)
    assert batch._state is not None
    assert all(
        leaf.sharding.mesh == one.mesh
        for leaf in jax.tree.leaves(batch._state)
        if isinstance(leaf.sharding, jax.NamedSharding)
    )
