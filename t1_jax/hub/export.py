"""A T1 checkpoint as a folder that transformers, sentence-transformers and t1_jax all load."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Shaped

from t1_jax.errors import ConfigError, UnsupportedError, WeightsError
from t1_jax.files import atomic_folder
from t1_jax.hub.card import CardFacts, render_card
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
from t1_jax.hub.tokenizer_files import check_reads_back, write_tokenizer
from t1_jax.hub.weight_map import Rule, hf_names, hf_shape, rules_for, to_hf
from t1_jax.model import DecoderConfig


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a checkpoint is written.

    Attributes:
        max_shard_bytes: the most bytes one safetensors file holds, unless one tensor has more.
        overwrite: whether a folder that is not empty is replaced.
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
    card: CardFacts,
    options: ExportOptions | None = None,
    *,
    other_fields: Mapping[str, Any] | None = None,
) -> None:
    """Writes the folder whole or not at all; host memory stays near the largest single tensor.

    Args:
        folder: must not exist, or be empty.
        state: path -> parameter, as `load_decoder_state` returns it.
        config: of the decoder that `state` belongs to.
        tokenizer: with `<emb_token>`.
        metadata: written as `t1.json`; its `stored_dtype` is what the weights are written in.
        document_prompt: the document prompt as tokens, for sentence-transformers.
        card: what the model card says.
        options: sizes, and whether to overwrite.
        other_fields: of `config.json`, without influence on the decoder, as the source has them.

    Raises:
        WeightsError: the tokenizer lacks `<emb_token>` or has more ids than there are rows, or a
            weight does not fit the dtype.
        UnsupportedError: transformers has no class for this decoder, or would tokenize otherwise.
        T1Error: the folder is taken, or the disk refused the data.
    """
    options = options or ExportOptions()
    check_export(config, tokenizer, metadata, document_prompt)
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
        for part in (scratch, scratch / DOCUMENT_FOLDER):
            check_reads_back(part, fields)
        weights = _write_weights(scratch, state, config, metadata.stored_dtype, options)
        write_sentence_transformers(scratch, weights, config.embed_dim, document_prompt)


def check_export(
    config: DecoderConfig,
    tokenizer: ModelTokenizer,
    metadata: T1Metadata,
    document_prompt: DocumentPrompt,
) -> None:
    """Rejects what could not be exported, without the weights; arguments as `export_folder` has.

    Raises:
        WeightsError: the tokenizer lacks `<emb_token>` or has more ids than there are rows.
        ConfigError: the document prompt does not suit sentence-transformers.
        UnsupportedError: transformers has no class for this decoder.
    """
    if tokenizer.emb_token_id != metadata.emb_token_id:
        raise WeightsError(
            f"the tokenizer has {EMB_TOKEN} at {tokenizer.emb_token_id}, t1.json would say "
            f"{metadata.emb_token_id}",
            hint="give the tokenizer the token first, in one of its three modes",
        )
    if metadata.stored_dtype not in STORED_DTYPES:
        raise ConfigError(
            f"weights are not stored as {metadata.stored_dtype!r}; "
            f"known: {', '.join(STORED_DTYPES)}"
        )
    tokenizer.assigned(config.vocab_size)
    check_document_prompt(document_prompt, tokenizer)
    _config_fields(config, tokenizer, metadata.stored_dtype, {})


def _config_fields(
    config: DecoderConfig, tokenizer: ModelTokenizer, dtype: str, other: Mapping[str, Any]
) -> dict[str, Any]:
    """`config.json`: the source's own fields, and ids where it states none."""
    stated = {name: value for name, value in other.items() if value is not None}
    ids = {**_role_ids(tokenizer), "eos_token_id": list(tokenizer.eos_ids), **stated}
    return hf_config_from_decoder(config, dtype=dtype, **{**other, **ids})


def _generation_fields(tokenizer: ModelTokenizer, metadata: T1Metadata) -> dict[str, Any]:
    """`generation_config.json`: as the source has it, and an end at `<emb_token>`.

    `<emb_token>` ends a thought, so it also ends a plain transformers `generate`.
    """
    ends = [*tokenizer.eos_ids, metadata.emb_token_id]
    return {**_role_ids(tokenizer), **tokenizer.generation, "eos_token_id": ends}


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
    """Every tensor in the Hugging Face layout, one layer after the other."""
    dtype = STORED_DTYPES[dtype_name]
    places = _places(config)
    absent = sorted({rule.path for rule, _ in places.values()} - state.keys())
    if absent:
        raise WeightsError(f"the model's state lacks {', '.join(absent)}")

    def read(name: str) -> np.ndarray:
        rule, layer = places[name]
        values = _on_host(state[rule.path], layer)
        return cast.cast(to_hf(rule, values, config), f"tensor {name}")

    cast = CheckedCast(dtype)
    shapes = {name: hf_shape(rule, config) for name, (rule, _) in places.items()}
    files = write_safetensors(folder, shapes, dtype, read, max_shard_bytes=options.max_shard_bytes)
    cast.refuse_misfits()
    return files


def _places(config: DecoderConfig) -> dict[str, tuple[Rule, int | None]]:
    """Tensor name -> where it comes from: its rule, and its layer if it is one of several."""
    rules = rules_for(config)
    whole: dict[str, tuple[Rule, int | None]] = {
        rule.hf_name: (rule, None) for rule in rules if not rule.stacked
    }
    stacked = [(rule, hf_names(rule, config)) for rule in rules if rule.stacked]
    return whole | {
        names[layer]: (rule, layer) for layer in range(config.num_layers) for rule, names in stacked
    }


def _on_host(leaf: jax.Array | np.ndarray, layer: int | None) -> np.ndarray:
    """One parameter, or one layer of a stacked one."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        raise UnsupportedError(
            "a model that is spread over several hosts cannot be exported directly",
            hint="restore its checkpoint on one host and export from there",
        )
    if layer is None or isinstance(leaf, np.ndarray):
        return np.asarray(leaf if layer is None else leaf[layer])
    return np.asarray(_layer(leaf, layer))


@jax.jit
def _layer(stacked: Shaped[Array, "Y ..."], layer: Int[Array, ""] | int) -> Shaped[Array, "..."]:
    return jax.lax.dynamic_index_in_dim(stacked, layer, axis=0, keepdims=False)
