"""cuDNN's fused attention against XLA's, values and gradients, and the time of both."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.record import Record
from benchmarks.gpu.roofline import share, timed
from benchmarks.gpu.setting import Setting, run_part
from t1_jax.errors import UnsupportedError
from t1_jax.model import AttentionMask, ModelOptions, peak_flops
from t1_jax.model.attention import causal_attention
from t1_jax.parallel import MeshContext, single_device_mesh_context

# B, L, N, K, H: SmolLM2-135M's heads, Qwen3-0.6B's and Qwen3-4B's.
_SHAPES = ((8, 512, 9, 3, 64), (4, 2048, 16, 8, 128), (2, 2048, 32, 8, 128))
_TOY_SHAPES = ((2, 32, 4, 2, 8),)
_BF16 = 2e-2
"""Largest error allowed, as ‖found − expected‖ / ‖expected‖: a few roundings to bf16."""
_FP32 = 2e-5


def check(setting: Setting, record: Record) -> None:
    """Every shape causal, the first with a window too; rows are right-padded, as in training."""
    mesh_context = single_device_mesh_context()
    on_gpu = mesh_context.mesh.devices.flat[0].platform == "gpu"
    with mesh_context.activate():
        for shape in _TOY_SHAPES if setting.toy else _SHAPES:
            for window in (0, shape[1] // 4) if shape == _SHAPES[0] or setting.toy else (0,):
                with record.case(f"attention {shape} window {window}"):
                    _compare(record, shape, window, mesh_context, on_gpu=on_gpu)
        with record.case("packed rows"):
            _packed(record, mesh_context)
    if not on_gpu:
        record.skip("cuDNN attention", "this is no GPU; XLA's was checked against a plain form")


def _compare(
    record: Record, shape: Sequence[int], window: int, mesh_context: MeshContext, *, on_gpu: bool
) -> None:
    rows, length, heads, kv_heads, width = shape
    name = f"B{rows} L{length} N{heads} K{kv_heads} H{width} window {window}"
    keys = jax.random.split(jax.random.key(0), 4)
    q, dy = (jax.random.normal(k, (rows, length, heads, width)) for k in keys[:2])
    k, v = (jax.random.normal(k, (rows, length, kv_heads, width)) for k in keys[2:])
    lengths = np.linspace(length // 2, length, rows).astype(np.int32)
    real = np.arange(length)[None, :, None, None] < lengths[:, None, None, None]
    dy = jnp.where(real, dy, 0)  # padding asks for nothing, so it must change nothing
    q, k, v, dy = (
        jax.device_put(x.astype(jnp.bfloat16), mesh_context.activation(letters))
        for x, letters in ((q, "blnh"), (k, "blkh"), (v, "blkh"), (dy, "blnh"))
    )

    def with_gradients(backend: str) -> Callable[..., Any]:
        def run(q: jax.Array, k: jax.Array, v: jax.Array, dy: jax.Array) -> Any:
            out, back = jax.vjp(
                lambda *x: _attend(*x, backend=backend, window=window, mesh_context=mesh_context),
                q,
                k,
                v,
            )
            return out, *back(dy.astype(out.dtype))

        return jax.jit(run)

    exact = [x.astype(jnp.float32) for x in (q, k, v, dy)]
    with jax.default_matmul_precision("highest"):
        whole = [jax.reshard(x, jax.P()) for x in exact]
        expected = jax.jit(lambda *x: _plain(*x, window=window))(*whole)
        found = with_gradients("xla")(*exact)
    _errors(record, f"xla fp32, {name}", found, expected, real, _FP32)
    backends = ("xla", "cudnn") if on_gpu else ("xla",)
    for backend in backends:
        with record.case(f"{backend} bf16, {name}"):
            run = with_gradients(backend)
            _errors(record, f"{backend} bf16, {name}", run(q, k, v, dy), expected, real, _BF16)
            _, seconds = timed(lambda run=run: run(q, k, v, dy), rounds=5)
            keys_seen = window or length / 2
            flops = 3 * 4 * rows * length * heads * width * keys_seen
            record.measure(
                f"{backend} forward and backward, {name}",
                seconds * 1e3,
                "ms",
                share=share(flops / seconds, peak_flops(jax.devices()[0].device_kind)),
                of="peak FLOP/s",
            )


def _attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    backend: str,
    window: int,
    mesh_context: MeshContext,
) -> jax.Array:
    return causal_attention(
        q,
        k,
        v,
        AttentionMask(window=window),
        options=ModelOptions(attention=backend),
        rules=mesh_context.rules,
    )


def _plain(q: jax.Array, k: jax.Array, v: jax.Array, dy: jax.Array, *, window: int) -> Any:
    """The definition, all scores at once, in the dtype given."""

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        group = q.shape[2] // k.shape[2]
        k, v = jnp.repeat(k, group, axis=2), jnp.repeat(v, group, axis=2)
        scores = jnp.einsum("blnh,bsnh->bnls", q, k) / q.shape[-1] ** 0.5
        behind = jnp.arange(q.shape[1])[:, None] - jnp.arange(q.shape[1])[None]
        seen = (behind >= 0) & ((behind < window) if window else True)
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        return jnp.einsum("bnls,bsnh->blnh", weights, v)

    out, back = jax.vjp(attend, q, k, v)
    return out, *back(dy)


def _errors(
    record: Record, name: str, found: Any, expected: Any, real: np.ndarray, allowed: float
) -> None:
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        one, other = (np.where(real, np.asarray(x, np.float32), 0) for x in (one, other))
        error = float(np.linalg.norm(one - other) / np.linalg.norm(other))
        worst = max(worst, error if np.isfinite(error) else np.inf)
    record.check(f"{name}: out, dq, dk, dv", worst, allowed)


def _packed(record: Record, mesh_context: MeshContext) -> None:
    """CuDNN would ignore segment ids without a word, so they must be refused."""
    x = jnp.zeros((1, 32, 2, 8), jnp.bfloat16)
    try:
        causal_attention(
            x,
            x,
            x,
            AttentionMask(segment_ids=jnp.zeros((1, 32), jnp.int32)),
            options=ModelOptions(attention="cudnn"),
            rules=mesh_context.rules,
        )
    except UnsupportedError:
        refused = True
    else:
        refused = False
    record.check("cuDNN refuses packed rows", float(refused), 1, at_least=True)


if __name__ == "__main__":
    run_part(check)
