"""JSON files and their values: read and checked; errors name the file, line or field."""

import json
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t1_jax.errors import ConfigError, WeightsError
from t1_jax.files import read_text

MAX_SIZE = 2**31 - 1
"""Largest position, token id or array dimension: they are int32."""

_MAX_DEPTH = 100
_DOWNLOAD_AGAIN = "download the file again"


def check_link(path: Path) -> None:
    """Raises for a broken link, which would otherwise look like a missing file.

    Raises:
        WeightsError: `path` is a link to a missing file.
    """
    if path.is_symlink() and not path.exists():
        raise WeightsError(
            f"{path} is a broken link: {path.readlink()} is missing",
            hint="fetch the model again: links break when a cache is moved or pruned",
        )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        WeightsError: the file is missing, unreadable or a broken link; its content is not JSON
            (names the line), not an object, nested deeper than 100 levels, or not valid Unicode.
    """
    check_link(path)
    try:
        text = read_text(path)
        content = json.loads(text)
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path} is missing", hint="give the folder of a complete checkpoint"
        ) from error
    except json.JSONDecodeError as error:
        raise WeightsError(
            f"{path}, line {error.lineno}: not JSON: {error.msg}", hint=_DOWNLOAD_AGAIN
        ) from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} is not UTF-8 text", hint=_DOWNLOAD_AGAIN) from error
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="check the file and its permissions",
        ) from error
    except RecursionError as error:
        raise _too_deep(path) from error
    except ValueError as error:  # a number with thousands of digits
        raise WeightsError(f"{path} cannot be read: {error}", hint=_DOWNLOAD_AGAIN) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} contains {type(content).__name__}, expected an object")
    if _is_deep(content):
        raise _too_deep(path)
    if "\\ud" in text.lower() and not _is_unicode(content):
        raise WeightsError(
            f"{path} contains a lone surrogate, which is not valid Unicode", hint=_DOWNLOAD_AGAIN
        )
    return content


def read_optional_json(path: Path) -> dict[str, Any]:
    """`read_json`, or an empty object if the file does not exist."""
    return read_json(path) if path.exists() or path.is_symlink() else {}


def _too_deep(path: Path) -> WeightsError:
    return WeightsError(f"{path} is nested too deeply", hint=_DOWNLOAD_AGAIN)


def _is_deep(content: object) -> bool:
    """Whether lists and objects are nested deeper than `_MAX_DEPTH`."""
    level = [content]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, Mapping) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _is_unicode(content: object) -> bool:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def to_json(content: object) -> str:
    """Indented JSON, one field per line, in the given order."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def check_int(name: str, value: object, *, least: int = 1, most: int = MAX_SIZE) -> int:
    """`value` as an integer from `least` to `most`.

    Raises:
        ConfigError: another type, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(
            f"{name} must be an integer from {least} to {most}, got {short_repr(value)}"
        )
    return value


def check_float(name: str, value: object, *, positive: bool = True) -> float:
    """`value` as a finite float, above 0 if `positive`.

    Raises:
        ConfigError: another type, infinite, NaN, or out of bounds.
    """
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        number = float(value)
    if not math.isfinite(number) or (positive and number <= 0):
        kind = "positive finite number" if positive else "finite number"
        raise ConfigError(f"{name} must be a {kind}, got {short_repr(value)}")
    return number


def check_bool(name: str, value: object) -> bool:
    """`value` as a boolean.

    Raises:
        ConfigError: another type.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {short_repr(value)}")
    return value


def check_object(name: str, value: object) -> Mapping[str, object]:
    """`value` as a JSON object.

    Raises:
        ConfigError: another type.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be an object, got {short_repr(value)}")
    return value


def short_repr(value: object) -> str:
    """`repr` for error messages; long or deeply nested values are abbreviated."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = 80
    return brief.repr(value)
