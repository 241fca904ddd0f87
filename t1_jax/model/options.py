"""How a decoder is computed: choices that change speed and memory, never the function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from t1_jax.errors import ConfigError

ATTENTION_BACKENDS = ("xla", "cudnn", "splash")
DTYPES = ("float32", "bfloat16", "float16")

REMAT_POLICIES: dict[str, Callable[..., bool] | None] = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "projections": jax.checkpoint_policies.save_only_these_names("qkv", "mlp_up"),
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
"""Name -> what the backward pass may keep of a layer's forward pass.

`none` keeps everything, `full` only the layer's input, `projections` also q, k, v and the two
feed-forward activations, `dots` every matrix product with a weight.
"""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Precision, memory and back end of a decoder.

    Attributes:
        dtype: of activations and of weights in matrix products. Norms, softmax, logits and
            pooled vectors are float32 whatever it is.
        param_dtype: of the stored parameters.
        attention: `xla` (everywhere), `cudnn` (NVIDIA), `splash` (TPU).
        attention_block: query tokens per step of the `xla` back end: of a long row, scores of a few
            times block x length per head are in memory, whatever its length.
        attention_by_row: the `xla` back end attends to one row after the other. On a CPU a row's
            scores then stay in its caches, which is worth a factor of two to four; an accelerator
            would only idle.
        fp32_products: products with a weight return float32, and biases and low-rank updates are
            added before the one rounding to `dtype`. Otherwise a product returns `dtype`, which
            GPUs and TPUs round from a float32 sum inside the kernel: half the bytes are written,
            and a low-rank update is added to a rounded product.
        remat: name of a policy in `REMAT_POLICIES`.
        unroll_decode: decode over a Python loop of separate layers instead of a scan over stacked
            ones. XLA copies each layer's weights and caches out of the stack, on CPUs and GPUs,
            which costs more than the products of a small batch. It lengthens compiling.
    """

    dtype: str = "float32"
    param_dtype: str = "float32"
    attention: str = "xla"
    attention_block: int = 512
    attention_by_row: bool = False
    fp32_products: bool = True
    remat: str = "none"
    unroll_decode: bool = False

    def __post_init__(self) -> None:
        choices: list[tuple[str, str, Any]] = [
            ("dtype", self.dtype, DTYPES),
            ("param_dtype", self.param_dtype, DTYPES),
            ("attention", self.attention, ATTENTION_BACKENDS),
            ("remat", self.remat, REMAT_POLICIES),
        ]
        for name, value, known in choices:
            if value not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        if self.attention_block <= 0:
            raise ConfigError(f"attention_block must be positive, got {self.attention_block}")

    @classmethod
    def for_platform(cls, platform: str, *, dtype: str, attention: str = "xla") -> "ModelOptions":
        """What is fastest for inference on this kind of device: `cpu`, `gpu` or `tpu`."""
        if platform != "cpu":
            return cls(
                dtype=dtype,
                param_dtype=dtype,
                attention=attention,
                fp32_products=False,
                unroll_decode=platform == "gpu",
            )
        return cls(
            dtype=dtype,
            param_dtype=dtype,
            attention=attention,
            attention_block=128,
            attention_by_row=True,
            unroll_decode=True,
        )

    @property
    def compute_dtype(self) -> jnp.dtype:
        """`dtype` as JAX knows it."""
        return jnp.dtype(self.dtype)

    @property
    def product_dtype(self) -> jnp.dtype:
        """What products with a weight return."""
        return jnp.dtype(jnp.float32) if self.fp32_products else self.compute_dtype
