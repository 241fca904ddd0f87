import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from t1_jax.errors import DataError
from t1_jax.retrieval import unit_vectors
from t1_jax.retrieval.index import EmbeddingTable


@pytest.fixture
def table() -> EmbeddingTable:
    return EmbeddingTable.from_vectors(
        ["a", "b", "c"], np.array([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]])
    )


def test_rows_become_unit_vectors_in_float32(table: EmbeddingTable):
    assert table.vectors.dtype == np.float32
    np.testing.assert_array_equal(
        table.vectors, np.array([[0.6, 0.8], [0, 1], [-1, 0]], np.float32)
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_any_float_type_is_taken(dtype):
    assert unit_vectors(np.array([[0.0, 2.0]], dtype), ["a"]).tolist() == [[0.0, 1.0]]


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-1e3, 1e3, width=32)))
def test_lengths_are_one_and_unit_vectors_stay_as_they_are(vectors):
    vectors[:, 0] = np.where(np.linalg.norm(vectors, axis=1) < 1e-3, 1.0, vectors[:, 0])
    units = unit_vectors(vectors, list("abc"))
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, atol=2e-5)
    np.testing.assert_array_equal(unit_vectors(units, list("abc")), units)


@pytest.mark.parametrize(
    ("bad", "fault"),
    [(0.0, "is zero"), (np.nan, "is not finite"), (np.inf, "is not finite"), (1e300, "not finite")],
)
def test_a_bad_vector_names_its_document(bad: float, fault: str):
    vectors = np.array([[1.0, 0.0], [bad, 0.0]])
    with pytest.raises(DataError, match=f"vector of document 'b' .*{fault}"):
        EmbeddingTable.from_vectors(["a", "b"], vectors)


@pytest.mark.parametrize("shape", [(2,), (2, 0), (2, 3, 4)])
def test_vectors_are_a_table(shape: tuple[int, ...]):
    with pytest.raises(DataError, match=r"must be \[rows, dimensions\]"):
        unit_vectors(np.ones(shape), ["a", "b"])


def test_there_is_one_id_for_each_vector():
    with pytest.raises(DataError, match="1 ids, 2 rows"):
        EmbeddingTable.from_vectors(["a"], np.ones((2, 3)))
    with pytest.raises(DataError, match="0 ids, 0 rows"):
        EmbeddingTable.from_vectors([], np.ones((0, 3)))
    with pytest.raises(DataError, match="document 'a' has more than one vector"):
        EmbeddingTable.from_vectors(["b", "a", "a"], np.ones((3, 3)))


def test_rows_of_ids(table: EmbeddingTable):
    assert table.rows_of(["c", "a"]) == [2, 0]
    with pytest.raises(DataError, match="no document 'x'"):
        table.rows_of(["x"])


def test_queries_have_the_width_of_the_table(table: EmbeddingTable):
    assert table.normalize_queries(np.array([[0.0, 9.0]])).tolist() == [[0.0, 1.0]]
    with pytest.raises(DataError, match="queries have 3 dimensions, the index has 2"):
        table.normalize_queries(np.ones((1, 3)))
    with pytest.raises(DataError, match="vector of query 1 is zero"):
        table.normalize_queries(np.array([[1.0, 0.0], [0.0, 0.0]]))


def test_lists_of_rows_are_padded_and_checked(table: EmbeddingTable):
    assert table.pad_row_lists(None, 2, "excluded").shape == (2, 0)
    padded = table.pad_row_lists([[2], np.array([0, 1]), set()], 3, "excluded")
    assert padded.tolist() == [[2, -1], [0, 1], [-1, -1]]
    with pytest.raises(DataError, match="excluded: 1 lists of rows for 2 queries"):
        table.pad_row_lists([[]], 2, "excluded")
    for row in (3, -2):
        with pytest.raises(DataError, match="a row outside 0 to 2"):
            table.pad_row_lists([[row]], 1, "excluded")
