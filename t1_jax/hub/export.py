"""Exports a T1 checkpoint for transformers, sentence-transformers and t1_jax."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Shaped

from t1_jax.errors import ConfigError, UnsupportedError, WeightsError
from t1_jax.files import atomic_folder
from t1_jax.hub.card import ModelCardData, render_card
from t1_jax.hub.hf_config import hf_config_from_decoder
from t1_jax.hub.json_files import to_json
from t1_jax.hub.metadata import T1_FILE, T1Metadata
from t1_jax.hub.safetensors_writer import write_safetensors
from t1_jax.hub.sentence_transformers import (
    DOCUMENT_FOLDER,
    DocumentPrompt,
    check_document_prompt,
    write_document_tokenizer,
    write_sentence_transformers,
)
from t1_jax.hub.sources import STORED_DTYPES, CheckedCast
from t1_jax.hub.tokenizer import EMB_TOKEN, ModelTokenizer
from t1_jax.hub.tokenizer_export import check_reads_back, write_tokenizer
from t1_jax.hub.weight_map import Rule, hf_names, hf_shape, rules_for, to_hf
from t1_jax.model import DecoderConfig


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        max_shard_bytes: maximum size of a safetensors file; a larger tensor gets its own file.
        overwrite: whether to replace a folder that is not empty.
    """

    max_shard_bytes: int = 5_000_000_000
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.max_shard_bytes <= 0:
            raise ConfigError(f"max_shard_bytes must be positive, got {self.max_shard_bytes}")


def export_folder(
    folder: Path,
    state: Mapping[str, jax.Array | np.ndarray],
    config: DecoderConfig,
    tokenizer: ModelTokenizer,
    metadata: T1Metadata,
    document_prompt: DocumentPrompt,
    card: ModelCardData,
    options: ExportOptions | None = None,
    *,
    other_fields: Mapping[str, Any] | None = None,
) -> None:
    """Writes the folder atomically; peak host memory is that of the largest tensor.

    `state` is path -> parameter, as returned by `load_decoder_state`, and the weights are written
    in the `stored_dtype` of the metadata. `other_fields` are those of the source's `config.json`
    that do not affect the decoder.

    Raises:
        WeightsError: the tokenizer lacks `<emb_token>` or has more ids than the vocabulary has
            rows, or a weight is not finite in the dtype.
        UnsupportedError: transformers has no class for this decoder, or would tokenize differently.
        T1Error: the folder is not empty, or the write failed.
    """
    options = options or ExportOptions()
    check_export(config, tokenizer, metadata, document_prompt)
    metadata = replace(metadata, card=card.stored)
    fields = _config_fields(config, tokenizer, metadata.stored_dtype, other_fields or {})
    texts = {
        "config.json": to_json(fields),
        "generation_config.json": to_json(_generation_fields(tokenizer, metadata)),
        T1_FILE: to_json(metadata.to_fields()),
        "README.md": render_card(card, config, metadata),
    }
    with atomic_folder(folder, overwrite=options.overwrite) as scratch:
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8")
        write_tokenizer(scratch, tokenizer, max_tokens=config.max_positions)
        write_document_tokenizer(scratch, tokenizer, document_prompt)
        for tokenizer_folder in (scratch, scratch / DOCUMENT_FOLDER):
            check_reads_back(tokenizer_folder, fields)
        weights = _write_weights(scratch, state, config, metadata.stored_dtype, options)
        write_sentence_transformers(scratch, weights, config.embed_dim, document_prompt)


def check_export(
    config: DecoderConfig,
    tokenizer: ModelTokenizer,
    metadata: T1Metadata,
    document_prompt: DocumentPrompt,
) -> None:
    """Raises if the export would fail, without access to weights; arguments as in `export_folder`.

    Raises:
        WeightsError: the tokenizer lacks `<emb_token>` or has more ids than the vocabulary has
            rows.
        ConfigError: sentence-transformers cannot use the document prompt, or unknown dtype.
        UnsupportedError: transformers has no class for this decoder.
    """
    if tokenizer.emb_token_id != metadata.emb_token_id:
        raise WeightsError(
            f"{EMB_TOKEN} has id {tokenizer.emb_token_id} in the tokenizer and "
            f"{metadata.emb_token_id} in the metadata",
            hint="add the token to the tokenizer first, with add_emb_token",
        )
    if metadata.stored_dtype not in STORED_DTYPES:
        raise ConfigError(
            f"unknown dtype {metadata.stored_dtype!r}; known: {', '.join(STORED_DTYPES)}"
        )
    tokenizer.assigned(config.vocab_size)
    check_document_prompt(document_prompt, tokenizer)
    _config_fields(config, tokenizer, metadata.stored_dtype, {})


def _config_fields(
    config: DecoderConfig, tokenizer: ModelTokenizer, dtype: str, other: Mapping[str, Any]
) -> dict[str, Any]:
    """`config.json`: fields of the source, and token ids that the source does not state."""
    not_null = {name: value for name, value in other.items() if value is not None}
    ids = {**_role_ids(tokenizer), "eos_token_id": list(tokenizer.eos_ids), **not_null}
    return hf_config_from_decoder(config, dtype=dtype, **{**other, **ids})


def _generation_fields(tokenizer: ModelTokenizer, metadata: T1Metadata) -> dict[str, Any]:
    """`generation_config.json` of the source, with `<emb_token>` as an additional end token.

    `<emb_token>` ends a thought, so it must also end `generate` of transformers.
    """
    eos_ids = [*tokenizer.eos_ids, metadata.emb_token_id]
    return {**_role_ids(tokenizer), **tokenizer.generation_config, "eos_token_id": eos_ids}


def _role_ids(tokenizer: ModelTokenizer) -> dict[str, int]:
    ids = {f"{role}_id": tokenizer.id_of_role(role) for role in ("bos_token", "pad_token")}
    return {name: index for name, index in ids.items() if index is not None}


def _write_weights(
    folder: Path,
    state: Mapping[str, jax.Array | np.ndarray],
    config: DecoderConfig,
    dtype_name: str,
    options: ExportOptions,
) -> list[Path]:
    """Writes every tensor in the Hugging Face layout, layer by layer."""
    dtype = STORED_DTYPES[dtype_name]
    origins = _origins(config)
    missing = sorted({rule.path for rule, _ in origins.values()} - state.keys())
    if missing:
        raise WeightsError(f"the model's state lacks {', '.join(missing)}")

    def read(name: str) -> np.ndarray:
        rule, layer = origins[name]
        values = _on_host(state[rule.path], layer)
        return cast.cast(to_hf(rule, values, config), f"tensor {name}")

    cast = CheckedCast(dtype)
    shapes = {name: hf_shape(rule, config) for name, (rule, _) in origins.items()}
    files = write_safetensors(folder, shapes, dtype, read, max_shard_bytes=options.max_shard_bytes)
    cast.raise_on_overflow()
    return files


def _origins(config: DecoderConfig) -> dict[str, tuple[Rule, int | None]]:
    """Tensor name -> its rule and its layer; the layer is None for a parameter without layers."""
    rules = rules_for(config)
    unstacked: dict[str, tuple[Rule, int | None]] = {
        rule.hf_name: (rule, None) for rule in rules if not rule.stacked
    }
    stacked = [(rule, hf_names(rule, config)) for rule in rules if rule.stacked]
    return unstacked | {
        names[layer]: (rule, layer) for layer in range(config.num_layers) for rule, names in stacked
    }


def _on_host(leaf: jax.Array | np.ndarray, layer: int | None) -> np.ndarray:
    """One parameter, or one layer of a stacked one."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        raise UnsupportedError(
            "a model that is sharded over several hosts cannot be exported directly",
            hint="restore its checkpoint on one host and export from there",
        )
    if layer is None:
        return np.asarray(leaf)
    if isinstance(leaf, np.ndarray) or _is_on_host(leaf):
        return np.asarray(leaf)[layer]
    return np.asarray(_layer(leaf, layer))


def _is_on_host(leaf: jax.Array) -> bool:
    """Whether NumPy can view the whole array without a copy."""
    devices = leaf.devices()
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"


@jax.jit
def _layer(stacked: Shaped[Array, "Y ..."], layer: Int[Array, ""] | int) -> Shaped[Array, "..."]:
    return jax.lax.dynamic_index_in_dim(stacked, layer, axis=0, keepdims=False)
