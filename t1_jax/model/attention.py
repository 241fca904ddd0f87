"""Causal self-attention over whole sequences: one function, three back ends.

Rows are right-padded, so a causal mask alone keeps padding out of every real token's view.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t1_jax.errors import UnsupportedError
from t1_jax.parallel import ShardingRules, activation_axes

MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
"""A score no real score comes near, finite so that a row with nothing to see yields no NaN."""

Window = int | Int[Array, ""]
"""Tokens a token sees, itself included; 0 sees all. An array where layers of one scan differ."""


def causal_attention(
    q: Float[Array, "B L N H"],
    k: Float[Array, "B L K H"],
    v: Float[Array, "B L K H"],
    *,
    backend: str,
    window: Window,
    segment_ids: Int[Array, "B L"] | None,
    block: int,
    rules: ShardingRules,
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
        rules: rows and heads are split as these say, and each device attends to its own.

    Raises:
        UnsupportedError: the back end cannot do what is asked; it never falls back to another.
    """
    check_attention(backend, q, window, segment_ids, rules)
    fixed_window = window if isinstance(window, int) else None

    def local(q, k, v, window, segment_ids):  # the rows and heads that one device holds
        if backend == "cudnn":
            reach = (fixed_window - 1, 0) if fixed_window else None
            return jax.nn.dot_product_attention(
                q, k, v, is_causal=True, local_window_size=reach, implementation="cudnn"
            )
        if backend == "splash":
            return _splash(q, k, v, fixed_window or 0, segment_ids)
        return _blockwise(
            q, k, v, window if window is not None else fixed_window, segment_ids, block
        )

    heads, kv_heads = rules.spec(activation_axes("blnh")), rules.spec(activation_axes("blkh"))
    specs = (heads, kv_heads, kv_heads, jax.P(), rules.spec(activation_axes("bl")))
    attend = jax.shard_map(local, in_specs=specs, out_specs=heads, check_vma=False)
    return attend(q, k, v, window if fixed_window is None else None, segment_ids)


def check_attention(
    backend: str,
    q: jax.Array,
    window: Window,
    segment_ids: jax.Array | None,
    rules: ShardingRules,
) -> None:
    """Refuses a combination that `backend` would get wrong or silently ignore.

    Raises:
        UnsupportedError: with what was asked, what the back end can do, and the way out.
    """
    _, length, _, head_dim = q.shape
    out = "use attention=xla"
    if rules.heads != rules.kv_heads or rules.length:
        raise UnsupportedError(
            f"attention needs query and key heads split alike and whole sequences, got rules "
            f"heads={rules.heads}, kv_heads={rules.kv_heads}, length={rules.length}",
            mend="give heads and kv_heads the same mesh axes and length none",
        )
    if backend == "xla":
        return
    if not isinstance(window, int):
        raise UnsupportedError(f"{backend} attention needs one window for all layers", mend=out)
    platform = jax.default_backend()
    if backend == "cudnn":
        if platform != "gpu":
            raise UnsupportedError(f"cudnn attention needs a GPU, this is {platform}", mend=out)
        if segment_ids is not None:
            raise UnsupportedError("cudnn attention ignores segment ids of packed rows", mend=out)
        if q.dtype not in (jnp.bfloat16, jnp.float16):
            raise UnsupportedError(f"cudnn attention needs bf16 or fp16, got {q.dtype}", mend=out)
        capability = float(jax.devices()[0].compute_capability)
        widest = 256 if capability >= 9.0 else 128
        if head_dim % 8 or head_dim > widest:
            raise UnsupportedError(
                f"cudnn attention needs a head dimension that is a multiple of 8 and at most "
                f"{widest} on compute capability {capability}, got {head_dim}",
                mend=out,
            )
    if backend == "splash":
        if platform != "tpu":
            raise UnsupportedError(f"splash attention needs a TPU, this is {platform}", mend=out)
        if length % 128:
            raise UnsupportedError(
                f"splash attention needs a length divisible by 128, got {length}",
                mend=f"{out}, or length buckets that are multiples of 128",
            )


def _blockwise(
    q: Float[Array, "B L N H"],
    k: Float[Array, "B L K H"],
    v: Float[Array, "B L K H"],
    window: Window,
    segment_ids: Int[Array, "B L"] | None,
    block: int,
) -> Float[Array, "B L N H"]:
    """The reference: query blocks against the keys they can see, scores in float32.

    Block i reads only keys up to its own end, so the upper triangle is neither stored nor computed.
    """
    rows, length, heads, head_dim = q.shape
    kv_heads = k.shape[2]
    grouped = q.reshape(rows, length, kv_heads, heads // kv_heads, head_dim)
    blocks = []
    for start in range(0, length, block):
        end = min(start + block, length)
        first = max(0, start - window + 1) if isinstance(window, int) and window else 0
        at_q, at_k = jnp.arange(start, end)[:, None], jnp.arange(first, end)[None, :]
        seen = at_k <= at_q
        if not (isinstance(window, int) and window == 0):
            seen &= (at_q - at_k < window) | (jnp.asarray(window) == 0)
        seen = seen[None]
        if segment_ids is not None:
            seen = seen & (segment_ids[:, start:end, None] == segment_ids[:, None, first:end])
        scores = jnp.einsum(
            "blkjh,bskh->bkjls",
            grouped[:, start:end],
            k[:, first:end],
            preferred_element_type=jnp.float32,
        )
        scores = jnp.where(seen[:, None, None], scores * head_dim**-0.5, MASKED)
        weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
        blocks.append(
            jnp.einsum(
                "bkjls,bskh->blkjh", weights, v[:, first:end], preferred_element_type=jnp.float32
            ).astype(q.dtype)
        )
    joined = blocks[0] if len(blocks) == 1 else jnp.concatenate(blocks, axis=1)
    return joined.reshape(rows, length, heads, head_dim)


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

    _, length, heads, head_dim = q.shape
    shape = (length, length)
    one_head = masks.LocalMask(shape, (window - 1, 0), 0) if window else masks.CausalMask(shape)
    kernel = kernels.make_splash_mqa_single_device(
        mask=masks.MultiHeadMask([one_head] * (heads // k.shape[2]))
    )
    q = (q * head_dim**-0.5).astype(q.dtype).reshape(*q.shape[:2], k.shape[2], -1, head_dim)

    def one_row(q_lkjh: jax.Array, k_lkh: jax.Array, v_lkh: jax.Array, segments: jax.Array | None):
        ids = None if segments is None else kernels.SegmentIds(q=segments, kv=segments)
        per_kv_head = jax.vmap(lambda q, k, v: kernel(q, k, v, ids))
        out = per_kv_head(
            q_lkjh.transpose(1, 2, 0, 3), k_lkh.transpose(1, 0, 2), v_lkh.transpose(1, 0, 2)
        )
        return out.transpose(2, 0, 1, 3)

    if segment_ids is None:
        out = jax.vmap(lambda q, k, v: one_row(q, k, v, None))(q, k, v)
    else:
        out = jax.vmap(one_row)(q, k, v, segment_ids)
    return out.reshape(*q.shape[:2], heads, head_dim)


def attend_cache(
    q: Float[Array, "P Q N H"],
    k: Float[Array, "P K S H"],
    v: Float[Array, "P K S H"],
    seen: jax.Array,
) -> tuple[Float[Array, "P Q N H"], Float[Array, "P Q N"]]:
    """Attention of Q queries per row to a cache, with what is needed to merge it with another.

    Args:
        q: queries.
        k: cached keys, heads before slots so that every matrix product reads them in place.
        v: cached values.
        seen: bool [P Q S], which slots each query may read.

    Returns:
        The attention output in float32, and the log of the sum of exponentiated scores.
    """
    prompts, queries, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    grouped = q.reshape(prompts, queries, kv_heads, heads // kv_heads, head_dim)
    scores = jnp.einsum("pqkjh,pksh->pkqjs", grouped, k, preferred_element_type=jnp.float32)
    scores = jnp.where(seen[:, None, :, None], scores / math.sqrt(head_dim), MASKED)
    log_sum = jax.nn.logsumexp(scores, axis=-1)
    weights = jnp.exp(scores - log_sum[..., None]).astype(v.dtype)
    out = jnp.einsum("pkqjs,pksh->pqkjh", weights, v, preferred_element_type=jnp.float32)
    return (
        out.reshape(prompts, queries, heads, head_dim),
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
