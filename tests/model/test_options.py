"""Options change how a decoder is computed, never the function."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.model import ModelOptions
from t1_jax.model.options import REMAT_POLICIES
from tests.model.tiny import COMPILE_FAST, Model, build, tiny, tokens

CONFIG = tiny(windows=(0, 4), qk_norm=True)
WINDOWED = tiny(num_layers=1, windows=(4,))

# Option -> its other choices and how far from the usual hidden states each may lie, as a cosine.
# A new option without an entry fails.
CHOICES: dict[str, list[tuple[Any, float]]] = {
    "dtype": [("bfloat16", 0.999), ("float16", 0.9999)],
    "param_dtype": [("bfloat16", 0.999), ("float16", 0.9999)],
    "attention": [],  # only `xla` runs here; the others are in test_attention.py
    "attention_block": [(1, 1.0), (5, 1.0)],
    "attention_by_row": [(True, 1.0)],
    "fp32_products": [(False, 1.0)],  # a difference in bf16 only: test_einsum.py
    "remat": [(name, 1.0) for name in REMAT_POLICIES if name != "none"],
    "unroll_decode": [(True, 1.0)],
}


@pytest.fixture(scope="module")
def usual() -> np.ndarray:
    """Hidden states with every option at its default."""
    return build(CONFIG).hidden(tokens(2, 12))


@pytest.mark.parametrize("option", [field.name for field in dataclasses.fields(ModelOptions)])
def test_every_choice_leaves_the_function_unchanged(option: str, usual: np.ndarray) -> None:
    for value, nearest in CHOICES[option]:
        chosen: dict[str, Any] = {option: value}
        other = build(CONFIG, **chosen).hidden(tokens(2, 12))
        if nearest == 1.0:
            np.testing.assert_allclose(other, usual, atol=2e-5)
        else:
            norms = np.linalg.norm(other, axis=-1) * np.linalg.norm(usual, axis=-1)
            assert nearest < ((other * usual).sum(-1) / norms).min()


@pytest.mark.parametrize("option", ["dtype", "param_dtype"])
def test_precision_is_what_was_asked(option: str) -> None:
    chosen: dict[str, Any] = {option: "bfloat16"}
    model = build(**chosen)
    params = nnx.state(model.decoder, nnx.Param)
    stored = {leaf.dtype.name for leaf in jax.tree.leaves(params)}
    hidden, logits = model.run(
        lambda decoder, ids: (x := decoder(ids), decoder.logits(x)),
        model.place(tokens(2, 3)),
    )
    assert stored == {"bfloat16" if option == "param_dtype" else "float32"}
    assert hidden.dtype.name == ("bfloat16" if option == "dtype" else "float32")
    assert logits.dtype.name == "float32"


def gradients(model: Model) -> list[np.ndarray]:
    """Of a loss that reaches every parameter."""
    graph, params, rest = nnx.split(model.decoder, nnx.Param, ...)

    def loss(params: nnx.State, ids: jax.Array) -> jax.Array:
        decoder = nnx.merge(graph, params, rest)
        return jax.nn.logsumexp(decoder.logits(decoder(ids)), axis=-1).sum()

    with model.mesh_context.activate():
        compiled = jax.jit(jax.grad(loss), compiler_options=COMPILE_FAST)
        out = compiled(params, model.place(tokens(1, 9)))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(out)]


@pytest.mark.parametrize("unrolled", [False, True])
def test_every_remat_policy_gives_the_same_gradients(unrolled: bool) -> None:
    def computed(**options: Any) -> list[np.ndarray]:
        model = build(WINDOWED, **options)
        if unrolled:
            with model.mesh_context.activate():
                model = Model(model.decoder.unstack_layers(), model.mesh_context)
        return gradients(model)

    kept = computed()
    policies = ["full"] if unrolled else list(REMAT_POLICIES)
    assert all(np.abs(leaf).max() > 0 for leaf in kept)
    for policy in policies:
        for one, other in zip(computed(remat=policy), kept, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3, rtol=1e-4)


def test_a_window_stays_known_under_remat() -> None:
    # As an array it would be refused by cudnn and splash, and xla would read all keys.
    model = build(tiny(windows=(4, 4), max_positions=128), remat="full", attention_block=8)
    graph, params, rest = nnx.split(model.decoder, nnx.Param, ...)
    with model.mesh_context.activate():
        jaxpr = jax.make_jaxpr(lambda p, ids: nnx.merge(graph, p, rest)(ids))(
            params, model.place(tokens(1, 128))
        )
    assert "f32[1,2,2,8,11]" in str(jaxpr)
    assert "f32[1,2,2,8,128]" not in str(jaxpr)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float64"}, "dtype must be one of float32, bfloat16, float16; got 'float64'"),
        ({"param_dtype": "int8"}, "param_dtype must be one of"),
        ({"attention": "flash"}, "attention must be one of xla, cudnn, splash; got 'flash'"),
        ({"remat": "some"}, "remat must be one of none, full, projections, dots"),
        ({"attention_block": 0}, "attention_block must be positive, got 0"),
    ],
)
def test_unknown_choices_are_refused_with_the_known_ones(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, UnsupportedError), match=message):
        ModelOptions(**options)
