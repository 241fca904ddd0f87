"""Rotary position embedding (arXiv:2104.09864) and its long-context variants."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from t1_jax.model.config import RopeConfig


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> Float[np.ndarray, " half"]:
    """Radians per position for each pair of dimensions, after the scaling of `rope.kind`.

    The base series is theta^(-2i/H), i = 0 .. H/2 - 1. Computed in float64 on the host.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    frequencies = rope.theta**-exponents
    if rope.kind == "linear":
        frequencies = frequencies / rope.factor
    elif rope.kind == "llama3":
        frequencies = _llama3(frequencies, rope)
    elif rope.kind == "yarn":
        frequencies = _yarn(frequencies, rope, head_dim)
    return frequencies.astype(np.float32)


def _llama3(frequencies: np.ndarray, rope: RopeConfig) -> np.ndarray:
    """Llama 3.1: divides long wavelengths by `factor`, keeps short ones, blends in between."""
    rotations = rope.original_max_positions * frequencies / (2 * math.pi)
    kept = (rotations - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    kept = np.clip(kept, 0.0, 1.0)
    return kept * frequencies + (1 - kept) * frequencies / rope.factor


def _yarn(frequencies: np.ndarray, rope: RopeConfig, head_dim: int) -> np.ndarray:
    """YaRN's NTK-by-parts interpolation (arXiv:2309.00071, section 3.2)."""

    def dimension_of(rotations: float) -> float:
        """The pair that turns `rotations` times over the original context."""
        context = rope.original_max_positions
        return head_dim * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension_of(rope.beta_fast), dimension_of(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    ramp = (np.arange(head_dim // 2) - low) / max(high - low, 1e-3)
    interpolated = np.clip(ramp, 0.0, 1.0)
    return interpolated * frequencies / rope.factor + (1 - interpolated) * frequencies


def rotary_tables(
    rope: RopeConfig, head_dim: int, positions: Int[Array, "B L"]
) -> tuple[Float[Array, "B L half"], Float[Array, "B L half"]]:
    """Cosines and sines for these positions, in float32: bf16 rounds position 257 to 256."""
    angles = positions[..., None].astype(jnp.float32) * inverse_frequencies(rope, head_dim)
    return rope.attention_factor * jnp.cos(angles), rope.attention_factor * jnp.sin(angles)


def rotate(
    x: Float[Array, "B L heads H"],
    cos: Float[Array, "B L half"],
    sin: Float[Array, "B L half"],
) -> Float[Array, "B L heads H"]:
    """Rotates the pairs (x_i, x_{i+H/2}), Hugging Face's layout; keeps the dtype of `x`."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
