"""Rotary position embedding (arXiv:2104.09864) and its long-context variants."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from t1_jax.model.config import RopeConfig

RotaryTables = tuple[Float[Array, "B L half"], Float[Array, "B L half"]]
"""Cosines and sines of the rotation angles of each position, float32."""


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> Float[np.ndarray, " half"]:
    """Radians per position for each pair of dimensions, after the scaling of `rope.kind`.

    The base series is theta^(-2i/H), i = 0 .. H/2 - 1. Every step is rounded to float32 in the
    order of transformers' `modeling_rope_utils`, because checkpoints are trained with these
    frequencies: exact ones are up to 1e-7 off (relative), 1e-3 radians at position 8,192. Powers
    are taken in float64 and rounded once, which is what PyTorch's float32 power returns (NumPy's
    differs in the last bit).
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    powers = np.float64(np.float32(rope.theta)) ** exponents.astype(np.float64)
    wavelengths = powers.astype(np.float32)
    if rope.kind == "yarn":
        return _yarn(wavelengths, rope, head_dim)
    frequencies = np.float32(1) / wavelengths
    if rope.kind == "linear":
        return frequencies / np.float32(rope.factor)
    if rope.kind == "llama3":
        return _llama3(frequencies, rope)
    # `dynamic` changes the base only beyond the config's context, which no text here exceeds.
    return frequencies


def _llama3(frequencies: np.ndarray, rope: RopeConfig) -> np.ndarray:
    """Llama 3.1: divides long wavelengths by `factor`, keeps short ones, blends in between."""
    one, factor = np.float32(1), np.float32(rope.factor)
    context, low = np.float32(rope.original_max_positions), np.float32(rope.low_freq_factor)
    spread = np.float32(rope.high_freq_factor - rope.low_freq_factor)
    # PyTorch divides a number by a tensor as the number times the tensor's reciprocal.
    wavelengths = one / frequencies * np.float32(2 * math.pi)
    smooth = (one / wavelengths * context - low) / spread
    blended = (one - smooth) * frequencies / factor + smooth * frequencies
    is_long = wavelengths > np.float32(rope.original_max_positions / rope.low_freq_factor)
    is_short = wavelengths < np.float32(rope.original_max_positions / rope.high_freq_factor)
    return np.where(is_long, frequencies / factor, np.where(is_short, frequencies, blended))


def _yarn(wavelengths: np.ndarray, rope: RopeConfig, head_dim: int) -> np.ndarray:
    """YaRN's NTK-by-parts interpolation (arXiv:2309.00071, section 3.2)."""

    def dimension_of(rotations: float) -> float:
        """The pair that turns `rotations` times over the original context."""
        context = rope.original_max_positions
        return head_dim * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension_of(rope.beta_fast), dimension_of(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    one, width = np.float32(1), np.float32(high - low if high != low else 1e-3)
    ramp = (np.arange(head_dim // 2, dtype=np.float32) - np.float32(low)) / width
    kept = one - np.clip(ramp, np.float32(0), one)
    interpolated = one / (np.float32(rope.factor) * wavelengths)
    return interpolated * (one - kept) + one / wavelengths * kept


def rotary_tables(rope: RopeConfig, head_dim: int, positions: Int[Array, "B L"]) -> RotaryTables:
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
