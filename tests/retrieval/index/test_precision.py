"""Number formats of stored vectors keep directions; truncation keeps the first dimensions."""

from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.retrieval import (
    STORED_DTYPES,
    Fingerprint,
    load_index,
    measure_precision_loss,
    unit_vectors,
    write_exact_index,
)
from t1_jax.retrieval.index.precision import dequantize, quantize, truncate

LOWEST_COSINE = {"float32": 1.0, "float16": 0.999999, "bfloat16": 0.99998, "int8": 0.9998}
FINGERPRINT = Fingerprint(encoder="e0", prompt="f0", data="d0")


def random_units(rows: int, width: int) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((rows, width))
    return unit_vectors(vectors, [str(row) for row in range(rows)])


@pytest.mark.parametrize("precision", STORED_DTYPES)
def test_directions_survive(precision):
    units = random_units(50, 64)
    stored = quantize(units, precision)
    assert stored.dtype == STORED_DTYPES[precision]
    back = dequantize(stored)
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6)
    assert (units * back).sum(axis=1).min() >= LOWEST_COSINE[precision] - 1e-6
    if precision == "int8":
        assert np.abs(stored).max(axis=1).tolist() == [127] * 50


def test_truncation_keeps_the_first_dimensions_at_unit_length():
    units = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]], np.float32)
    np.testing.assert_array_equal(truncate(units, 2), [[1, 0], [0, 1]])
    assert truncate(units, None) is units
    assert truncate(units, 3) is units
    for dimensions in (0, 4):
        with pytest.raises(ConfigError, match=f"truncate_dim is {dimensions}, .* 3 dimensions"):
            truncate(units, dimensions)


@pytest.mark.parametrize("precision", STORED_DTYPES)
@pytest.mark.parametrize("kind", ["numpy", "jax", "scann"])
def test_an_index_of_every_format_is_stored_and_searched(precision, kind, tmp_path: Path):
    units, ids = random_units(40, 16), [str(row) for row in range(40)]
    write_exact_index(
        tmp_path / "index",
        ids,
        [units[:25], units[25:]],
        16,
        FINGERPRINT,
        precision=precision,
        truncate_dim=12,
        encoding={},
        document_files=(),
    )
    exact = load_index(tmp_path / "index", FINGERPRINT)
    assert exact.table.stored.dtype == STORED_DTYPES[precision]
    assert (exact.table.width, exact.table.truncated_from) == (12, 16)
    shortened = dequantize(quantize(truncate(units, 12), precision))
    np.testing.assert_allclose(exact.vectors, shortened, atol=1e-6)
    index = exact
    if kind != "numpy":
        from t1_jax.retrieval import build_from_table

        build_from_table(kind, exact.table).save(tmp_path / "other", FINGERPRINT)
        index = load_index(tmp_path / "other", FINGERPRINT)
        assert index.table.stored.dtype == STORED_DTYPES[precision]
    # Queries of all dimensions are truncated as the index was.
    found = index.search(units[:5], 3)
    assert found.rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found.rows, index.search(shortened[:5], 3).rows)


def test_the_loss_is_that_of_the_top_ten():
    units = random_units(300, 16)

    def loss(precision, truncate_dim=None):
        return measure_precision_loss(lambda: [units[:100], units[100:]], precision, truncate_dim)

    exact = loss("float32")
    assert (exact.precision_recall_at_10, exact.precision_ndcg_at_10) == (1, pytest.approx(1))
    assert exact.precision_queries == 256
    int8, half = loss("int8"), loss("float32", 8)
    assert 0.95 < int8.precision_recall_at_10 < 1
    assert half.precision_recall_at_10 < 0.7
    assert half.precision_ndcg_at_10 < int8.precision_ndcg_at_10


def test_the_loss_of_one_document_is_none():
    units = random_units(1, 4)
    assert measure_precision_loss(lambda: [units], "int8").precision_recall_at_10 == 1
