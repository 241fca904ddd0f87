from typing import Any

import numpy as np
import pytest

from t1_jax.errors import ConfigError, DataError, WeightsError
from t1_jax.generate import SamplingParams
from t1_jax.retriever import T1

QUERIES = ["an array is written past its end", "a lock is never released"]


def test_a_thought_given_back_has_the_vector_it_was_drawn_with(tiny_t1: T1):
    vectors, thoughts = tiny_t1.encode_query(QUERIES, return_thoughts=True)
    prompt_of = tiny_t1.encode_query(QUERIES, thoughts=[t[0].text for t in thoughts])
    assert vectors.shape == (2, tiny_t1.embed_dim)
    for row, (thought,) in enumerate(thoughts):
        np.testing.assert_allclose(thought.embedding, vectors[row], atol=1e-6)
        # Text survives only if its bytes decode; compare where encoding it gives the tokens back.
        tokens = tiny_t1.tokenizer.encode_thought(thought.text)
        if np.array_equal(tokens, thought.token_ids[:-1]):
            assert float(prompt_of[row] @ vectors[row]) > 0.99999


def test_several_thoughts_are_averaged_and_normalized(tiny_t1: T1):
    vectors, thoughts = tiny_t1.encode_query(QUERIES, n=3, return_thoughts=True)
    for vector, group in zip(vectors, thoughts, strict=True):
        assert [thought.sample for thought in group] == [0, 1, 2]
        mean = np.mean([thought.embedding for thought in group], axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    single = tiny_t1.encode_query(QUERIES, return_thoughts=True)[1]
    assert single[0][0].token_ids.tolist() == thoughts[0][0].token_ids.tolist()


def test_a_query_is_thought_about_alike_alone_and_in_company(tiny_t1: T1):
    together = tiny_t1.encode_query(QUERIES, return_thoughts=True)[1]
    alone, (thoughts,) = tiny_t1.encode_query(QUERIES[1], return_thoughts=True)
    assert alone.shape == (tiny_t1.embed_dim,)
    assert thoughts[0].token_ids.tolist() == together[1][0].token_ids.tolist()


def test_seed_changes_the_thought_and_the_budget_bounds_it(tiny_t1: T1):
    def think(seed: int, max_thought_tokens: int) -> list[int]:
        options = SamplingParams(seed=seed)
        thoughts = tiny_t1.encode_query(
            QUERIES[0],
            max_thought_tokens=max_thought_tokens,
            sampling=options,
            return_thoughts=True,
        )[1]
        return thoughts[0][0].token_ids.tolist()

    assert think(0, 8) != think(1, 8)
    assert len(think(0, 3)) <= 4
    assert think(0, 3)[:-1] == think(0, 8)[: len(think(0, 3)) - 1]


def test_the_controls_differ_from_one_another(tiny_t1: T1):
    own = tiny_t1.encode_query(QUERIES)
    nothing = tiny_t1.encode_query(QUERIES, think=False)
    empty = tiny_t1.encode_query(QUERIES, thoughts=["", ""])
    for other in (nothing, empty):
        np.testing.assert_allclose(np.linalg.norm(other, axis=1), 1, atol=1e-6)
    assert np.abs(own - empty).max() > 1e-3
    assert np.abs(nothing - empty).max() > 1e-3


def test_equal_documents_are_encoded_once_and_order_is_kept(tiny_t1: T1):
    texts = ["first text", "a much longer second text, " * 3, "first text", "third"]
    vectors = tiny_t1.encode_document(texts)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(tiny_t1.encode_document(text), vector, atol=1e-5)


def test_a_200_000_character_document_is_cut_and_counted(tiny_t1: T1):
    texts = ["word " * 40_000, "short"]
    assert tiny_t1.count_truncated(texts) == 1
    vectors = tiny_t1.encode_document(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_similarity_is_the_cosine_and_refuses_a_vector_without_direction(tiny_t1: T1):
    a, b = np.array([[3.0, 4.0]]), np.array([[4.0, 3.0], [-3.0, -4.0]])
    np.testing.assert_allclose(tiny_t1.similarity(a, b), [[0.96, -1.0]], atol=1e-6)
    for broken in (np.zeros((1, 2)), np.array([[np.nan, 1.0]])):
        with pytest.raises(DataError, match="direction"):
            tiny_t1.similarity(broken, b)


def test_instruction_and_task_reach_the_prompt(tiny_t1: T1):
    plain = tiny_t1.encode_query(QUERIES[0], think=False)
    by_task = tiny_t1.encode_query(QUERIES[0], think=False, task="cwe")
    told = tiny_t1.encode_query(
        QUERIES[0], think=False, instruction=tiny_t1.preset.instruction("cwe")
    )
    np.testing.assert_array_equal(by_task, told)
    assert np.abs(plain - by_task).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"texts": ["fine", "  "]}, DataError, "empty"),
        ({"texts": QUERIES, "max_thought_tokens": 0}, ConfigError, "think=False"),
        ({"texts": QUERIES, "n": 0}, ConfigError, "number of thoughts"),
        ({"texts": QUERIES, "thoughts": ["one"]}, DataError, "2 queries but 1 thoughts"),
        ({"texts": QUERIES, "query_ids": ["one"]}, DataError, "query_ids"),
        ({"texts": QUERIES, "think": False, "max_thought_tokens": 4}, ConfigError, "are sampled"),
        ({"texts": QUERIES, "think": False, "thoughts": ["a", "b"]}, ConfigError, "think=False"),
        ({"texts": QUERIES, "task": "cwe", "instruction": "find"}, ConfigError, "not both"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    tiny_t1: T1, arguments: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        tiny_t1.encode_query(**arguments)


def test_a_vector_that_is_not_finite_names_its_document(tiny_t1: T1):
    decoder = tiny_t1.decoder
    scale = decoder.final_norm.scale[...]
    decoder.final_norm.scale[...] = scale * np.nan
    try:
        model = T1(
            decoder,
            tiny_t1.tokenizer,
            tiny_t1.preset,
            tiny_t1.mesh_context,
            options=tiny_t1.options,
        )
        with pytest.raises(DataError, match="document 'd7'"):
            model.encode_document(["text"], document_ids=["d7"])
    finally:
        decoder.final_norm.scale[...] = scale


def test_a_model_built_from_parts_has_no_fingerprint(tiny_t1: T1):
    with pytest.raises(WeightsError, match="built from parts"):
        _ = tiny_t1.fingerprint


def test_nothing_to_encode_gives_no_rows(tiny_t1: T1):
    assert tiny_t1.encode_query([]).shape == (0, tiny_t1.embed_dim)
    assert tiny_t1.encode_document([]).shape == (0, tiny_t1.embed_dim)


def test_documents_are_cut_to_a_context_shorter_than_the_options_say(tiny_t1: T1):
    parts = (tiny_t1.decoder, tiny_t1.tokenizer, tiny_t1.preset, tiny_t1.mesh_context)
    model = T1(*parts)
    assert model.options.max_document_tokens == model.decoder.config.max_positions
    assert model.encode_document("word " * 4000).shape == (model.embed_dim,)


def test_a_model_says_its_name_and_size(tiny_t1: T1):
    assert repr(tiny_t1).startswith("T1(built from parts, 0.0")
    assert "32 dimensions, float32, prompts t1)" in repr(tiny_t1)
