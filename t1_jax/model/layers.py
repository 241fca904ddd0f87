"""The modules of a transformer block. Parameters of all layers are stacked on a leading axis Y."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from t1_jax.model.attention import causal_attention
from t1_jax.model.cache import (
    KVCache,
    PrefixCache,
    SuffixCache,
    as_cache,
    attend_caches,
    write_slot,
)
from t1_jax.model.config import DecoderConfig
from t1_jax.model.einsum import einsum_fp32_accum
from t1_jax.model.lora_modules import LoraDelta
from t1_jax.model.mask import AttentionMask, Window
from t1_jax.model.options import ModelOptions
from t1_jax.model.rotary import RotaryTables, rotate
from t1_jax.parallel import MeshContext, ShardingRules, activation_axes, weight_axes


@dataclass(frozen=True)
class ModuleContext:
    """What every module needs at construction; `rngs` is the source of initial values."""

    config: DecoderConfig
    options: ModelOptions
    mesh_context: MeshContext
    rngs: nnx.Rngs

    def weight(self, name: str, letters: str, shape: tuple[int, ...], scale: float) -> nnx.Param:
        """A normally distributed parameter with standard deviation `scale`, sharded by the rules.

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
        """A parameter initialized to one value, sharded by the rules."""
        self.mesh_context.check_weight(name, letters, shape)
        spec = self.mesh_context.rules.spec(weight_axes(letters))
        dtype = jnp.dtype(self.options.param_dtype)
        return nnx.Param(jnp.full(shape, value, dtype, out_sharding=spec), out_sharding=spec)


class Projection(nnx.Module):
    """y = einsum(equation, x, kernel) + bias, the sum in float32, the result in x's dtype.

    With `lora` set, the low-rank update is added before the result is rounded; see
    `ModelOptions.fp32_products`. The letters of the
    equation name the logical axes of kernel and result, and so their sharding.
    """

    def __init__(self, context: ModuleContext, name: str, equation: str, *, bias: bool) -> None:
        inputs, self._out = equation.split("->")
        self._kernel_letters = inputs.split(",")[1]
        self.equation = equation
        self._rules = context.mesh_context.rules
        self._product_dtype = context.options.product_dtype
        config = context.config
        sizes = {
            "d": config.embed_dim,
            "n": config.num_heads,
            "k": config.num_kv_heads,
            "h": config.head_dim,
            "f": config.mlp_dim,
        }
        shape = tuple(sizes[letter] for letter in self._kernel_letters)
        fan_in = math.prod(sizes[c] for c in self._kernel_letters if c not in self._out)
        layers = config.num_layers
        self.kernel = context.weight(
            f"{name}.kernel", "y" + self._kernel_letters, (layers, *shape), fan_in**-0.5
        )
        self._bias_letters = "".join(c for c in self._kernel_letters if c in self._out)
        bias_shape = tuple(sizes[letter] for letter in self._bias_letters)
        self.bias = (
            context.constant(f"{name}.bias", "y" + self._bias_letters, (layers, *bias_shape), 0.0)
            if bias
            else None
        )
        self.lora: LoraDelta | None = None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies one layer's kernel; FSDP shards of it are gathered first."""
        spec = self._rules.spec
        y = einsum_fp32_accum(
            self.equation,
            x,
            self.kernel[...],
            result=self._product_dtype,
            gathered=spec(activation_axes(self._kernel_letters)),
            out=spec(activation_axes(self._out)),
        )
        if self.bias is not None:
            bias = self.bias[...].astype(jnp.float32)
            y = y + jax.reshard(bias, spec(activation_axes(self._bias_letters)))
        if self.lora is not None:
            update = self.lora(x, self._product_dtype)
            y = y.astype(jnp.float32) + update.astype(jnp.float32)
        return y.astype(x.dtype)


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32 (arXiv:1910.07467)."""

    def __init__(
        self, context: ModuleContext, name: str, letters: str, *, stacked: bool = True
    ) -> None:
        config = context.config
        size = {"d": config.embed_dim, "h": config.head_dim}[letters]
        shape = (config.num_layers, size) if stacked else (size,)
        stacked_letters = "y" + letters if stacked else letters
        self.scale = context.constant(f"{name}.scale", stacked_letters, shape, 1.0)
        self._letters = letters
        self._eps = config.norm_eps
        self._rules = context.mesh_context.rules

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

    def __init__(self, context: ModuleContext) -> None:
        config = context.config
        bias = config.qkv_bias
        self.q = Projection(context, "attention.q", "bld,dnh->blnh", bias=bias)
        self.k = Projection(context, "attention.k", "bld,dkh->blkh", bias=bias)
        self.v = Projection(context, "attention.v", "bld,dkh->blkh", bias=bias)
        self.o = Projection(context, "attention.o", "blnh,nhd->bld", bias=config.out_bias)
        self.q_norm = RMSNorm(context, "attention.q_norm", "h") if config.qk_norm else None
        self.k_norm = RMSNorm(context, "attention.k_norm", "h") if config.qk_norm else None
        self._options = context.options
        self._rules: ShardingRules = context.mesh_context.rules

    def project(
        self, x: Float[Array, "B L D"], rotary: RotaryTables
    ) -> tuple[Float[Array, "B L N H"], Float[Array, "B L K H"], Float[Array, "B L K H"]]:
        """Rotated queries and keys, and values."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        return checkpoint_name(q, "qkv"), checkpoint_name(k, "qkv"), checkpoint_name(v, "qkv")

    def __call__(
        self, x: Float[Array, "B L D"], rotary: RotaryTables, mask: AttentionMask
    ) -> tuple[Float[Array, "B L D"], KVCache]:
        """Attention within whole sequences, and their keys and values in the cache's layout."""
        q, k, v = self.project(x, rotary)
        out = causal_attention(q, k, v, mask, options=self._options, rules=self._rules)
        return self.o(out), as_cache(k, v)

    def decode(
        self,
        x: Float[Array, "P G D"],
        rotary: RotaryTables,
        positions: Int[Array, "P G"],
        slot: Int[Array, "*P"],
        prefix: PrefixCache,
        suffix: SuffixCache,
        window: Window,
    ) -> tuple[Float[Array, "P G D"], KVCache]:
        """Attention of one new token per thought, and this layer's suffix cache with it written."""
        q, k, v = self.project(x, rotary)

        def local(q, k, v, positions, slot, prefix, suffix, window):  # the rows of one device
            written = write_slot(suffix.layers, k, v, slot)
            suffix = suffix._replace(layers=written)
            return attend_caches(q, positions, slot, prefix, suffix, window), written

        def spec(letters: str) -> jax.P:
            return self._rules.spec(activation_axes(letters))

        prefix_spec = KVCache._make((spec("pksh"), spec("pkhs")))
        suffix_spec = KVCache._make((spec("pgksh"), spec("pgkhs")))
        out, written = jax.shard_map(
            local,
            in_specs=(
                *(spec("pgnh"), spec("pgkh"), spec("pgkh"), spec("pg")),
                spec("p") if slot.ndim else jax.P(),
                *(PrefixCache._make((prefix_spec, spec("p"))),),
                *(SuffixCache._make((suffix_spec, spec("p"))), jax.P()),
            ),
            out_specs=(spec("pgnh"), suffix_spec),
            check_vma=False,
        )(q, k, v, positions, slot, prefix, suffix, jnp.asarray(window))
        return self.o(out), written


class FeedForward(nnx.Module):
    """down(silu(gate(x)) * up(x)) (SwiGLU, arXiv:2002.05202)."""

    def __init__(self, context: ModuleContext) -> None:
        bias = context.config.mlp_bias
        self.gate = Projection(context, "mlp.gate", "bld,df->blf", bias=bias)
        self.up = Projection(context, "mlp.up", "bld,df->blf", bias=bias)
        self.down = Projection(context, "mlp.down", "blf,fd->bld", bias=bias)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Applies the feed-forward network to every position."""
        gate = checkpoint_name(self.gate(x), "mlp_up")
        up = checkpoint_name(self.up(x), "mlp_up")
        # In float32 within one fused loop: no device computes exponentials in bf16 any faster.
        gated = jax.nn.silu(gate.astype(jnp.float32)) * up.astype(jnp.float32)
        return self.down(gated.astype(x.dtype))


class Block(nnx.Module):
    """A pre-norm transformer block: attention and feed-forward, each added to the residual stream.

    ```
    x = x + attention(attention_norm(x))
    x = x + mlp(mlp_norm(x))
    ```
    """

    def __init__(self, context: ModuleContext) -> None:
        self.attention_norm = RMSNorm(context, "attention_norm", "d")
        self.attention = Attention(context)
        self.mlp_norm = RMSNorm(context, "mlp_norm", "d")
        self.mlp = FeedForward(context)

    def __call__(
        self, x: Float[Array, "B L D"], rotary: RotaryTables, mask: AttentionMask
    ) -> tuple[Float[Array, "B L D"], KVCache]:
        """Whole sequences: the new residual stream, and keys and values in the cache's layout."""
        out, kv_cache = self.attention(self.attention_norm(x), rotary, mask)
        x = x + out
        return x + self.mlp(self.mlp_norm(x)), kv_cache

    def decode(
        self,
        x: Float[Array, "P G D"],
        rotary: RotaryTables,
        positions: Int[Array, "P G"],
        slot: Int[Array, "*P"],
        prefix: PrefixCache,
        suffix: SuffixCache,
        window: Window,
    ) -> tuple[Float[Array, "P G D"], KVCache]:
        """One new token per thought: the new residual stream, and the suffix cache with it written.

        Caches and window are this layer's, `rotary` is of `positions`; else as `Decoder.decode`.
        """
        out, kv_cache = self.attention.decode(
            self.attention_norm(x), rotary, positions, slot, prefix, suffix, window
        )
        x = x + out
        return x + self.mlp(self.mlp_norm(x)), kv_cache
