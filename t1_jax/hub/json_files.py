"""JSON objects from files, with the file and line of a fault."""

import json
from pathlib import Path
from typing import Any

from t1_jax.errors import WeightsError
from t1_jax.files import read_text


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        WeightsError: the file is missing, not JSON (with the line), or not an object.
    """
    try:
        content = json.loads(read_text(path))
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
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds {type(content).__name__}, expected an object")
    return content


def read_json_if_there(path: Path) -> dict[str, Any]:
    """Like `read_json`, but an empty object where there is no such file."""
    return read_json(path) if path.exists() else {}


def to_json(content: object) -> str:
    """Readable JSON, one field a line, in the order given."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
