"""Attention back ends: the blocks against a plain dense reference, and every refusal."""

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t1_jax.errors import UnsupportedError
from t1_jax.model import AttentionMask, ModelOptions
from t1_jax.model.attention import causal_attention, check_backend
from t1_jax.parallel import MeshContext, ShardingRules, single_device_mesh_context
from tests.model.tiny import COMPILE_FAST, build, tiny

B, L, N, K, H = 2, 17, 6, 2, 4


def place(array: Any, letters: str) -> jax.Array:
    """An array on one device, laid out as attention expects it."""
    return jax.device_put(array, single_device_mesh_context().activation(letters))


def qkv(dtype: str = "float32", length: int = L) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, keys and values."""
    generator = np.random.default_rng(0)
    q, k, v = (
        place(generator.standard_normal((B, length, heads, H)).astype(jnp.dtype(dtype)), letters)
        for letters, heads in (("blnh", N), ("blkh", K), ("blkh", K))
    )
    return q, k, v


def dense(
    arrays: Sequence[jax.Array], window: int = 0, segments: np.ndarray | None = None
) -> np.ndarray:
    """One score at a time, as the definition says."""
    q, k, v = (np.asarray(array, np.float32) for array in arrays)
    out = np.zeros(q.shape)
    for b, i, n in np.ndindex(*q.shape[:3]):
        head = n // (q.shape[2] // k.shape[2])
        seen = [
            j
            for j in range(i + 1)
            if (window == 0 or i - j < window)
            and (segments is None or segments[b, i] == segments[b, j])
        ]
        scores = np.array([q[b, i, n] @ k[b, j, head] for j in seen]) / np.sqrt(q.shape[3])
        weights = np.exp(scores - scores.max())
        out[b, i, n] = (weights / weights.sum()) @ v[b, seen, head]
    return out


def attention(window: Any = 0, segments: Any = None, block: int = 512, **more: Any) -> Any:
    """Attention as a function of queries, keys and values."""
    backend = more.get("backend", "xla")
    segments = None if segments is None else jnp.asarray(segments)
    window = window if isinstance(window, int) else jnp.asarray(window)

    def call(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return causal_attention(
            q,
            k,
            v,
            AttentionMask(window=window, segment_ids=segments),
            options=ModelOptions(attention=backend, attention_block=block),
            rules=ShardingRules(),
        )

    return call


def compiled(call: Any) -> Any:
    """The function, compiled in little time."""
    return jax.jit(call, compiler_options=COMPILE_FAST)


SEGMENTS = np.array([[0] * 3 + [1] * 9 + [2] * 5, [4] * 16 + [5]])


@pytest.mark.parametrize(
    ("block", "window", "packed"),
    [
        (512, 0, False),
        (512, 5, False),
        (512, 0, True),
        (512, "traced 5", True),
        (5, 0, False),
        (5, 0, True),
        (5, 1, False),
        (5, 7, False),
        (5, 7, True),
        (5, "traced 0", False),
        (5, "traced 7", False),
        (5, "traced 7", True),
        (1, 3, True),
        (16, 4, False),
        (17, 0, False),
    ],
)
def test_blocks_equal_the_dense_reference(block: int, window: int | str, packed: bool) -> None:
    size = window if isinstance(window, int) else int(window.split()[1])
    given = size if isinstance(window, int) else np.asarray(size)
    segments = place(SEGMENTS, "bl") if packed else None
    q, k, v = qkv()
    with single_device_mesh_context().activate():
        out = compiled(attention(given, segments, block))(q, k, v)
    expected = dense((q, k, v), size, SEGMENTS if packed else None)
    np.testing.assert_allclose(out, expected, atol=2e-6)


@pytest.mark.parametrize("window", [0, 5])
def test_gradients_of_blocks_equal_those_of_one(window: int) -> None:
    q, k, v = qkv()
    towards = place(np.random.default_rng(1).standard_normal(q.shape, np.float32), "blnh")

    def gradients(block: int) -> Any:
        def loss(*args: jax.Array) -> jax.Array:
            return jnp.sum(attention(window, block=block)(*args) * towards)

        return compiled(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v)

    with single_device_mesh_context().activate():
        for whole, blocks in zip(gradients(512), gradients(5), strict=True):
            np.testing.assert_allclose(whole, blocks, atol=2e-6)


def test_bf16_scores_are_kept_in_float32() -> None:
    q, k, v = qkv("bfloat16")
    with single_device_mesh_context().activate():
        out = compiled(attention())(q, k, v)
        jaxpr = str(jax.make_jaxpr(attention())(q, k, v))
    assert out.dtype == jnp.bfloat16
    assert f"f32[{B},{K},{N // K},{L},{L}]" in jaxpr
    assert f"bf16[{B},{K},{N // K},{L},{L}] = exp" not in jaxpr
    expected = dense((q, k, v))
    np.testing.assert_allclose(np.asarray(out, np.float32), expected, atol=0.03)


def placement_on(platform: str, capability: str = "9.0", rules: Any = None) -> MeshContext:
    """A placement on a device that this machine does not have."""
    mesh_context = mock.Mock(spec=MeshContext)
    mesh_context.rules = rules or ShardingRules()
    mesh_context.mesh = mock.Mock()
    mesh_context.mesh.devices.item = lambda _: SimpleNamespace(
        platform=platform, compute_capability=capability
    )
    return mesh_context


BF16 = jnp.dtype(jnp.bfloat16)
FITS = tiny(head_dim=64, windows=(4, 4))


def test_supported_back_ends_pass() -> None:
    check_backend("xla", tiny(windows=(0, 4)), jnp.dtype("float32"), placement_on("cpu"))
    check_backend("splash", FITS, jnp.dtype("float32"), placement_on("tpu"))
    check_backend("cudnn", FITS, BF16, placement_on("gpu", "8.0"))
    check_backend("cudnn", tiny(head_dim=256), BF16, placement_on("gpu", "10.0"))


@pytest.mark.parametrize(
    ("backend", "changes", "dtype", "device", "message"),
    [
        ("cudnn", {}, "bfloat16", ("cpu",), "cudnn attention needs a GPU, the mesh is of cpu"),
        ("splash", {}, "bfloat16", ("gpu",), "splash attention needs a TPU, the mesh is of gpu"),
        ("splash", {"windows": (0, 4)}, "bfloat16", ("tpu",), r"one window.*\(0, 4\)"),
        ("cudnn", {"windows": (0, 4)}, "bfloat16", ("gpu",), r"one window.*\(0, 4\)"),
        ("cudnn", {"head_dim": 64}, "float32", ("gpu",), "bf16 or fp16, got float32"),
        ("cudnn", {"head_dim": 12}, "bfloat16", ("gpu",), "multiple of 8 and at most 256"),
        ("cudnn", {"head_dim": 264}, "bfloat16", ("gpu",), "at most 256 on .* 9.0, got 264"),
        ("cudnn", {"head_dim": 136}, "float16", ("gpu", "8.9"), "at most 128 on .* 8.9, got 136"),
        ("cudnn", {"head_dim": 64}, "bfloat16", ("gpu", "gfx942"), "NVIDIA GPU, this is gfx942"),
    ],
)
def test_unsupported_combinations_are_refused_with_the_way_out(
    backend: str, changes: dict[str, Any], dtype: str, device: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UnsupportedError, match=rf"{message}.*\n.*attention=xla"):
        check_backend(backend, tiny(**changes), jnp.dtype(dtype), placement_on(*device))


@pytest.mark.parametrize(
    "rules",
    [
        ShardingRules(heads=("tensor",), kv_heads=()),
        ShardingRules(heads=(), mlp=()),
        ShardingRules(batch=("data",), embed=(), length=("fsdp",)),
    ],
)
def test_rules_that_split_queries_and_keys_apart_are_refused(rules: ShardingRules) -> None:
    with pytest.raises(UnsupportedError, match="query and key heads sharded alike"):
        check_backend("xla", tiny(), BF16, placement_on("cpu", rules=rules))


@pytest.mark.parametrize("backend", ["cudnn", "splash"])
def test_a_decoder_is_refused_before_it_is_built(backend: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{backend} attention needs a"):
        build(attention=backend, dtype="bfloat16")


@pytest.mark.parametrize(
    ("backend", "arguments", "message"),
    [
        ("cudnn", {"segments": SEGMENTS}, "ignores segment ids"),
        ("splash", {}, "divisible by 128, got 17"),
        ("cudnn", {"window": np.asarray(4)}, "window known at compilation"),
        ("splash", {"window": np.asarray(4)}, "window known at compilation"),
    ],
)
def test_inputs_that_a_back_end_would_get_wrong_are_refused(
    backend: str, arguments: dict[str, Any], message: str
) -> None:
    with (
        single_device_mesh_context().activate(),
        pytest.raises(UnsupportedError, match=message),
    ):
        attention(**arguments, backend=backend)(*qkv())


@pytest.mark.parametrize("window", [0, 5])
def test_cudnn_is_asked_for_the_same_function(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = jax.nn.dot_product_attention, []

    def on_cpu(*arrays: jax.Array, implementation: str, **arguments: Any) -> jax.Array:
        asked.append(implementation)
        return real(*arrays, implementation="xla", **arguments)

    monkeypatch.setattr(jax.nn, "dot_product_attention", on_cpu)
    q, k, v = qkv()
    with single_device_mesh_context().activate():
        out = compiled(attention(window, backend="cudnn"))(q, k, v)
    assert asked == ["cudnn"]
    np.testing.assert_allclose(out, dense((q, k, v), window), atol=2e-6)


@pytest.mark.parametrize(("window", "packed"), [(0, False), (40, True)])
def test_splash_equals_the_blocks(
    window: int, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels

    # The kernel is run by Pallas's interpreter, as there is no TPU here.
    interpreted = partial(kernels.make_splash_mqa_single_device, interpret=True)
    monkeypatch.setattr(kernels, "make_splash_mqa_single_device", interpreted)
    q, k, v = qkv(length=256)
    segments = np.repeat([[0, 1, 2, 3], [0, 0, 0, 1]], 64, axis=1) if packed else None
    ids = None if segments is None else place(segments.astype(np.int32), "bl")

    def values_and_gradients(backend: str) -> Any:
        call = attention(window, ids, backend=backend)

        def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
            out = call(q, k, v)
            return jnp.sum(out * jnp.sin(jnp.arange(H))), out

        return compiled(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)

    with single_device_mesh_context().activate():
        splash, blocks = values_and_gradients("splash"), values_and_gradients("xla")
    for one, other in zip(jax.tree.leaves(splash), jax.tree.leaves(blocks), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
