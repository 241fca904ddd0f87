"""`t1.json`: what a T1 checkpoint says about itself that no Hugging Face file has room for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from t1_jax.errors import WeightsError
from t1_jax.hub.json_files import read_json

T1_FILE = "t1.json"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class T1Metadata:
    """The contents of `t1.json`.

    Attributes:
        emb_token_id: id of `<emb_token>`.
        emb_token_mode: how it got its row: `append`, `unused`, `spare` or `existing`.
        stored_dtype: of every tensor in the folder.
        prompt: the prompt preset the checkpoint was made with: its name, version, hash and words.
        base_model: name of what it was made from.
        base_fingerprint: of that checkpoint's files.
    """

    emb_token_id: int
    emb_token_mode: str
    stored_dtype: str
    prompt: Mapping[str, Any]
    base_model: str
    base_fingerprint: str

    def to_fields(self) -> dict[str, Any]:
        """The JSON object."""
        return {"format": _FORMAT, **asdict(self)}


def read_metadata(folder: Path) -> T1Metadata | None:
    """The metadata of a T1 folder; None where there is no `t1.json`.

    Raises:
        WeightsError: the file is damaged, or written by a newer version of this package.
    """
    path = folder / T1_FILE
    if not path.exists():
        return None
    fields = read_json(path)
    if fields.pop("format", None) != _FORMAT:
        raise WeightsError(
            f"{path} is not of format {_FORMAT}", mend="read it with a newer version of t1_jax"
        )
    try:
        return T1Metadata(**fields)
    except TypeError as error:
        raise WeightsError(f"{path} is damaged: {error}", mend="export the model again") from error
