"""The trainable modules of LoRA: low-rank factors of a kernel, and a delta of one token's row."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from t1_jax.errors import ConfigError
from t1_jax.model.einsum import einsum_fp32_accum
from t1_jax.parallel import ShardingRules, activation_axes, weight_axes

LORA_TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
"""The projections of a block that can have factors, in the order of the forward pass."""


class LoraParam(nnx.Param):
    """A parameter of an adapter. It is also an `nnx.Param`, so filter for this type first."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Which low-rank updates a decoder gets (arXiv:2106.09685).

    Attributes:
        rank: R, columns of A and rows of B.
        alpha: the update is scaled by alpha / rank.
        targets: projections that get one, of `LORA_TARGETS`.
        emb_row: also train the row of `<emb_token>` in the embedding table and, where it is
            untied, in the head, as the token has no pre-trained row.
        rslora: scale by alpha / sqrt(rank) instead, which keeps large ranks stable
            (arXiv:2312.03732).
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = LORA_TARGETS
    emb_row: bool = True
    rslora: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError(
                f"rank and alpha of LoRA must be positive, got {self.rank} and {self.alpha}"
            )
        unknown = [name for name in self.targets if name not in LORA_TARGETS]
        if unknown or len(set(self.targets)) != len(self.targets) or not self.targets:
            raise ConfigError(
                f"targets of LoRA must be some of {', '.join(LORA_TARGETS)}, each once; got "
                f"{', '.join(self.targets) or 'none'}"
            )

    @property
    def scale(self) -> float:
        """The factor of A B."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


class LoraDelta(nnx.Module):
    """(scale * x A) B beside a projection x W; A [Y in... R] and B [Y R out...] are float32.

    B starts at 0, so a new adapter changes nothing. The scale is applied to the R columns of x A:
    scaling the result would write a copy of its gradient, which is many times as large.
    """

    def __init__(
        self,
        equation: str,
        kernel_shape: tuple[int, ...],
        config: LoraConfig,
        rules: ShardingRules,
        rngs: nnx.Rngs,
    ) -> None:
        """Builds the factors, A from `rngs`; call it inside `mesh_context.activate()`.

        The equation is that of the projection, the shape that of its stacked kernel, layers first.
        """
        inputs, self._out = equation.split("->")
        self._x, kernel_letters = inputs.split(",")
        into = "".join(letter for letter in kernel_letters if letter not in self._out)
        # All kernels have their contracted letters first.
        self._a = f"{into}r"
        self._b = f"r{kernel_letters.removeprefix(into)}"
        self._rules = rules
        self.scale = config.scale
        layers, *shape = kernel_shape
        sizes_in, sizes_out = shape[: len(into)], shape[len(into) :]
        a_spec, b_spec = (rules.spec(weight_axes(f"y{letters}")) for letters in (self._a, self._b))
        a = jax.random.normal(
            rngs.params(), (layers, *sizes_in, config.rank), jnp.float32, out_sharding=a_spec
        )
        b = jnp.zeros((layers, config.rank, *sizes_out), jnp.float32, out_sharding=b_spec)
        self.a = LoraParam(a * math.prod(sizes_in) ** -0.5, out_sharding=a_spec)
        self.b = LoraParam(b, out_sharding=b_spec)

    def __call__(self, x: jax.Array, product_dtype: jnp.dtype) -> jax.Array:
        """One layer's update, of products in x's dtype that return `product_dtype`."""
        spec = self._rules.spec
        low_rank_letters = "".join(letter for letter in self._x if letter not in self._a) + "r"
        x_r = einsum_fp32_accum(
            f"{self._x},{self._a}->{low_rank_letters}",
            x,
            self.a[...],
            result=product_dtype,
            gathered=spec(activation_axes(self._a)),
            out=spec(activation_axes(low_rank_letters)),
        )
        return einsum_fp32_accum(
            f"{low_rank_letters},{self._b}->{self._out}",
            (x_r * self.scale).astype(x_r.dtype),
            self.b[...],
            dtype=x.dtype,
            result=product_dtype,
            gathered=spec(activation_axes(self._b)),
            out=spec(activation_axes(self._out)),
        )

    def merged(self, kernel: jax.Array) -> jax.Array:
        """The stacked kernel W + scale * A B, summed in float32, in W's dtype."""
        letters = self._a[:-1] + self._b[1:]
        update = jnp.einsum(
            f"y{self._a},y{self._b}->y{letters}",
            self.a[...],
            self.b[...],
            precision=jax.lax.Precision.HIGHEST,
            out_sharding=self._rules.spec(weight_axes(f"y{letters}")),
        )
        return (kernel.astype(jnp.float32) + self.scale * update).astype(kernel.dtype)


class TokenEmbeddingDelta(nnx.Module):
    """A float32 vector, initially 0, that is added to one token's row."""

    def __init__(self, embed_dim: int, token_id: int, rules: ShardingRules) -> None:
        """Builds the vector; call it inside `mesh_context.activate()`."""
        spec = rules.spec(weight_axes("d"))
        self.delta = LoraParam(
            jnp.zeros((embed_dim,), jnp.float32, out_sharding=spec), out_sharding=spec
        )
        self._rules = rules
        self.token_id = token_id

    def add_to_embeddings(
        self, rows: Float[Array, "B L D"], tokens: Int[Array, "B L"]
    ) -> Float[Array, "B L D"]:
        """Adds the delta to the embeddings of the token; float32."""
        delta = jax.reshard(self.delta[...], self._rules.spec(activation_axes("d")))
        return rows.astype(jnp.float32) + (tokens == self.token_id)[..., None] * delta

    def add_to_logits(
        self, logits: Float[Array, "B L V"], x: Float[Array, "B L D"]
    ) -> Float[Array, "B L V"]:
        """Adds the delta's part to the float32 logit of the token."""
        spec = self._rules.spec
        delta_logit = einsum_fp32_accum(
            "bld,d->bl",
            x,
            self.delta[...],
            gathered=spec(activation_axes("d")),
            out=spec(activation_axes("bl")),
        )
        # Logits may be sharded over the vocabulary instead of the rows.
        rows, length, vocab = jax.typeof(logits).sharding.spec
        delta_logit = jax.reshard(delta_logit, jax.P(rows, length))
        is_token = jnp.arange(logits.shape[-1]) == self.token_id
        is_token = jax.reshard(is_token, jax.P(vocab))
        return logits + jnp.where(is_token, delta_logit[..., None], 0)

    def merged(self, table: jax.Array, axis: int) -> jax.Array:
        """The table [V D] (axis 0) or kernel [D V] (axis 1) with the delta in the token's row."""
        letters = "vd" if axis == 0 else "dv"
        spec = self._rules.spec(weight_axes(letters))
        is_token = jnp.expand_dims(jnp.arange(table.shape[axis]) == self.token_id, 1 - axis)
        delta = jnp.expand_dims(jax.reshard(self.delta[...], jax.P(spec[1 - axis])), axis)
        return jnp.where(
            jax.reshard(is_token, jax.P(*(spec[i] if i == axis else None for i in range(2)))),
            (table.astype(jnp.float32) + delta).astype(table.dtype),
            table,
        )
