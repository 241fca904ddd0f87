import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from t1_jax.errors import ConfigError, DataError
from t1_jax.evaluate.bootstrap import bootstrap_means, intervals, paired_difference

scores = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1, width=32))


@given(scores, st.integers(0, 2**31))
def test_an_interval_holds_its_order_and_stays_among_the_values(values: np.ndarray, seed: int):
    (found,) = intervals(values[:, None], samples=200, seed=seed)
    assert found.mean == pytest.approx(values.mean())
    assert values.min() - 1e-9 <= found.low <= found.high <= values.max() + 1e-9


@given(scores, st.floats(-2, 2), st.floats(0, 3))
def test_an_interval_moves_and_stretches_with_the_values(
    values: np.ndarray, shift: float, scale: float
):
    (plain,) = intervals(values[:, None], samples=100, seed=1)
    (moved,) = intervals((scale * values + shift)[:, None], samples=100, seed=1)
    assert moved.low == pytest.approx(scale * plain.low + shift)
    assert moved.high == pytest.approx(scale * plain.high + shift)


@given(st.data(), st.integers(1, 30))
def test_a_comparison_turned_round_changes_only_its_sign(data: st.DataObject, n: int):
    column = arrays(np.float64, n, elements=st.floats(0, 1, width=32))
    a, b = data.draw(column), data.draw(column)
    one = paired_difference(a, b, samples=200)
    other = paired_difference(b, a, samples=200)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == other.p_value
    assert (one.better, one.worse) == (other.worse, other.better)
    assert 0 < one.p_value <= 1
    assert one.queries == n


def test_equal_retrievers_do_not_differ():
    values = np.linspace(0, 1, 17)
    found = paired_difference(values, values, samples=100)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert not found.excludes_zero


def test_a_gain_on_every_query_is_found_and_a_small_noisy_one_is_not():
    noise = np.random.default_rng(0).normal(size=100)
    sure = paired_difference(noise * 0.01 + 0.2, np.zeros(100), samples=999)
    assert sure.p_value == 1 / 1000
    assert sure.excludes_zero
    unsure = paired_difference(noise, np.zeros(100), samples=999)
    assert unsure.p_value > 0.05
    assert not unsure.excludes_zero


def test_the_same_seed_gives_the_same_resamples_for_every_column_and_number_of_columns():
    values = np.random.default_rng(1).random((40, 3))
    together = bootstrap_means(values, samples=50, seed=7)
    alone = bootstrap_means(values[:, 2:], samples=50, seed=7)
    np.testing.assert_allclose(together[:, 2:], alone, rtol=1e-12)
    assert not np.allclose(together, bootstrap_means(values, samples=50, seed=8))


def test_resampling_in_blocks_equals_resampling_at_once(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(2).random((10, 1))
    whole = bootstrap_means(values, samples=25, seed=3)
    monkeypatch.setattr("t1_jax.evaluate.bootstrap._MAX_DRAWS_PER_BLOCK", 40)
    np.testing.assert_allclose(bootstrap_means(values, samples=25, seed=3), whole, rtol=1e-12)


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        values = generator.random(60)
        (found,) = intervals(values[:, None], samples=300, seed=trial)
        hits += found.low <= 0.5 <= found.high
    assert 180 <= hits <= 199


@pytest.mark.parametrize(
    ("values", "samples", "error"),
    [
        (np.zeros((0, 1)), 10, DataError),
        (np.array([[np.nan]]), 10, DataError),
        (np.zeros((3, 1)), 0, ConfigError),
    ],
)
def test_nothing_to_average_is_refused(values: np.ndarray, samples: int, error: type[Exception]):
    with pytest.raises(error):
        bootstrap_means(values, samples=samples, seed=0)


def test_unequal_numbers_of_queries_cannot_be_paired():
    with pytest.raises(DataError, match="3 with 2"):
        paired_difference(np.zeros(3), np.zeros(2))
