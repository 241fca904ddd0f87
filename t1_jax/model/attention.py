"""Causal self-attention of whole sequences: one function, three back ends."""

import re
from dataclasses import replace
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t1_jax.errors import UnsupportedError
from t1_jax.model.blockwise import blockwise_attention, rowwise_attention
from t1_jax.model.config import DecoderConfig
from t1_jax.model.mask import AttentionMask
from t1_jax.model.options import ModelOptions
from t1_jax.parallel import MeshContext, ShardingRules, activation_axes

_SPLASH_BLOCKS = (512, 256, 128)
"""Tokens per kernel step, largest first; small blocks leave a TPU's matrix unit idle."""
SPLASH_MULTIPLE = 128
"""Splash attention needs lengths that are multiples of this."""
_USE_XLA = "use attention=xla"


def causal_attention(
    q: Float[Array, "B L N H"],
    k: Float[Array, "B L K H"],
    v: Float[Array, "B L K H"],
    mask: AttentionMask,
    *,
    options: ModelOptions,
    rules: ShardingRules,
) -> Float[Array, "B L N H"]:
    """softmax(q k^T / sqrt(H)) v over the tokens that `mask` lets each query attend to.

    N is a multiple of K, and head n reads key head n // (N/K). `options` names the back end and,
    for `xla`, its block size and loop. Each device attends to its own rows and heads.

    Raises:
        UnsupportedError: the back end cannot compute this; it never falls back to another.
            `check_backend` rejects what is known when the model is built.
    """
    backend, window = options.attention, mask.window
    _check_mask(backend, q.shape[1], mask)

    def local(q, k, v, segment_ids, traced_window):  # the rows and heads of one device
        if backend == "xla":
            local_mask = replace(
                mask,
                window=window if traced_window is None else traced_window,
                segment_ids=segment_ids,
            )
            attend = rowwise_attention if options.attention_by_row else blockwise_attention
            return attend(q, k, v, local_mask, options.attention_block)
        assert isinstance(window, int)
        if backend == "cudnn":
            local_window = (window - 1, 0) if window else None
            return jax.nn.dot_product_attention(
                q, k, v, is_causal=True, local_window_size=local_window, implementation="cudnn"
            )
        return _splash(q, k, v, window, segment_ids)

    heads, kv_heads = rules.spec(activation_axes("blnh")), rules.spec(activation_axes("blkh"))
    specs = (heads, kv_heads, kv_heads, rules.spec(activation_axes("bl")), jax.P())
    attend = jax.shard_map(local, in_specs=specs, out_specs=heads, check_vma=False)
    return attend(q, k, v, mask.segment_ids, None if isinstance(window, int) else window)


def check_backend(
    backend: str, config: DecoderConfig, dtype: jnp.dtype, mesh_context: MeshContext
) -> None:
    """Rejects a model that `backend` cannot compute on this mesh, before anything is built.

    Raises:
        UnsupportedError: says what was asked, what the back end supports, and what to use instead.
    """
    rules = mesh_context.rules
    if rules.heads != rules.kv_heads or rules.length:
        raise UnsupportedError(
            f"attention needs query and key heads sharded alike and whole sequences, got rules "
            f"heads={rules.heads}, kv_heads={rules.kv_heads}, length={rules.length}",
            hint="give heads and kv_heads the same mesh axes and length none",
        )
    if backend == "xla":
        return
    device = mesh_context.mesh.devices.item(0)
    needed = {"cudnn": "gpu", "splash": "tpu"}[backend]
    if device.platform != needed:
        raise UnsupportedError(
            f"{backend} attention needs a {needed.upper()}, the mesh is of {device.platform}",
            hint=_USE_XLA,
        )
    if config.uniform_window is None:
        raise UnsupportedError(
            f"{backend} attention needs one window for all layers, got {config.windows}",
            hint=_USE_XLA,
        )
    if backend == "cudnn":
        _check_cudnn(config.head_dim, dtype, device.compute_capability)


def _check_cudnn(head_dim: int, dtype: jnp.dtype, capability: str) -> None:
    """Rejects what cuDNN's fused attention cannot compute at this compute capability ("9.0")."""
    numbers = re.fullmatch(r"(\d+)\.(\d+)", capability)
    if numbers is None:
        raise UnsupportedError(
            f"cudnn attention needs an NVIDIA GPU, this is {capability}", hint=_USE_XLA
        )
    if dtype not in (jnp.bfloat16, jnp.float16):
        raise UnsupportedError(
            f"cudnn attention needs bf16 or fp16, got {dtype}",
            hint=f"{_USE_XLA}, or dtype=bfloat16",
        )
    widest = 256 if int(numbers[1]) >= 9 else 128
    if head_dim % 8 or head_dim > widest:
        raise UnsupportedError(
            f"cudnn attention needs a head dimension that is a multiple of 8 and at most "
            f"{widest} on compute capability {capability}, got {head_dim}",
            hint=_USE_XLA,
        )


def _check_mask(backend: str, length: int, mask: AttentionMask) -> None:
    """Rejects masks that `backend` would get wrong or silently ignore."""
    window, segment_ids = mask.window, mask.segment_ids
    if backend != "xla" and not isinstance(window, int):
        raise UnsupportedError(
            f"{backend} attention needs a window known at compilation", hint=_USE_XLA
        )
    if backend == "cudnn" and segment_ids is not None:
        raise UnsupportedError("cudnn attention ignores segment ids of packed rows", hint=_USE_XLA)
    if backend == "splash" and length % SPLASH_MULTIPLE:
        raise UnsupportedError(
            f"splash attention needs a length divisible by {SPLASH_MULTIPLE}, got {length}",
            hint=f"{_USE_XLA}, or length buckets that are multiples of {SPLASH_MULTIPLE}",
        )
    if not mask.shared_prefix:
        return
    if backend != "xla":
        raise UnsupportedError(
            f"{backend} attention cannot share one prefix between segments",
            hint=f"{_USE_XLA}, or rows of their own for prompt and thought",
        )
    if not isinstance(window, int) or window:
        # A window counts slots; the prefix is more slots than positions away from later segments.
        raise UnsupportedError(
            "a prefix shared by several segments cannot be combined with a sliding window",
            hint="give each thought a row of its own",
        )
    if segment_ids is None:
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
