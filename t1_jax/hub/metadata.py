"""`t1.json`: what a T1 checkpoint or adapter says about itself that no other file has room for."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from t1_jax.errors import WeightsError
from t1_jax.files import write_atomically
from t1_jax.hub.json_files import read_json, to_json
from t1_jax.hub.values import shown

T1_FILE = "t1.json"
_FORMAT = 1
_ADAPTER_FORMAT = 2
_ADAPTER = "adapter"


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


@dataclass(frozen=True, kw_only=True)
class AdapterMetadata:
    """The contents of an adapter's `t1.json`.

    Attributes:
        emb_token_id: id of `<emb_token>`.
        emb_token_mode: how the base model's tokenizer gets it; see `add_emb_token`.
        tokenizer: `tokenizer_hash` of the tokenizer with it.
        prompt: the prompt preset the adapter was trained with: its name, version, hash and words.
        base_model: name of the model it was trained on.
        base_fingerprint: of that model's files.
        scores: what was measured, by name; empty if nothing was.
    """

    emb_token_id: int
    emb_token_mode: str
    tokenizer: str
    prompt: Mapping[str, Any]
    base_model: str
    base_fingerprint: str
    scores: Mapping[str, Any] = field(default_factory=dict)

    def to_fields(self) -> dict[str, Any]:
        """The JSON object."""
        return {"format": _ADAPTER_FORMAT, "kind": _ADAPTER, **asdict(self)}


def write_metadata(folder: Path, metadata: AdapterMetadata) -> None:
    """Replaces the `t1.json` of an adapter."""
    write_atomically(folder / T1_FILE, to_json(metadata.to_fields()))


def read_metadata(folder: Path) -> T1Metadata | None:
    """The metadata of a T1 folder; None where there is no `t1.json`.

    Raises:
        WeightsError: the file is damaged, or written by a newer version of this package.
    """
    path = folder / T1_FILE
    if not path.exists() and not path.is_symlink():
        return None
    fields = read_json(path)
    if fields.pop("format", None) != _FORMAT:
        raise WeightsError(
            f"{path} is not of format {_FORMAT}", hint="read it with a newer version of t1_jax"
        )
    _check_types(path, fields)
    try:
        return T1Metadata(**fields)
    except TypeError as error:
        raise WeightsError(f"{path} is damaged: {error}", hint="export the model again") from error


def read_adapter_metadata(folder: Path) -> AdapterMetadata:
    """The metadata of an adapter of T1.

    Raises:
        WeightsError: the file is missing, damaged, or of another format.
    """
    path = folder / T1_FILE
    if not path.exists():
        raise WeightsError(
            f"{folder} is a LoRA adapter, but not one of T1: it has no {T1_FILE}",
            hint="merge it into its base model with peft's merge_and_unload and import the result",
        )
    fields = read_json(path)
    found = (fields.pop("format", None), fields.pop("kind", None))
    if found == (1, _ADAPTER):
        convert = """sed -i 's/"tokeniser"/"tokenizer"/; s/"format": 1/"format": 2/'"""
        raise WeightsError(
            f"{path} has adapter format 1, in which the field tokenizer had another name",
            hint=f"convert it: {convert} {shlex.quote(str(path))}",
        )
    if found != (_ADAPTER_FORMAT, _ADAPTER):
        raise WeightsError(
            f"{path} is not the metadata of an adapter of format {_ADAPTER_FORMAT}",
            hint="read it with a newer version of t1_jax",
        )
    _check_types(path, fields)
    try:
        return AdapterMetadata(**fields)
    except TypeError as error:
        raise WeightsError(f"{path} is damaged: {error}", hint="export it again") from error


def _check_types(path: Path, fields: Mapping[str, Any]) -> None:
    """Refuses a value of another type than was written; a text is most fields' type."""
    types = {"emb_token_id": int, "prompt": Mapping, "scores": Mapping}
    for name, value in fields.items():
        if isinstance(value, bool) or not isinstance(value, types.get(name, str)):
            raise WeightsError(
                f"{path} is damaged: {name} is {shown(value)}", hint="export it again"
            )
