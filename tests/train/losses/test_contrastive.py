"""InfoNCE and the triplet loss against plain loops, finite differences, pieces and meshes."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.config import load_config, undocumented_fields
from t1_jax.errors import ConfigError
from t1_jax.parallel import MeshConfig, make_mesh_context
from t1_jax.train.losses import ContrastiveConfig, contrast_metrics, info_nce, mean_cosine, triplet

PLAIN = ContrastiveConfig(temperature=0.1)
FILTERED = ContrastiveConfig(temperature=0.1, false_negative_margin=0.1)


def problem(seed: int, n: int = 8, c: int = 20, d: int = 6, k: int = 3) -> dict[str, np.ndarray]:
    """A step's vectors, and its masks with a third of the candidates ruled out."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n + c, d)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {
        "queries": vectors[:n],
        "candidates": vectors[n:],
        "positive": rng.permutation(c)[:n].astype(np.int32),
        "negatives": rng.integers(-1, c, (n, k), dtype=np.int32),
        "allowed": rng.random((n, c)) < 2 / 3,
        "weights": rng.integers(0, 3, n).astype(np.float32),
    }


def plain_info_nce(data: dict[str, np.ndarray], config: ContrastiveConfig) -> tuple[float, float]:
    """The formula, one query and one candidate at a time, in float64."""
    total = 0.0
    for i, query in enumerate(data["queries"].astype(float)):
        own = float(query @ data["candidates"][data["positive"][i]].astype(float))
        denominator = math.exp(own / config.temperature)
        for c, document in enumerate(data["candidates"].astype(float)):
            score = float(query @ document)
            margin = config.false_negative_margin
            false_negative = margin is not None and score > own + margin
            if c != data["positive"][i] and data["allowed"][i, c] and not false_negative:
                denominator += math.exp(score / config.temperature)
        total -= data["weights"][i] * math.log(math.exp(own / config.temperature) / denominator)
    return total, float(data["weights"].sum())


def plain_triplet(data: dict[str, np.ndarray], config: ContrastiveConfig) -> tuple[float, int]:
    total, count = 0.0, 0
    for i, query in enumerate(data["queries"].astype(float)):
        near = data["candidates"][data["positive"][i]].astype(float)
        for c in data["negatives"][i]:
            if c < 0 or c == data["positive"][i] or not data["allowed"][i, c]:
                continue
            far = data["candidates"][c].astype(float)
            margin = config.false_negative_margin
            if margin is not None and query @ far > query @ near + margin:
                continue
            hinge = config.margin - query @ near + query @ far
            total, count = total + max(0.0, float(hinge)), count + 1
    return total, count


Gradients = dict[str, jax.Array]
"""Those of queries and candidates."""


@functools.partial(jax.jit, static_argnames=("config",))
def run_info_nce(
    data: dict[str, Any], config: ContrastiveConfig
) -> tuple[tuple[jax.Array, jax.Array], Gradients]:
    """The sum and its denominator, and the gradients of the sum."""

    def total(vectors: Gradients) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        found = info_nce(
            vectors["queries"],
            vectors["candidates"],
            data["positive"],
            data["allowed"],
            config=config,
            weights=data["weights"],
        )
        return found[0], found

    return _with_gradients(total, data)


@functools.partial(jax.jit, static_argnames=("config",))
def run_triplet(
    data: dict[str, Any], config: ContrastiveConfig
) -> tuple[tuple[jax.Array, jax.Array], Gradients]:
    """The same of the triplet loss."""

    def total(vectors: Gradients) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        rest = (data[name] for name in ("positive", "negatives", "allowed"))
        found = triplet(vectors["queries"], vectors["candidates"], *rest, config=config)
        return found[0], found

    return _with_gradients(total, data)


def _with_gradients(
    total: Callable[..., Any], data: dict[str, Any]
) -> tuple[tuple[jax.Array, jax.Array], Gradients]:
    vectors = {name: data[name] for name in ("queries", "candidates")}
    gradients, found = jax.grad(total, has_aux=True)(vectors)
    return found, gradients


@given(seed=st.integers(0, 2**32 - 1), config=st.sampled_from([PLAIN, FILTERED]))
def test_info_nce_is_its_formula(seed: int, config: ContrastiveConfig):
    data = problem(seed)
    np.testing.assert_allclose(
        run_info_nce(data, config)[0], plain_info_nce(data, config), rtol=1e-5, atol=1e-5
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    config=st.sampled_from([ContrastiveConfig(), FILTERED]),
)
def test_triplet_is_its_formula(seed: int, config: ContrastiveConfig):
    data = problem(seed)
    np.testing.assert_allclose(
        run_triplet(data, config)[0], plain_triplet(data, config), rtol=1e-5, atol=1e-5
    )


def test_worked_by_hand():
    """Scores 0.6 and 0.8 at τ = 0.2: log(1 + e^{(0.8 − 0.6)/0.2}) = log(1 + e)."""
    data = {
        "queries": np.array([[1.0, 0.0]], np.float32),
        "candidates": np.array([[0.6, 0.8], [0.8, 0.6]], np.float32),
        "positive": np.array([0], np.int32),
        "negatives": np.array([[1]], np.int32),
        "allowed": np.array([[False, True]]),
        "weights": np.ones(1, np.float32),
    }
    (loss, count), _ = run_info_nce(data, ContrastiveConfig(temperature=0.2))
    assert float(loss) / float(count) == pytest.approx(math.log(1 + math.e), rel=1e-5)
    (loss, count), _ = run_triplet(data, ContrastiveConfig(margin=0.2))
    assert float(loss) / float(count) == pytest.approx(0.4)
    data["allowed"][:] = False
    assert float(run_info_nce(data, PLAIN)[0][0]) == pytest.approx(0.0, abs=1e-6)
    assert [float(value) for value in run_triplet(data, PLAIN)[0]] == [0.0, 0.0]


@pytest.mark.parametrize("config", [PLAIN, FILTERED])
@pytest.mark.parametrize("of", ["queries", "candidates"])
def test_info_nce_gradients_are_finite_differences(of: str, config: ContrastiveConfig):
    check_gradient(problem(3), of, lambda data: run_info_nce(data, config))


@pytest.mark.parametrize("config", [ContrastiveConfig(), FILTERED])
@pytest.mark.parametrize("of", ["queries", "candidates"])
def test_triplet_gradients_are_finite_differences(of: str, config: ContrastiveConfig):
    check_gradient(problem(4), of, lambda data: run_triplet(data, config))


def check_gradient(data: dict[str, np.ndarray], of: str, loss: Any) -> None:
    """Compares autodiff with central differences along random directions, in float64."""
    with jax.enable_x64(True):
        exact = {
            name: value.astype(np.float64) if value.dtype == np.float32 else value
            for name, value in data.items()
        }
        gradient = np.asarray(loss(exact)[1][of])
        assert gradient.dtype == np.float64
        assert np.any(gradient)
        rng = np.random.default_rng(0)
        for _ in range(5):
            direction = rng.standard_normal(exact[of].shape)
            step = 1e-6
            up, down = (
                float(loss({**exact, of: exact[of] + sign * step * direction})[0][0])
                for sign in (1, -1)
            )
            expected = float(np.sum(gradient * direction))
            assert (up - down) / (2 * step) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_extreme_scores_stay_finite():
    data = problem(0)
    data["candidates"] = np.repeat(data["queries"][:1], len(data["candidates"]), axis=0)
    tiny = ContrastiveConfig(temperature=1e-4)
    (loss, _), gradients = run_info_nce(data, tiny)
    assert np.isfinite(loss)
    assert np.all(np.isfinite(gradients["queries"]))


def test_padding_may_hold_anything():
    data = problem(5)
    data["weights"][:] = 1
    data["negatives"][6:] = -1
    data["weights"][6:] = 0
    spoilt = {name: value.copy() for name, value in data.items()}
    spoilt["queries"][6:] = np.nan
    spoilt["positive"][6:] = -1
    spoilt["allowed"][6:] = False
    for run, config in ((run_info_nce, PLAIN), (run_triplet, ContrastiveConfig())):
        found, gradients = run(spoilt, config)
        np.testing.assert_allclose(found, run(data, config)[0], rtol=1e-6)
        gradient = np.asarray(gradients["queries"])
        assert np.all(np.isfinite(gradient[:6]))
        assert np.all(gradient[6:] == 0)


@pytest.mark.parametrize("run", [run_info_nce, run_triplet])
def test_pieces_of_a_batch_add_up(run: Any):
    """Each piece of the queries is compared with all candidates, as the step does it."""
    data = problem(6)
    by_query = ("queries", "positive", "negatives", "allowed", "weights")
    pieces = [
        run({**data, **{name: data[name][part] for name in by_query}}, PLAIN)[0]
        for part in (slice(0, 3), slice(3, 8))
    ]
    np.testing.assert_allclose(np.sum(np.asarray(pieces), axis=0), run(data, PLAIN)[0], rtol=1e-6)


@pytest.mark.parametrize("run", [run_info_nce, run_triplet])
@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(data=2, fsdp=2, tensor=2)])
def test_eight_devices_are_one(run: Any, mesh: MeshConfig):
    data = problem(7, c=16)
    mesh_context = make_mesh_context(mesh)

    alone = run(data, FILTERED)
    with mesh_context.activate():
        rows = {
            name: jax.device_put(
                value,
                mesh_context.activation("b") if value.ndim == 1 else mesh_context.activation("bl"),
            )
            for name, value in data.items()
        }
        spread = run(rows, FILTERED)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), alone, spread)
    assert not spread[1]["queries"].sharding.is_fully_replicated


def test_metrics_by_hand():
    queries = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    candidates = jnp.asarray([[0.8, 0.6], [0.6, 0.8], [0.8, 0.6]])
    metrics = jax.jit(contrast_metrics)(
        queries,
        candidates,
        jnp.asarray([0, 1, 2]),
        jnp.asarray([[True, True, False], [True, True, True], [True, True, True]]),
        weights=jnp.asarray([1.0, 1.0, 1.0]),
    )
    # The third query's positive ties with the first document, which is no success.
    assert [float(value) for value in metrics["accuracy"]] == [2.0, 3.0]
    assert float(metrics["positive_cosine"][0]) == pytest.approx(2.4)


def test_mean_cosine_leaves_out_pairs_of_one_query_and_padding():
    vectors = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    total, pairs = jax.jit(mean_cosine)(
        vectors, groups=jnp.asarray([0, 0, 1, 2]), weights=jnp.asarray([1.0, 1.0, 1.0, 0.0])
    )
    assert (float(total), float(pairs)) == (0.0, 4.0)
    total, pairs = jax.jit(mean_cosine)(jnp.asarray([[1.0, 0.0]] * 5))
    assert float(total) / float(pairs) == pytest.approx(1.0)


def test_config_is_documented_and_reads_from_overrides():
    assert undocumented_fields(ContrastiveConfig) == []
    config = load_config(ContrastiveConfig, overrides=["temperature=0.05", "margin=0.1"])
    assert (config.temperature, config.margin) == (0.05, 0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": math.nan}, "temperature must be above 0"),
        ({"margin": -0.1}, "margin must be at least 0"),
        ({"false_negative_margin": -1.0}, "false_negative_margin"),
    ],
)
def test_config_refuses(change: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        ContrastiveConfig(**change)
