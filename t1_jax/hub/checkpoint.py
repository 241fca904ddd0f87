"""The one entry: a Hugging Face folder, a T1 folder or a GGUF file, opened and checked."""

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
    """A checkpoint whose files are all there and fit each other; no weight has been read yet.

    Attributes:
        path: the folder or the GGUF file.
        config: of the decoder, as the checkpoint has it.
        source: its tensors.
        weight_files: that they are read from.
        tokenizer: with or without `<emb_token>`.
        stored_dtype: the narrowest dtype name that holds every tensor exactly.
        metadata: what a T1 checkpoint says about itself; None for a base model.
        other_fields: of its `config.json`, without influence on the decoder; export keeps them.
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
        """Hex SHA-256 over config, tokenizer and every byte of the weights; read once."""
        if self.path.is_file():
            return sha256_of(self.path)
        others = (self.path / name for name in ("config.json", "tokenizer.json"))
        files = sorted([*others, *self.weight_files])
        lines = (f"{file.name} {sha256_of(file)}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_checkpoint(path: Path) -> Checkpoint:
    """Opens a Hugging Face folder, a T1 folder or a GGUF file.

    Raises:
        WeightsError: it is not a model, or its files are missing, damaged or do not fit.
        UnsupportedError: an architecture, field or tokenizer that is not honored, by name.
        ConfigError: a field of its config is missing or inconsistent.
    """
    path = _transformer_folder(Path(path))
    check_link(path)
    checkpoint = _open_folder(path) if path.is_dir() else _open_file(path)
    checkpoint.tokenizer.assigned(checkpoint.config.vocab_size)
    _check_metadata(checkpoint)
    return checkpoint


def _transformer_folder(path: Path) -> Path:
    """Where sentence-transformers puts the transformer of an older save, `0_Transformer`."""
    modules = path / "modules.json"
    if (path / "config.json").exists() or not modules.exists():
        return path
    inner = path / "0_Transformer"
    return inner if (inner / "config.json").exists() else path


def _open_file(path: Path) -> Checkpoint:
    if not path.exists():
        raise WeightsError(f"{path} does not exist", hint=_WHAT_IS_A_MODEL)
    file = read_gguf(path)
    with _named(path):
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
            f"{path} holds both a model (config.json) and an adapter (adapter_config.json), so "
            "it is unclear which of them is meant",
            hint="move adapter_config.json and adapter_model.safetensors to a folder of their own",
        )
    fields = read_json(path / "config.json")
    with _named(path / "config.json"):
        config = decoder_config_from_hf(fields)
    if not any(path.glob("*.safetensors")) and any(path.glob("*.bin")):
        raise WeightsError(
            f"{path} has its weights in pickled .bin files, which are never read",
            hint="take the safetensors of the same model, or convert it with transformers",
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
    """What the folder is instead, as far as one can tell."""
    if (path / "adapter_config.json").exists():
        return WeightsError(
            f"{path} is a LoRA adapter, not a model",
            hint="one of T1 loads with T1.load(base, adapter=folder); merge any other into its "
            "base model first, with peft's merge_and_unload",
        )
    gguf_files = sorted(file.name for file in path.glob("*.gguf"))
    hint = f"give one of its files: {', '.join(gguf_files)}" if gguf_files else _WHAT_IS_A_MODEL
    return WeightsError(f"{path} is not a model: it has no config.json", hint=hint)


def _check_metadata(checkpoint: Checkpoint) -> None:
    metadata, found = checkpoint.metadata, checkpoint.tokenizer.emb_token_id
    if metadata is not None and metadata.emb_token_id != found:
        raise WeightsError(
            f"{checkpoint.path}: t1.json puts <emb_token> at id {metadata.emb_token_id}, "
            f"tokenizer.json at {found}",
            hint="take both files from the same export",
        )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the file in front of an error about its content."""
    try:
        yield
    except T1Error as error:
        if str(path) in error.message:
            raise
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error
