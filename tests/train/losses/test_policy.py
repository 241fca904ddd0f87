"""The policy loss against plain loops, finite differences and others' worked numbers."""

import functools
import math
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
from t1_jax.train.losses import PolicyConfig, policy_loss
from tests.train.losses.policy_toys import (
    CONFIGS,
    MAX_CONTINUATIONS,
    plain_loss,
    problem,
    run,
    run_with_gradient,
)


@given(seed=st.integers(0, 2**32 - 1), config=st.sampled_from(CONFIGS))
def test_the_loss_is_its_formula(seed: int, config: PolicyConfig):
    data = problem(seed)
    small = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in data.items()}
    np.testing.assert_allclose(
        run(small, config).loss, plain_loss(data, config), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_gradients_are_finite_differences(config: PolicyConfig):
    data = problem(1)
    with jax.enable_x64(True):
        gradient = np.asarray(run_with_gradient(data, config)[0])
        assert gradient.dtype == np.float64
        assert np.count_nonzero(gradient) > 10
        step = 1e-6
        for row, t in np.ndindex(3, gradient.shape[1]):
            bump = np.zeros_like(gradient)
            bump[row, t] = step
            up, down = (
                np.asarray(run({**data, "logps": data["logps"] + s * bump}, config).loss).sum()
                for s in (1, -1)
            )
            assert (up - down) / (2 * step) == pytest.approx(gradient[row, t], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo", "gspo"])
def test_the_first_update_follows_the_advantage(loss: str):
    """With π_old = π the gradient is −w A ∇log π, for thought-level ratios on average."""
    data = problem(2)
    data["old_logps"] = data["logps"]
    gradient, terms = run_with_gradient(data, PolicyConfig(loss=loss, beta=0.0))
    weight = np.minimum(np.exp(data["logps"] - data["sampler_logps"]), 2.0)
    pull = np.where(data["mask"], weight * data["advantages"], 0.0)
    if loss == "gspo":
        pull = mean_over_thoughts(pull, data)
    np.testing.assert_allclose(gradient, -pull, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(terms.ratio, data["mask"].astype(float))
    assert not np.any(terms.clipped)


def mean_over_thoughts(values: np.ndarray, data: dict[str, np.ndarray]) -> np.ndarray:
    means = np.zeros_like(values)
    for row, number in np.ndindex(len(values), MAX_CONTINUATIONS):
        thought = data["mask"][row] & (data["continuation"][row] == number)
        if thought.any():
            means[row, thought] = values[row, thought].mean()
    return means


def test_dual_clip_worked_by_others():
    """The example in the tests of NeMo-RL and SkyRL: losses −0.5, 1, 12 with c = 3; mean 4.1667."""
    data = {
        "logps": np.array([[-1.69315, -1.0, -0.69741]], np.float32),
        "old_logps": np.array([[-1.0, -1.0, -3.0]], np.float32),
        "sampler_logps": np.array([[-1.0, -1.0, -3.0]], np.float32),
        "ref_logps": None,
        "advantages": np.array([[1.0, -1.0, -4.0]], np.float32),
        "mask": np.ones((1, 3), bool),
        "continuation": np.zeros((1, 3), np.int32),
    }
    terms = jax.tree.map(np.asarray, run(data, PolicyConfig(beta=0.0, dual_clip=3.0)))
    np.testing.assert_allclose(terms.loss, [[-0.5, 1.0, 12.0]], atol=1e-4)
    np.testing.assert_allclose(terms.ratio, [[0.5, 1.0, 10.0]], rtol=1e-3)
    assert terms.clipped.tolist() == [[False, False, True]]
    assert float(terms.loss.mean()) == pytest.approx(4.1667, abs=1e-4)


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "clipped"),
    [
        (1.5, 1.0, 1.28, True),  # clip-higher holds a good token back
        (1.25, 1.0, 1.25, False),
        (0.5, 1.0, 0.5, False),  # a good token that got rarer is pulled back in full
        (0.5, -1.0, -0.8, True),
        (1.5, -1.0, -1.5, False),
        (1.5, 0.0, 0.0, False),
    ],
)
def test_the_clip_case_by_case(ratio: float, advantage: float, objective: float, clipped: bool):
    data = {
        "logps": np.full((1, 1), math.log(ratio), np.float32),
        "old_logps": np.zeros((1, 1), np.float32),
        "sampler_logps": np.zeros((1, 1), np.float32),
        "ref_logps": np.zeros((1, 1), np.float32),
        "advantages": np.full((1, 1), advantage, np.float32),
        "mask": np.ones((1, 1), np.float32),
        "continuation": np.zeros((1, 1), np.int32),
    }
    config = PolicyConfig(loss="dapo")
    gradient, terms = jax.tree.map(np.asarray, run_with_gradient(data, config))
    assert float(terms.loss[0, 0]) == pytest.approx(-objective, abs=1e-6)
    assert bool(terms.clipped[0, 0]) is clipped
    assert bool(gradient[0, 0] == 0) is (clipped or advantage == 0)


def test_the_sampler_weight_is_a_constant_cut_at_c():
    """μ half and a fifth as likely as π_old: weights 2 and min(5, 2)."""
    old = np.log([[0.5, 0.5]])
    config = PolicyConfig(beta=0.0)

    def total(old: jax.Array, sampler: jax.Array) -> tuple[jax.Array, jax.Array]:
        data = problem(0, rows=1, actions=2)
        fixed = {"mask": np.ones((1, 2), bool), "advantages": np.ones((1, 2))}
        data = {**data, **fixed, "logps": np.log([[0.5, 0.5]])}
        loss = run({**data, "old_logps": old, "sampler_logps": sampler}, config).loss
        return loss.sum(), loss

    sampler = np.log([[0.25, 0.1]])
    compiled = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
    gradients, loss = compiled(jnp.asarray(old), jnp.asarray(sampler))
    np.testing.assert_allclose(loss, [[-2, -2]], rtol=1e-5)
    for gradient in gradients:
        assert not np.any(gradient)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum())


def test_kl_estimators_have_the_gradients_they_promise():
    """Exact expectations over a categorical policy, samples drawn from the policy itself."""
    logits = np.array([0.3, -0.5, 1.1, 0.0], np.float32)
    reference = jnp.asarray(log_softmax(np.array([-0.2, 0.4, 0.9, -1.0], np.float32)))

    @functools.partial(jax.jit, static_argnums=1)
    @jax.value_and_grad
    def expected(logits: jax.Array, kl: str) -> jax.Array:
        logps = jax.nn.log_softmax(logits)
        kinds = policy_loss(
            logps[None],
            old_logps=jax.lax.stop_gradient(logps)[None],
            sampler_logps=logps[None],
            ref_logps=reference[None],
            advantages=jnp.zeros((1, 4)),
            mask=jnp.ones((1, 4), bool),
            continuation=jnp.zeros((1, 4), jnp.int32),
            num_continuations=1,
            config=PolicyConfig(kl=kl, beta=1.0),
        )
        return jnp.sum(jax.lax.stop_gradient(jnp.exp(logps)) * kinds.kl[0])

    @jax.jit
    def forward(logits: jax.Array) -> jax.Array:
        logps = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(logps) * (logps - reference))

    @jax.jit
    @jax.grad
    def backward(logits: jax.Array) -> jax.Array:
        return jnp.sum(jnp.exp(reference) * (reference - jax.nn.log_softmax(logits)))

    found = {kl: expected(logits, kl) for kl in ("k1", "k3")}
    for value, _ in found.values():
        np.testing.assert_allclose(value, forward(logits), rtol=1e-5)
    np.testing.assert_allclose(found["k1"][1], 0, atol=1e-6)
    np.testing.assert_allclose(found["k3"][1], backward(logits), atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS)
def test_padding_may_hold_anything(config: PolicyConfig):
    data = problem(3)
    spoilt = {name: value.copy() for name, value in data.items()}
    for name in ("logps", "old_logps", "sampler_logps", "ref_logps", "advantages"):
        spoilt[name][~data["mask"]] = [np.nan, -np.inf, np.inf][len(name) % 3]
    spoilt["continuation"][~data["mask"]] = 99
    plain, found = (
        jax.tree.map(np.asarray, run_with_gradient(each, config)) for each in (data, spoilt)
    )
    jax.tree.map(np.testing.assert_array_equal, plain, found)
    assert not np.any(found[0][~data["mask"]])


@pytest.mark.parametrize("config", CONFIGS)
def test_runaway_ratios_stay_finite(config: PolicyConfig):
    data = problem(4)
    data["logps"] = np.where(data["advantages"] > 0, 0.0, -500.0)
    data["old_logps"] = data["sampler_logps"] = data["ref_logps"] = -500.0 - data["logps"]
    gradient, terms = run_with_gradient(data, config)
    assert np.all(np.isfinite(terms.loss))
    assert np.all(np.isfinite(gradient))


def test_packing_thoughts_in_a_row_changes_nothing():
    """One row of three thoughts is three rows of one."""
    data, config = problem(5), PolicyConfig(loss="gspo", beta=0.1)
    packed = run(data, config).loss
    apart = sum(
        np.asarray(
            run({**data, "mask": data["mask"] & (data["continuation"] == number)}, config).loss
        )
        for number in range(MAX_CONTINUATIONS)
    )
    np.testing.assert_allclose(packed, apart, rtol=1e-6)


@pytest.mark.parametrize("config", CONFIGS)
def test_eight_devices_are_one(config: PolicyConfig):
    data = {k: v.astype(np.float32) if v.dtype == float else v for k, v in problem(6).items()}
    mesh_context = make_mesh_context(MeshConfig(data=2, fsdp=2, tensor=2))
    alone = run_with_gradient(data, config)
    with mesh_context.activate():
        rows = {k: jax.device_put(v, mesh_context.activation("bl")) for k, v in data.items()}
        spread = run_with_gradient(rows, config)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), alone, spread)
    assert not spread[0].sharding.is_fully_replicated


@pytest.mark.parametrize(
    ("mode", "weights"),
    [
        ("token_truncate", [1.0, 2.0, 2.0, 0.5, 0.4, 2.0]),
        ("token_mask", [1.0, 2.0, 0.0, 0.5, 0.0, 0.0]),
    ],
)
def test_the_sampler_correction_by_hand(mode: str, weights: list[float]):
    """With A = 1 and ρ = 1 the loss of a token is −w; the cap is 2."""
    ratios = np.array([[1.0, 2.0, 2.01, 0.5, 0.4, np.inf]], np.float32)
    zeros, ones = np.zeros_like(ratios), np.ones_like(ratios)
    data = {
        "logps": zeros,
        "old_logps": zeros,
        "sampler_logps": -np.log(ratios),
        "ref_logps": None,
        "advantages": ones,
        "mask": ones,
        "continuation": zeros.astype(np.int32),
    }
    config = PolicyConfig(loss="dapo", sampler_is_cap=2.0, sampler_is_mode=mode)
    terms = jax.tree.map(np.asarray, run(data, config))
    np.testing.assert_allclose(-terms.loss[0], weights, rtol=1e-6)
    capped = [False, False, True, False, mode == "token_mask", True]
    assert terms.sampler_capped[0].tolist() == capped


@pytest.mark.parametrize("kl", ["k1", "k3"])
def test_the_corrected_kl_is_unbiased_in_later_updates(kl: str):
    """Over all actions of a bandit, drawn by π_old: value and gradient of KL(π‖π_ref) itself."""
    config = PolicyConfig(loss="dapo", beta=1.0, kl=kl, use_bias_correction_kl=True)
    plain = PolicyConfig(loss="dapo", beta=1.0, kl=kl)
    rng = np.random.default_rng(9)
    logits, before, reference = (rng.normal(size=5).astype(np.float32) for _ in range(3))
    old, base = (jnp.asarray(log_softmax(each)) for each in (before, reference))

    @functools.partial(jax.jit, static_argnums=1)
    @jax.value_and_grad
    def estimate(logits: jax.Array, config: PolicyConfig) -> jax.Array:
        terms = policy_loss(
            jax.nn.log_softmax(logits)[None],
            old_logps=old[None],
            sampler_logps=old[None],
            ref_logps=base[None],
            advantages=jnp.zeros((1, 5)),
            mask=jnp.ones((1, 5)),
            continuation=jnp.zeros((1, 5), jnp.int32),
            num_continuations=1,
            config=config,
        )
        return jnp.sum(jnp.exp(old) * terms.loss[0])

    @jax.jit
    @jax.value_and_grad
    def divergence(logits: jax.Array) -> jax.Array:
        now = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(now) * (now - base))

    exact, found = divergence(logits), estimate(logits, config)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, exact)
    gradient = np.asarray(estimate(logits, plain)[1])
    assert np.abs(gradient - np.asarray(exact[1])).max() > 0.05


def test_an_entropy_bonus_is_subtracted():
    data = problem(11)
    with_bonus = np.asarray(run(data, PolicyConfig(loss="dapo", entropy_coef=0.25)).loss)
    without = np.asarray(run(data, PolicyConfig(loss="dapo")).loss)
    expected = np.where(data["mask"], 0.25 * data["entropy"], 0.0)
    np.testing.assert_allclose(without - with_bonus, expected, atol=1e-5)
    with pytest.raises(ConfigError, match=r"entropy_coef=0\.25 needs the entropy"):
        run({**data, "entropy": None}, PolicyConfig(loss="dapo", entropy_coef=0.25))


def test_presets_and_what_overrides_them():
    assert PolicyConfig().resolved().beta == 0.001
    assert PolicyConfig(loss="dapo").resolved().clip_high == 0.28
    gspo = PolicyConfig(loss="gspo", beta=0.2).resolved()
    assert (gspo.importance_level, gspo.aggregation) == ("sequence", "seq_mean_token_mean")
    assert (gspo.clip_low, gspo.clip_high, gspo.beta) == (3e-4, 4e-4, 0.2)
    dr_grpo = PolicyConfig(loss="dr_grpo", sampler_is_cap=None, dual_clip=3.0).resolved()
    assert dr_grpo.aggregation == "seq_mean_token_sum_norm"
    assert (dr_grpo.sampler_is_cap, dr_grpo.dual_clip, dr_grpo.beta) == (None, 3.0, 0.0)


def test_a_reference_is_asked_for_only_where_it_counts():
    data = {**problem(8), "ref_logps": None}
    arrays = {name: value for name, value in data.items() if name != "ref_logps"}
    with pytest.raises(ConfigError, match=r"beta=0\.001 needs .* reference"):
        policy_loss(
            **{k: jnp.asarray(v) for k, v in arrays.items()},
            ref_logps=None,
            num_continuations=MAX_CONTINUATIONS,
            config=PolicyConfig(),
        )


def test_config_is_documented_and_reads_from_overrides():
    assert undocumented_fields(PolicyConfig) == []
    config = load_config(PolicyConfig, overrides=["loss=dapo", "beta=0.01", "sampler_is_cap=null"])
    assert (config.loss, config.beta, config.sampler_is_cap) == ("dapo", 0.01, None)
    assert config.clip_high is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "drgrpo"}, "unknown loss 'drgrpo'\n  hint: did you mean 'dr_grpo'"),
        ({"kl": "k4"}, "unknown kl 'k4'"),
        ({"aggregation": "token-mean"}, "did you mean 'token_mean'"),
        ({"importance_level": "sequences"}, "did you mean 'sequence'"),
        ({"clip_low": 0.0}, "clip_low must be finite and above 0"),
        ({"clip_low": 1.5}, "clip_low must be finite and above 0 and at most 1"),
        ({"clip_high": -0.1}, "clip_high must be finite and above 0"),
        ({"dual_clip": 1.0}, "dual_clip must be finite and above 1"),
        ({"beta": math.nan}, "beta must be finite and at least 0"),
        ({"beta": math.inf}, "beta must be finite"),
        ({"sampler_is_cap": 0.9}, "sampler_is_cap must be finite and at least 1"),
        ({"sampler_is_mode": "mask"}, "unknown sampler_is_mode 'mask'"),
        ({"sampler_is_mode": "token_mask", "sampler_is_cap": None}, "hint: set sampler_is_cap=2"),
        ({"entropy_coef": -0.1}, "entropy_coef must be finite and at least 0"),
        ({"entropy_coef": math.nan}, "entropy_coef must be finite and at least 0"),
        ({"loss": "dapo", "use_bias_correction_kl": True}, "dapo has none: beta is 0"),
    ],
)
def test_config_refuses(change: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        PolicyConfig(**change)
