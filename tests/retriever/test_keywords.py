"""The keyword arguments of sentence-transformers, and the forms of embeddings."""

from typing import Any

import jax
import numpy as np
import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.retriever import T1
from t1_jax.retriever.keywords import OutputFormat

TEXTS = ["an array is written past its end", "a lock is never released", "a path has '..'"]


@pytest.fixture(scope="module")
def vectors(tiny_t1: T1) -> np.ndarray:
    return tiny_t1.encode_document(TEXTS)


def test_encode_thinks_about_queries_and_encodes_everything_else_in_one_pass(
    tiny_t1: T1, vectors: np.ndarray
):
    np.testing.assert_array_equal(tiny_t1.encode(TEXTS), vectors)
    np.testing.assert_array_equal(
        tiny_t1.encode(TEXTS, prompt_name="query"), tiny_t1.encode_query(TEXTS)
    )


def test_prompt_and_prompt_name_are_the_instruction_and_the_task(tiny_t1: T1):
    def embed(**how: Any) -> np.ndarray:
        return tiny_t1.encode_query(TEXTS[0], think=False, **how)

    np.testing.assert_array_equal(embed(prompt="Find it"), embed(instruction="Find it"))
    np.testing.assert_array_equal(embed(prompt_name="cwe"), embed(task="cwe"))
    assert np.abs(embed(prompt="Find it") - embed()).max() > 1e-3


def test_the_batch_size_bounds_the_batches_and_changes_no_embedding(
    tiny_t1: T1, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    rows: list[int] = []
    dispatch = tiny_t1.encoder._dispatch

    def counted(batch: Any) -> jax.Array:
        rows.append(len(batch.tokens))
        return dispatch(batch)

    monkeypatch.setattr(tiny_t1.encoder, "_dispatch", counted)
    one_by_one = tiny_t1.encode_document(TEXTS, batch_size=1)
    assert rows == [1, 1, 1]
    np.testing.assert_allclose(one_by_one, vectors, atol=1e-6)
    thoughts = tiny_t1.encode_query(TEXTS, return_thoughts=True, batch_size=2)[1]
    alike = tiny_t1.encode_query(TEXTS, return_thoughts=True)[1]
    assert [t[0].token_ids.tolist() for t in thoughts] == [t[0].token_ids.tolist() for t in alike]


def test_int8_keeps_cosines_and_needs_no_calibration(tiny_t1: T1, vectors: np.ndarray):
    small = tiny_t1.encode_document(TEXTS, precision="int8")
    assert (small.dtype, np.abs(small).max()) == (np.int8, 127)
    cosines = tiny_t1.similarity(small, vectors)
    np.testing.assert_allclose(cosines, tiny_t1.similarity(vectors, vectors), atol=0.02)
    # Alone or in company a vector is quantized alike.
    np.testing.assert_array_equal(OutputFormat(precision="int8").apply(vectors[0]), small[0])
    shifted = OutputFormat(precision="uint8").apply(vectors)
    np.testing.assert_array_equal(shifted.astype(int) - 128, small)


def test_packed_bits_are_the_signs(vectors: np.ndarray):
    packed = OutputFormat(precision="ubinary").apply(vectors)
    assert (packed.shape, packed.dtype) == ((3, 4), np.uint8)
    np.testing.assert_array_equal(np.unpackbits(np.asarray(packed), axis=1), vectors > 0)
    signed = OutputFormat(precision="binary").apply(vectors)
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed.astype(int) + 128, packed)


def test_truncated_vectors_are_normalized_unless_asked_not_to(tiny_t1: T1, vectors: np.ndarray):
    short = tiny_t1.encode_document(TEXTS, truncate_dim=8)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)
    plain = tiny_t1.encode_document(TEXTS, truncate_dim=8, normalize_embeddings=False)
    np.testing.assert_array_equal(plain, vectors[:, :8])


def test_jax_arrays_on_request(tiny_t1: T1, vectors: np.ndarray):
    on_device = tiny_t1.encode_document(TEXTS, convert_to_numpy=False)
    assert isinstance(on_device, jax.Array)
    np.testing.assert_allclose(tiny_t1.similarity(on_device, vectors).diagonal(), 1, atol=1e-6)


def test_pairwise_similarity_is_the_diagonal(tiny_t1: T1, vectors: np.ndarray):
    others = np.roll(vectors, 1, axis=0)
    np.testing.assert_allclose(
        tiny_t1.similarity_pairwise(vectors, others),
        tiny_t1.similarity(vectors, others).diagonal(),
        atol=1e-6,
    )
    with pytest.raises(DataError, match="are not pairs"):
        tiny_t1.similarity_pairwise(vectors, others[:2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"truncate_dim": 0}, "at least 1, got 0"),
        ({"truncate_dim": 33}, "the model has 32 dimensions"),
        ({"truncate_dim": 12, "precision": "binary"}, "packs 8 dimensions"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"prompt": "Find it"}, "documents have one prompt"),
        ({"prompt_name": "cwe"}, "documents have one prompt"),
    ],
)
def test_forms_that_do_not_exist_are_errors(tiny_t1: T1, arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        tiny_t1.encode_document(TEXTS, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "a", "instruction": "b"}, "mean the same"),
        ({"prompt_name": "cwe", "task": "cwe"}, "mean the same"),
        ({"prompt": "a", "prompt_name": "cwe"}, "not both"),
        ({"task": "cew"}, "no instruction for the task 'cew'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_requests_for_other_prompts_are_checked(
    tiny_t1: T1, arguments: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        tiny_t1.encode_query(TEXTS, **arguments)
