"""Opens and checks a checkpoint: a Hugging Face folder, a T1 folder or a GGUF file."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from t1_jax.errors import T1Error, WeightsError
from t1_jax.files import sha256_of
from t1_jax.hub.gguf_config import decoder_config_from_gguf
from t1_jax.hub.gguf_file import read_gguf
from t1_jax.hub.gguf_source import GGUFSource
from t1_jax.hub.gguf_tokenizer import tokenizer_from_gguf
from t1_jax.hub.hf_config import decoder_config_from_hf, other_fields
from t1_jax.hub.json_files import check_link, read_json
from t1_jax.hub.metadata import T1Metadata, read_metadata
from t1_jax.hub.safetensors_source import SafetensorsSource
from t1_jax.hub.sources import TensorSource, as_causal_lm, stored_dtype
from t1_jax.hub.tokenizer import ModelTokenizer, tokenizer_from_folder
from t1_jax.model import DecoderConfig

_WHAT_IS_A_MODEL = "give a folder with config.json, tokenizer.json and safetensors, or a .gguf file"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose files have been checked; its weights are not read yet.

    Attributes:
        path: the folder or the GGUF file.
        config: config of the decoder, without changes.
        source: tensors.
        weight_files: files with the tensors.
        tokenizer: tokenizer, with or without `<emb_token>`.
        stored_dtype: name of the narrowest dtype that represents every tensor exactly.
        metadata: content of `t1.json`; None for a base model.
        other_fields: fields of `config.json` that do not affect the decoder; export keeps them.
    """

    path: Path
    config: DecoderConfig
    source: TensorSource
    weight_files: tuple[Path, ...]
    tokenizer: ModelTokenizer
    stored_dtype: str
    metadata: T1Metadata | None
    other_fields: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of config, tokenizer and weights; computed once."""
        if self.path.is_file():
            return sha256_of(self.path)
        others = (self.path / name for name in ("config.json", "tokenizer.json"))
        files = sorted([*others, *self.weight_files])
        lines = (f"{file.name} {sha256_of(file)}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_checkpoint(path: Path) -> Checkpoint:
    """Opens a Hugging Face folder, a T1 folder or a GGUF file.

    Raises:
        WeightsError: not a model, or files are missing, damaged or inconsistent.
        UnsupportedError: an unsupported architecture, config field or tokenizer; names it.
        ConfigError: a config field is missing or inconsistent.
    """
    path = _transformer_folder(Path(path))
    check_link(path)
    checkpoint = _open_folder(path) if path.is_dir() else _open_file(path)
    checkpoint.tokenizer.assigned(checkpoint.config.vocab_size)
    _check_metadata(checkpoint)
    return checkpoint


def _transformer_folder(path: Path) -> Path:
    """The folder itself, or `0_Transformer`, which older sentence-transformers used."""
    modules = path / "modules.json"
    if (path / "config.json").exists() or not modules.exists():
        return path
    inner = path / "0_Transformer"
    return inner if (inner / "config.json").exists() else path


def _open_file(path: Path) -> Checkpoint:
    if not path.exists():
        raise WeightsError(f"{path} does not exist", hint=_WHAT_IS_A_MODEL)
    file = read_gguf(path)
    with _name_in_errors(path):
        config = decoder_config_from_gguf(file)
    source = GGUFSource(file)
    return Checkpoint(
        path=path,
        config=config,
        source=source,
        weight_files=(path,),
        tokenizer=tokenizer_from_gguf(file),
        stored_dtype=stored_dtype(source),
        metadata=None,
    )


def _open_folder(path: Path) -> Checkpoint:
    check_link(path / "config.json")
    if not (path / "config.json").exists():
        raise _not_a_model(path)
    if (path / "adapter_config.json").exists():
        raise WeightsError(
            f"{path} contains both a model (config.json) and an adapter (adapter_config.json)",
            hint="move adapter_config.json and adapter_model.safetensors to another folder",
        )
    fields = read_json(path / "config.json")
    with _name_in_errors(path / "config.json"):
        config = decoder_config_from_hf(fields)
    if not any(path.glob("*.safetensors")) and any(path.glob("*.bin")):
        raise WeightsError(
            f"{path} has its weights in pickled .bin files, which are not supported",
            hint="use the safetensors of the same model, or convert it with transformers",
        )
    stored = SafetensorsSource(path)
    source = as_causal_lm(stored, tied=config.tie_embeddings)
    return Checkpoint(
        path=path,
        config=config,
        source=source,
        weight_files=stored.files,
        tokenizer=tokenizer_from_folder(path),
        stored_dtype=stored_dtype(source),
        metadata=read_metadata(path),
        other_fields=other_fields(fields),
    )


def _not_a_model(path: Path) -> WeightsError:
    """The error for a folder without a model; says what the folder contains instead."""
    if (path / "adapter_config.json").exists():
        return WeightsError(
            f"{path} is a LoRA adapter, not a model",
            hint="load an adapter of T1 with T1.load(base, adapter=folder); merge any other into "
            "its base model first, with peft's merge_and_unload",
        )
    gguf_files = sorted(file.name for file in path.glob("*.gguf"))
    hint = f"give one of its files: {', '.join(gguf_files)}" if gguf_files else _WHAT_IS_A_MODEL
    return WeightsError(f"{path} is not a model: it has no config.json", hint=hint)


def _check_metadata(checkpoint: Checkpoint) -> None:
    metadata, tokenizer_id = checkpoint.metadata, checkpoint.tokenizer.emb_token_id
    if metadata is not None and metadata.emb_token_id != tokenizer_id:
        raise WeightsError(
            f"{checkpoint.path}: <emb_token> has id {metadata.emb_token_id} in t1.json and "
            f"{tokenizer_id} in tokenizer.json",
            hint="use both files from the same export",
        )


@contextmanager
def _name_in_errors(path: Path) -> Iterator[None]:
    """Adds the path to the message of an error."""
    try:
        yield
    except T1Error as error:
        if str(path) in error.message:
            raise
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error
