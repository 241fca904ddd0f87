import numpy as np
import pytest

from t1_jax.errors import DataError
from t1_jax.generate import FinishReason, Thought
from t1_jax.retriever.encoder import l2_normalize, mean_embeddings


def thought(*vector: float) -> Thought:
    one = np.ones(1, np.float32)
    return Thought(
        token_ids=np.ones(1, np.int32),
        log_probs=one,
        log_probs_at_1=one,
        embedding=np.array(vector, np.float32),
        finish_reason=FinishReason.EMB_TOKEN,
        sample=0,
    )


def test_a_query_has_the_direction_of_its_mean_vector():
    found = mean_embeddings([[thought(1, 0), thought(0, 1)], [thought(0, -3)]], 2)
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5], [0, -1]], rtol=1e-6)
    assert mean_embeddings([], 2).shape == (0, 2)


def test_thoughts_that_cancel_have_no_direction():
    with pytest.raises(DataError, match="zero or not finite"):
        mean_embeddings([[thought(1, 0), thought(-1, 0)]], 2)
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="zero or not finite"):
            l2_normalize(np.array([1.0, bad]))


def test_unit_length_in_float32():
    found = l2_normalize(np.array([[3.0, 4.0]], np.float64))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.6, 0.8]], rtol=1e-6)
