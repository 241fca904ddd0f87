"""JSON objects from files, with the file and line of a fault."""

import json
from pathlib import Path
from typing import Any

from t1_jax.errors import WeightsError


def check_link(path: Path) -> None:
    """Refuses a link to a file that is gone, which would otherwise look like no file at all.

    Raises:
        WeightsError: `path` is such a link.
    """
    if path.is_symlink() and not path.exists():
        raise WeightsError(
            f"{path} is a broken link: {path.readlink()} is not there",
            mend="fetch the model again: a cache that was moved or pruned leaves such links",
        )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        WeightsError: the file is missing, a broken link, not JSON (with the line), or not an
            object.
    """
    check_link(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path} is missing", mend="give the folder of a whole checkpoint"
        ) from error
    except json.JSONDecodeError as error:
        raise WeightsError(
            f"{path}, line {error.lineno}: not JSON: {error.msg}", mend="download the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} is not UTF-8 text", mend="download the file again") from error
    except (RecursionError, ValueError) as error:  # too deep, or a number of too many digits
        raise WeightsError(
            f"{path} is no JSON that can be read: {type(error).__name__}",
            mend="download the file again",
        ) from error
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror}", mend="check what it is and its permissions"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds {type(content).__name__}, expected an object")
    return content


def read_json_if_there(path: Path) -> dict[str, Any]:
    """Like `read_json`, but an empty object where there is no such file."""
    return read_json(path) if path.exists() or path.is_symlink() else {}


def to_json(content: object) -> str:
    """Readable JSON, one field a line, in the order given."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
