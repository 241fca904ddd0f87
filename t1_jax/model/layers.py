"""The pieces of a decoder layer. Parameters of all layers are stacked on a leading axis Y."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from t1_jax.model.attention import attend_cache, causal_attention, merge_attention
from t1_jax.model.blockwise import Window
from t1_jax.model.cache import LayerCache, as_cache, prefix_seen, suffix_seen, write_slot
from t1_jax.model.config import DecoderConfig
from t1_jax.model.einsum import einsum_fp32_accum
from t1_jax.model.low_rank import LowRank
from t1_jax.model.options import ModelOptions
from t1_jax.model.rotary import rotate
from t1_jax.parallel import MeshContext, ShardingRules, activation_axes, weight_axes


@dataclass(frozen=True)
class ModuleContext:
    """What every module needs while it is constructed.

    Attributes:
        config: the decoder's shape.
        options: precision and back ends.
        mesh_context: mesh and rules.
        rngs: source of initial values.
    """

    config: DecoderConfig
    options: ModelOptions
    mesh_context: MeshContext
    rngs: nnx.Rngs

    def weight(self, name: str, letters: str, shape: tuple[int, ...], scale: float) -> nnx.Param:
        """A normal parameter of this standard deviation, placed by the rules.

        Raises:
            ConfigError: the mesh does not divide a dimension.
        """
        self.mesh_context.check_weight(name, letters, shape)
        spec = self.mesh_context.rules.spec(weight_axes(letters))
        noise = jax.random.normal(
            self.rngs.params(), shape, jnp.dtype(self.options.param_dtype), out_sharding=spec
        )
        return nnx.Param(noise * scale, out_sharding=spec)

    def constant(self, name: str, letters: str, shape: tuple[int, ...], value: float) -> nnx.Param:
        """A parameter that starts at one value, placed by the rules."""
        self.mesh_context.check_weight(name, letters, shape)
        spec = self.mesh_context.rules.spec(weight_axes(letters))
        dtype = jnp.dtype(self.options.param_dtype)
        return nnx.Param(jnp.full(shape, value, dtype, out_sharding=spec), out_sharding=spec)


class Projection(nnx.Module):
    """y = einsum(equation, x, kernel) + bias, the sum in float32, the result in x's dtype.

    With `lora` set, its low-rank update is added before the result is rounded. The letters of the
    equation name the logical axes, hence the sharding, of kernel and result.
    """

    def __init__(self, build: ModuleContext, name: str, equation: str, *, bias: bool) -> None:
        inputs, self._out = equation.split("->")
        self._kernel_letters = inputs.split(",")[1]
        self.equation = equation
        self._rules = build.mesh_context.rules
        config = build.config
        sizes = {
            "d": config.embed_dim,
            "n": config.num_heads,
            "k": config.num_kv_heads,
            "h": config.head_dim,
            "f": config.mlp_dim,
        }
        shape = tuple(sizes[letter] for letter in self._kernel_letters)
        fan_in = 1
        for letter in self._kernel_letters:
            fan_in *= 1 if letter in self._out else sizes[letter]
        layers = config.num_layers
        self.kernel = build.weight(
            f"{name}.kernel", "y" + self._kernel_letters, (layers, *shape), fan_in**-0.5
        )
        self._bias_letters = "".join(c for c in self._kernel_letters if c in self._out)
        bias_shape = tuple(sizes[letter] for letter in self._bias_letters)
        self.bias = (
            build.constant(f"{name}.bias", "y" + self._bias_letters, (layers, *bias_shape), 0.0)
            if bias
            else None
        )
        self.lora: LowRank | None = None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies one layer's kernel; FSDP shards of it are gathered first."""
        spec = self._rules.spec
        y = einsum_fp32_accum(
            self.equation,
            x,
            self.kernel[...],
            gathered=spec(activation_axes(self._kernel_letters)),
            out=spec(activation_axes(self._out)),
        )
        if self.bias is not None:
            bias = self.bias[...].astype(jnp.float32)
            y = y + jax.reshard(bias, spec(activation_axes(self._bias_letters)))
        if self.lora is not None:
            y = y + self.lora(x)
        return y.astype(x.dtype)


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32 (arXiv:1910.07467)."""

    def __init__(
        self, build: ModuleContext, name: str, letters: str, *, stacked: bool = True
    ) -> None:
        config = build.config
        size = {"d": config.embed_dim, "h": config.head_dim}[letters]
        shape = (config.num_layers, size) if stacked else (size,)
        self.scale = build.constant(f"{name}.scale", ("y" if stacked else "") + letters, shape, 1.0)
        self._letters = letters
        self._eps = config.norm_eps
        self._rules = build.mesh_context.rules

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes in float32 and returns x's dtype."""
        scale = jax.reshard(
            self.scale[...].astype(jnp.float32),
            self._rules.spec(activation_axes(self._letters)),
        )
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self._eps)
        return (y * scale).astype(x.dtype)


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions, optional biases and QK-norm."""

    def __init__(self, build: ModuleContext) -> None:
        config = build.config
        bias = config.qkv_bias
        self.q = Projection(build, "attention.q", "bld,dnh->blnh", bias=bias)
        self.k = Projection(build, "attention.k", "bld,dkh->blkh", bias=bias)
        self.v = Projection(build, "attention.v", "bld,dkh->blkh", bias=bias)
        self.o = Projection(build, "attention.o", "blnh,nhd->bld", bias=config.out_bias)
        self.q_norm = RMSNorm(build, "attention.q_norm", "h") if config.qk_norm else None
        self.k_norm = RMSNorm(build, "attention.k_norm", "h") if config.qk_norm else None
        self._options = build.options
        self._rules: ShardingRules = build.mesh_context.rules

    def project(
        self, x: Float[Array, "B L D"], rotary: tuple[jax.Array, jax.Array]
    ) -> tuple[Float[Array, "B L N H"], Float[Array, "B L K H"], Float[Array, "B L K H"]]:
        """Rotated queries and keys, and values."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        return checkpoint_name(q, "qkv"), checkpoint_name(k, "qkv"), checkpoint_name(v, "qkv")

    def __call__(
        self,
        x: Float[Array, "B L D"],
        rotary: tuple[jax.Array, jax.Array],
        window: Window,
        segment_ids: Int[Array, "B L"] | None,
        *,
        shared_prefix: bool = False,
    ) -> tuple[Float[Array, "B L D"], LayerCache]:
        """Whole sequences; also returns keys and values as a cache holds them."""
        q, k, v = self.project(x, rotary)
        out = causal_attention(
            q,
            k,
            v,
            backend=self._options.attention,
            window=window,
            segment_ids=segment_ids,
            block=self._options.attention_block,
            by_row=self._options.attention_by_row,
            rules=self._rules,
            shared_prefix=shared_prefix,
        )
        return self.o(out), as_cache(k, v)

    def decode(
        self,
        x: Float[Array, "P G D"],
        rotary: tuple[jax.Array, jax.Array],
        window: Window,
        positions: Int[Array, "P G"],
        prefix: LayerCache,
        prefix_lengths: Int[Array, " P"],
        suffix: LayerCache,
        starts: Int[Array, " P"],
        slot: Int[Array, ""],
    ) -> tuple[Float[Array, "P G D"], LayerCache]:
        """One new token for each of G thoughts of P prompts; returns the grown suffix.

        The G thoughts stand where a sequence's positions usually do, so that one matrix product
        reads the shared prefix for all of them.
        """
        q, k, v = self.project(x, rotary)
        spec = self._rules.spec

        def local(q, k, v, prefix, prefix_lengths, suffix, starts, slot, positions, window):
            suffix = write_slot(suffix, k, v, slot)
            prompts, thoughts, heads, head_dim = q.shape
            seen = prefix_seen(prefix_lengths, prefix.keys.shape[2], positions, window)
            shared = attend_cache(q, prefix[0], prefix[1], seen)
            rows = prompts * thoughts
            own_seen = suffix_seen(starts, suffix.keys.shape[3], slot, window)
            own_seen = jnp.broadcast_to(own_seen, (prompts, thoughts, own_seen.shape[-1]))
            own_k, own_v = (cache.reshape(rows, *cache.shape[2:]) for cache in suffix)
            own_out, own_log = attend_cache(
                q.reshape(rows, 1, heads, head_dim), own_k, own_v, own_seen.reshape(rows, 1, -1)
            )
            own = own_out.reshape(q.shape), own_log.reshape(q.shape[:3])
            return merge_attention(shared, own).astype(q.dtype), suffix

        q_spec = spec(activation_axes("pgnh"))
        new_spec = spec(activation_axes("pgkh"))
        prefix_spec = LayerCache._make(
            spec(activation_axes(letters)) for letters in ("pksh", "pkhs")
        )
        suffix_spec = LayerCache._make(
            spec(activation_axes(letters)) for letters in ("pgksh", "pgkhs")
        )
        row_spec = spec(activation_axes("p"))
        out, suffix = jax.shard_map(
            local,
            in_specs=(
                *(q_spec, new_spec, new_spec, prefix_spec, row_spec),
                *(suffix_spec, row_spec, jax.P(), spec(activation_axes("pg")), jax.P()),
            ),
            out_specs=(q_spec, suffix_spec),
            check_vma=False,
        )(q, k, v, prefix, prefix_lengths, suffix, starts, slot, positions, jnp.asarray(window))
        return self.o(out), suffix


class FeedForward(nnx.Module):
    """down(silu(gate(x)) * up(x)) (SwiGLU, arXiv:2002.05202)."""

    def __init__(self, build: ModuleContext) -> None:
        bias = build.config.mlp_bias
        self.gate = Projection(build, "mlp.gate", "bld,df->blf", bias=bias)
        self.up = Projection(build, "mlp.up", "bld,df->blf", bias=bias)
        self.down = Projection(build, "mlp.down", "blf,fd->bld", bias=bias)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Applies the feed-forward network to every position."""
        gate = checkpoint_name(self.gate(x), "mlp_up")
        up = checkpoint_name(self.up(x), "mlp_up")
        # In float32 within one fused loop: no device computes exponentials in bf16 any faster.
        gated = jax.nn.silu(gate.astype(jnp.float32)) * up.astype(jnp.float32)
        return self.down(gated.astype(x.dtype))


class Block(nnx.Module):
    """Pre-norm attention and feed-forward, each added to the residual stream."""

    def __init__(self, build: ModuleContext) -> None:
        self.attention_norm = RMSNorm(build, "attention_norm", "d")
        self.attention = Attention(build)
        self.mlp_norm = RMSNorm(build, "mlp_norm", "d")
        self.mlp = FeedForward(build)
