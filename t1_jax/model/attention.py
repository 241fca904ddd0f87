"""Causal self-attention over whole sequences: one function, three back ends.

Rows are right-padded, so a causal mask alone keeps padding out of every real token's view.
"""

import math
import re
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t1_jax.errors import UnsupportedError
from t1_jax.model.blockwise import MASKED, Window, blockwise_attention, rowwise_attention
from t1_jax.model.config import DecoderConfig
from t1_jax.parallel import MeshContext, ShardingRules, activation_axes

_SPLASH_BLOCKS = (512, 256, 128)
"""Tokens a kernel step reads, largest first; small blocks leave a TPU's matrix unit idle."""
SPLASH_MULTIPLE = 128
"""Lengths that splash attention takes divide by this."""
_WAY_OUT = "use attention=xla"


def causal_attention(
    q: Float[Array, "B L N H"],
    k: Float[Array, "B L K H"],
    v: Float[Array, "B L K H"],
    *,
    backend: str,
    window: Window,
    segment_ids: Int[Array, "B L"] | None,
    block: int,
    by_row: bool,
    rules: ShardingRules,
    shared_prefix: bool = False,
) -> Float[Array, "B L N H"]:
    """softmax(q k^T / sqrt(H)) v over the tokens at or before each query.

    Args:
        q: queries; N is a multiple of K and head n reads key head n // (N/K).
        k: keys.
        v: values.
        backend: one of `ATTENTION_BACKENDS`.
        window: see `Window`.
        segment_ids: for packed rows, tokens see only their own segment; None if not packed.
        block: query tokens per step of the `xla` back end.
        by_row: whether the `xla` back end takes one row after the other.
        rules: rows and heads are split as these say, and each device attends to its own.
        shared_prefix: whether the tokens of segment 0 are seen by all segments of their row.

    Raises:
        UnsupportedError: the back end cannot do what is asked; it never falls back to another.
            `check_backend` has refused what could be seen when the model was built.
    """
    _check_call(backend, q.shape[1], window, segment_ids)
    if shared_prefix:
        _check_prefix(backend, window, segment_ids)

    def local(q, k, v, segment_ids, traced):  # the rows and heads that one device holds
        if backend == "xla":
            known = window if traced is None else traced
            attend = rowwise_attention if by_row else blockwise_attention
            return attend(q, k, v, known, segment_ids, block, shared_prefix=shared_prefix)
        assert isinstance(window, int)
        if backend == "cudnn":
            reach = (window - 1, 0) if window else None
            return jax.nn.dot_product_attention(
                q, k, v, is_causal=True, local_window_size=reach, implementation="cudnn"
            )
        return _splash(q, k, v, window, segment_ids)

    heads, kv_heads = rules.spec(activation_axes("blnh")), rules.spec(activation_axes("blkh"))
    specs = (heads, kv_heads, kv_heads, rules.spec(activation_axes("bl")), jax.P())
    attend = jax.shard_map(local, in_specs=specs, out_specs=heads, check_vma=False)
    return attend(q, k, v, segment_ids, None if isinstance(window, int) else window)


def check_backend(
    backend: str, config: DecoderConfig, dtype: jnp.dtype, mesh_context: MeshContext
) -> None:
    """Refuses, before anything is built, a model that `backend` cannot compute where it will stand.

    Raises:
        UnsupportedError: with what was asked, what the back end can do, and the way out.
    """
    rules = mesh_context.rules
    if rules.heads != rules.kv_heads or rules.length:
        raise UnsupportedError(
            f"attention needs query and key heads split alike and whole sequences, got rules "
            f"heads={rules.heads}, kv_heads={rules.kv_heads}, length={rules.length}",
            hint="give heads and kv_heads the same mesh axes and length none",
        )
    if backend == "xla":
        return
    device = mesh_context.mesh.devices.item(0)
    wanted = {"cudnn": "gpu", "splash": "tpu"}[backend]
    if device.platform != wanted:
        raise UnsupportedError(
            f"{backend} attention needs a {wanted.upper()}, the mesh is of {device.platform}",
            hint=_WAY_OUT,
        )
    if config.uniform_window is None:
        raise UnsupportedError(
            f"{backend} attention needs one window for all layers, got {config.windows}",
            hint=_WAY_OUT,
        )
    if backend == "cudnn":
        _check_cudnn(config.head_dim, dtype, device.compute_capability)


def _check_cudnn(head_dim: int, dtype: jnp.dtype, capability: str) -> None:
    """What cuDNN's fused attention takes on a GPU of this compute capability ("9.0")."""
    numbers = re.fullmatch(r"(\d+)\.(\d+)", capability)
    if numbers is None:
        raise UnsupportedError(
            f"cudnn attention needs an NVIDIA GPU, this is {capability}", hint=_WAY_OUT
        )
    if dtype not in (jnp.bfloat16, jnp.float16):
        raise UnsupportedError(
            f"cudnn attention needs bf16 or fp16, got {dtype}",
            hint=f"{_WAY_OUT}, or dtype=bfloat16",
        )
    widest = 256 if int(numbers[1]) >= 9 else 128
    if head_dim % 8 or head_dim > widest:
        raise UnsupportedError(
            f"cudnn attention needs a head dimension that is a multiple of 8 and at most "
            f"{widest} on compute capability {capability}, got {head_dim}",
            hint=_WAY_OUT,
        )


def _check_call(backend: str, length: int, window: Window, segments: jax.Array | None) -> None:
    """Refuses inputs that `backend` would get wrong or silently ignore."""
    if backend != "xla" and not isinstance(window, int):
        raise UnsupportedError(
            f"{backend} attention needs a window known at compilation", hint=_WAY_OUT
        )
    if backend == "cudnn" and segments is not None:
        raise UnsupportedError("cudnn attention ignores segment ids of packed rows", hint=_WAY_OUT)
    if backend == "splash" and length % SPLASH_MULTIPLE:
        raise UnsupportedError(
            f"splash attention needs a length divisible by {SPLASH_MULTIPLE}, got {length}",
            hint=f"{_WAY_OUT}, or length buckets that are multiples of {SPLASH_MULTIPLE}",
        )


def _check_prefix(backend: str, window: Window, segments: jax.Array | None) -> None:
    """Refuses what would not show the prefix of a row to all of its segments."""
    if backend != "xla":
        raise UnsupportedError(
            f"{backend} attention cannot show one prefix to several segments",
            hint=f"{_WAY_OUT}, or rows of their own for prompt and thought",
        )
    if not isinstance(window, int) or window:
        # A window counts slots; from a later segment the prefix is farther away than it should be.
        raise UnsupportedError(
            "a prefix shared by several segments and a sliding window do not go together",
            hint="give each thought a row of its own",
        )
    if segments is None:
        raise UnsupportedError(
            "shared_prefix needs segment_ids", hint="give segment id 0 to the tokens of the prefix"
        )


def _splash(
    q: Float[Array, "B L N H"],
    k: Float[Array, "B L K H"],
    v: Float[Array, "B L K H"],
    window: int,
    segment_ids: Int[Array, "B L"] | None,
) -> Float[Array, "B L N H"]:
    """Splash attention on TPU; it does not scale, so q carries the factor H^-0.5."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernels,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    rows, length, heads, head_dim = q.shape
    kv_heads = k.shape[2]
    shape = (length, length)
    one_head = masks.LocalMask(shape, (window - 1, 0), 0) if window else masks.CausalMask(shape)
    block = max(size for size in _SPLASH_BLOCKS if length % size == 0)
    kernel = kernels.make_splash_mqa_single_device(
        mask=masks.MultiHeadMask([one_head] * (heads // kv_heads)),
        block_sizes=kernels.BlockSizes(
            block_q=block,
            block_kv=block,
            block_kv_compute=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_kv_dkv_compute=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
    )
    q_bkjlh = (q * head_dim**-0.5).astype(q.dtype).reshape(rows, length, kv_heads, -1, head_dim)
    q_bkjlh = q_bkjlh.transpose(0, 2, 3, 1, 4)
    k_bklh, v_bklh = k.swapaxes(1, 2), v.swapaxes(1, 2)
    ids = None if segment_ids is None else kernels.SegmentIds(q=segment_ids, kv=segment_ids)
    over_kv_heads = jax.vmap(kernel, in_axes=(0, 0, 0, None))
    out = cast(jax.Array, jax.vmap(over_kv_heads)(q_bkjlh, k_bklh, v_bklh, ids))
    return out.transpose(0, 3, 1, 2, 4).reshape(rows, length, heads, head_dim)


def attend_cache(
    q: Float[Array, "P Q N H"],
    k: Float[Array, "P K S H"],
    v: Float[Array, "P K H S"],
    seen: jax.Array,
) -> tuple[Float[Array, "P Q N H"], Float[Array, "P Q N"]]:
    """Attention of Q queries per row to a cache, with what is needed to merge it with another.

    Args:
        q: queries.
        k: cached keys.
        v: cached values, their slots last: both products then run along the last axis of both
            operands, the one form that XLA's CPU back end computes for bf16 in all shapes.
        seen: bool [P Q S], which slots each query may read.

    Returns:
        The attention output in float32, and the log of the sum of exponentiated scores.
    """
    prompts, queries, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    grouped = q.reshape(prompts, queries, kv_heads, heads // kv_heads, head_dim)
    grouped = grouped.transpose(0, 2, 1, 3, 4)
    scores = jnp.einsum("pkqjh,pksh->pkqjs", grouped, k, preferred_element_type=jnp.float32)
    scores = jnp.where(seen[:, None, :, None], scores / math.sqrt(head_dim), MASKED)
    highest = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights.astype(v.dtype)
    out = jnp.einsum("pkqjs,pkhs->pkqjh", weights, v, preferred_element_type=jnp.float32) / total
    log_sum = (highest + jnp.log(total))[..., 0]
    return (
        out.transpose(0, 2, 1, 3, 4).reshape(prompts, queries, heads, head_dim),
        log_sum.transpose(0, 2, 1, 3).reshape(prompts, queries, heads),
    )


def merge_attention(
    first: tuple[Float[Array, "*R N H"], Float[Array, "*R N"]],
    second: tuple[Float[Array, "*R N H"], Float[Array, "*R N"]],
) -> Float[Array, "*R N H"]:
    """Attention over the union of two caches, from the attention over each."""
    (out_a, log_a), (out_b, log_b) = first, second
    share = jax.nn.sigmoid(log_a - log_b)[..., None]
    return share * out_a + (1 - share) * out_b
