"""`t1.json`: metadata of a T1 checkpoint or adapter."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from t1_jax.errors import WeightsError
from t1_jax.files import write_atomically
from t1_jax.hub.json_files import read_json, short_repr, to_json

T1_FILE = "t1.json"
_FORMAT = 1
_ADAPTER_FORMAT = 2
_ADAPTER = "adapter"


@dataclass(frozen=True, kw_only=True)
class T1Metadata:
    """The content of a checkpoint's `t1.json`.

    Attributes:
        emb_token_id: id of `<emb_token>`.
        emb_token_mode: origin of its row: `append`, `unused`, `spare` or `existing`.
        stored_dtype: dtype of all tensors in the folder.
        prompt: prompt preset: name, version, hash and templates.
        base_model: name of the base model.
        base_fingerprint: fingerprint of the base model's files.
        trained_on: names of the data on which it was trained to retrieve; empty without such
            training, None if unknown.
        card: license, training and results, as its card says them; may be empty.
    """

    emb_token_id: int
    emb_token_mode: str
    stored_dtype: str
    prompt: Mapping[str, Any]
    base_model: str
    base_fingerprint: str
    trained_on: Sequence[str] | None = None
    card: Mapping[str, str] = field(default_factory=dict)

    def to_fields(self) -> dict[str, Any]:
        """The JSON object."""
        return {"format": _FORMAT, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class AdapterMetadata:
    """The content of an adapter's `t1.json`.

    Attributes:
        emb_token_id: id of `<emb_token>`.
        emb_token_mode: mode in which the base model's tokenizer gets it; see `add_emb_token`.
        tokenizer: `tokenizer_hash` of the tokenizer with `<emb_token>`.
        prompt: prompt preset: name, version, hash and templates.
        base_model: name of the base model.
        base_fingerprint: fingerprint of the base model's files.
        scores: measured scores by name; may be empty.
        trained_on: names of the data on which it was trained; None if unknown.
        card: license, training and results, as its card says them; may be empty.
    """

    emb_token_id: int
    emb_token_mode: str
    tokenizer: str
    prompt: Mapping[str, Any]
    base_model: str
    base_fingerprint: str
    scores: Mapping[str, Any] = field(default_factory=dict)
    trained_on: Sequence[str] | None = None
    card: Mapping[str, str] = field(default_factory=dict)

    def to_fields(self) -> dict[str, Any]:
        """The JSON object."""
        return {"format": _ADAPTER_FORMAT, "kind": _ADAPTER, **asdict(self)}


_Metadata = TypeVar("_Metadata", T1Metadata, AdapterMetadata)


def write_metadata(folder: Path, metadata: AdapterMetadata) -> None:
    """Replaces the `t1.json` of an adapter."""
    write_atomically(folder / T1_FILE, to_json(metadata.to_fields()))


def read_metadata(folder: Path) -> T1Metadata | None:
    """The metadata of a folder, or None if there is no `t1.json`.

    Raises:
        WeightsError: the file is damaged, or of a newer format.
    """
    path = folder / T1_FILE
    if not path.exists() and not path.is_symlink():
        return None
    fields = read_json(path)
    if fields.pop("format", None) != _FORMAT:
        raise WeightsError(
            f"{path} has another format than {_FORMAT}",
            hint="read it with a newer version of t1_jax",
        )
    return _built(T1Metadata, path, fields)


def read_adapter_metadata(folder: Path) -> AdapterMetadata:
    """The metadata of an adapter.

    Raises:
        WeightsError: the file is missing, damaged or of another format.
    """
    path = folder / T1_FILE
    if not path.exists():
        raise WeightsError(
            f"{folder} is a LoRA adapter without {T1_FILE}, so it was not written by t1_jax",
            hint="merge it into its base model with peft's merge_and_unload and import the result",
        )
    fields = read_json(path)
    file_format = (fields.pop("format", None), fields.pop("kind", None))
    if file_format == (1, _ADAPTER):
        convert = """sed -i 's/"tokeniser"/"tokenizer"/; s/"format": 1/"format": 2/'"""
        raise WeightsError(
            f"{path} has adapter format 1, in which the field tokenizer has another name",
            hint=f"convert it: {convert} {shlex.quote(str(path))}",
        )
    if file_format != (_ADAPTER_FORMAT, _ADAPTER):
        raise WeightsError(
            f"{path} is not the metadata of an adapter in format {_ADAPTER_FORMAT}",
            hint="read it with a newer version of t1_jax",
        )
    return _built(AdapterMetadata, path, fields)


def _built(cls: type[_Metadata], path: Path, fields: Mapping[str, Any]) -> _Metadata:
    """The metadata, with checked types; most fields are strings."""
    types = {
        "emb_token_id": int,
        "prompt": Mapping,
        "scores": Mapping,
        "trained_on": list | None,
        "card": Mapping,
    }
    for name, value in fields.items():
        if isinstance(value, bool) or not isinstance(value, types.get(name, str)):
            raise WeightsError(
                f"{path} is damaged: {name} = {short_repr(value)}", hint="export it again"
            )
    try:
        return cls(**fields)
    except TypeError as error:
        raise WeightsError(f"{path} is damaged: {error}", hint="export it again") from error
