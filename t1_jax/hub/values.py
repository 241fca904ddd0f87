"""Values from files: of the right type and within bounds, or an error that names the field."""

import math
import reprlib
from collections.abc import Mapping

from t1_jax.errors import ConfigError

MAX_SIZE = 2**31 - 1
"""Positions, token ids and array dimensions are int32."""


def whole_number(name: str, value: object, *, least: int = 1, most: int = MAX_SIZE) -> int:
    """`value` as an integer from `least` to `most`.

    Raises:
        ConfigError: it is of another type, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(
            f"{name} must be a whole number from {least} to {most}, got {shown(value)}"
        )
    return value


def real_number(name: str, value: object, *, positive: bool = True) -> float:
    """`value` as a finite float, above 0 if `positive`.

    Raises:
        ConfigError: it is of another type, infinite, NaN, or out of bounds.
    """
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        number = float(value)
    if not math.isfinite(number) or (positive and number <= 0):
        kind = "positive finite number" if positive else "finite number"
        raise ConfigError(f"{name} must be a {kind}, got {shown(value)}")
    return number


def flag(name: str, value: object) -> bool:
    """`value` as a truth value.

    Raises:
        ConfigError: it is of another type.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {shown(value)}")
    return value


def text_mapping(name: str, value: object) -> Mapping[str, object]:
    """`value` as a JSON object.

    Raises:
        ConfigError: it is of another type.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be an object, got {shown(value)}")
    return value


def shown(value: object) -> str:
    """`repr` for an error message: a long or deeply nested value is abbreviated."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = 80
    return brief.repr(value)
