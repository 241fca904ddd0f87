"""Constrained decoding: every thought is one of the texts, and the one that brute force finds."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from t1_jax.errors import ConfigError
from t1_jax.generate import Choices, FinishReason, Sampler, SamplingParams, StopTokens, Thought
from t1_jax.model import Decoder
from t1_jax.parallel import MeshConfig, MeshContext, make_mesh_context, single_device_mesh_context
from tests.generate.test_sampler import (
    EMB,
    EOS,
    SHAPES,
    assert_full_forward_agrees,
    decoder_on,
    full_forward,
    prompts,
)

VOCAB = 20
TEXTS = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=5), min_size=1, max_size=12)
TITLES = [[30, 31, 32], [30, 31], [30, 40, 41, 42, 43, 44, 45], [50], [60, 61], [60, 62], [30, 31]]


def walk(choices: Choices, text: Sequence[int]) -> tuple[set[int], bool]:
    """Tokens that may follow a prefix, by the functions of the device; whether it is known."""
    trie = choices.on(single_device_mesh_context())
    nodes, known = jnp.zeros(1, jnp.int32), True
    for token in [*text, None]:
        children = trie.children(nodes, VOCAB)
        banned = np.asarray(trie.banned(nodes, children, VOCAB, EMB))[0]
        allowed = set(np.flatnonzero(~banned).tolist())
        if token is None:
            return allowed, known
        known = known and token in allowed
        nodes = trie.next_nodes(nodes, children, jnp.array([token]))
    raise AssertionError


@settings(max_examples=15)
@given(texts=TEXTS, data=st.data())
def test_what_may_follow_a_prefix_is_what_follows_it_in_a_text(texts, data) -> None:
    ended = [[*text, EMB] for text in texts]
    text = data.draw(st.sampled_from(ended))
    prefix = text[: data.draw(st.integers(0, len(text)))]
    choices = Choices(texts, end=EMB)
    following = {
        other[len(prefix)]
        for other in ended
        if other[: len(prefix)] == prefix and len(other) > len(prefix)
    }
    assert walk(choices, prefix) == (following or {EMB}, True)
    assert choices.count == len({tuple(each) for each in texts})
    assert choices.longest == max(map(len, texts))
    again = Choices([[], *reversed(texts), texts[0]], end=EMB)
    assert again.fingerprint == choices.fingerprint


def think(
    decoder: Decoder,
    mesh_context: MeshContext,
    sampling: SamplingParams,
    *,
    n: int = 1,
    choices: Choices | None = None,
) -> dict[tuple[int, int], Thought]:
    shapes = dataclasses.replace(SHAPES, batch_divisor=mesh_context.batch_divisor)
    sampler = Sampler(decoder, mesh_context, StopTokens(emb=EMB, eos=(EOS,)), shapes)
    found = sampler.think(
        prompts(5),
        n=n,
        max_thought_tokens=3,  # fewer than the longest title has
        sampling=sampling,
        choices=choices or Choices(TITLES, end=EMB),
    )
    return {(index, thought.sample): thought for index, thought in found}


def test_a_greedy_thought_is_the_one_of_brute_force() -> None:
    mesh_context = single_device_mesh_context()
    decoder = decoder_on(mesh_context)
    found = think(decoder, mesh_context, SamplingParams(temperature=0.0))
    with mesh_context.activate():
        graph, weights = nnx.split(decoder)
    for index, prompt in enumerate(prompts(5)):
        thought: list[int] = []
        while not thought or thought[-1] != EMB:
            row = np.zeros((1, 64), np.int32)
            ids = [*prompt.token_ids, *thought]
            row[0, : len(ids)] = ids
            with mesh_context.activate():
                logits, _ = full_forward(graph, weights, jnp.asarray(row), jnp.array([0]))
            allowed = {
                text[len(thought)]
                for text in ([*title, EMB] for title in TITLES)
                if text[: len(thought)] == thought and len(text) > len(thought)
            }
            row_logits = np.asarray(logits)[0, len(ids) - 1]
            thought.append(max(allowed, key=lambda token: row_logits[token]))
        assert found[index, 0].token_ids.tolist() == thought
    assert_full_forward_agrees(decoder, mesh_context, found, 1.0, 64)


def test_every_one_of_several_thoughts_is_a_text() -> None:
    mesh = MeshConfig(data=2, fsdp=1, tensor=1)
    mesh_context = make_mesh_context(mesh, devices=jax.devices()[:2])
    decoder = decoder_on(mesh_context)
    sampling = SamplingParams(seed=3, temperature=1.5, top_p=0.99)
    found = think(decoder, mesh_context, sampling, n=4)
    assert len(found) == 20
    texts = [[*title, EMB] for title in TITLES]
    chosen = [thought.token_ids.tolist() for thought in found.values()]
    assert all(tokens in texts for tokens in chosen)
    assert len({tuple(tokens) for tokens in chosen}) > 1
    assert {thought.finish_reason for thought in found.values()} == {FinishReason.EMB_TOKEN}


def test_choices_without_sense() -> None:
    with pytest.raises(ConfigError, match="at least one text"):
        Choices([[]], end=EMB)
    mesh_context = single_device_mesh_context()
    with pytest.raises(ConfigError, match="min_length=2 would forbid"):
        think(decoder_on(mesh_context), mesh_context, SamplingParams(min_length=2))
    assert repr(Choices(TITLES, end=EMB)) == "Choices(6 texts, at most 7 tokens)"
