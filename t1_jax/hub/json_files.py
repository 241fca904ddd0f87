"""JSON objects from files, with the file and line of a fault."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t1_jax.errors import WeightsError
from t1_jax.files import read_text

_MAX_DEPTH = 100
_DOWNLOAD_AGAIN = "download the file again"


def check_link(path: Path) -> None:
    """Refuses a link to a file that is gone, which would otherwise look like no file at all.

    Raises:
        WeightsError: `path` is such a link.
    """
    if path.is_symlink() and not path.exists():
        raise WeightsError(
            f"{path} is a broken link: {path.readlink()} is not there",
            hint="fetch the model again: a cache that was moved or pruned leaves such links",
        )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        WeightsError: the file is missing, a broken link, or cannot be read, is not JSON (with the
            line), not an object, nested deeper than 100 levels, or holds text that is not valid
            Unicode.
    """
    check_link(path)
    try:
        text = read_text(path)
        content = json.loads(text)
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path} is missing", hint="give the folder of a whole checkpoint"
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
        raise WeightsError(f"{path} holds {type(content).__name__}, expected an object")
    if _is_deep(content):
        raise _too_deep(path)
    if "\\ud" in text.lower() and not _is_unicode(content):
        raise WeightsError(
            f"{path} holds a lone surrogate, which is not valid Unicode", hint=_DOWNLOAD_AGAIN
        )
    return content


def read_json_if_there(path: Path) -> dict[str, Any]:
    """Like `read_json`, but an empty object where there is no such file."""
    return read_json(path) if path.exists() or path.is_symlink() else {}


def _too_deep(path: Path) -> WeightsError:
    return WeightsError(f"{path} is nested too deeply", hint=_DOWNLOAD_AGAIN)


def _is_deep(content: object) -> bool:
    """Whether lists and objects are nested deeper than every step after this one can follow."""
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
    """Readable JSON, one field a line, in the order given."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
