"""A T1 checkpoint as a folder that transformers, sentence-transformers and t1_jax all load."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

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
    DocumentSide,
    check_document_side,
    write_sentence_transformers,
)
from t1_jax.hub.sources import STORED_DTYPES, CheckedCast
from t1_jax.hub.tokeniser import EMB_TOKEN, Tokeniser
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
    tokeniser: Tokeniser,
    metadata: T1Metadata,
    document_side: DocumentSide,
    card: CardFacts,
    options: ExportOptions | None = None,
) -> None:
    """Writes the folder whole or not at all; host memory stays near the largest single tensor.

    Args:
        folder: must not exist, or be empty.
        state: path -> parameter, as `load_decoder_state` returns it.
        config: of the decoder that `state` belongs to.
        tokeniser: with `<emb_token>`.
        metadata: written as `t1.json`; its `stored_dtype` is what the weights are written in.
        document_side: the document prompt as tokens, for sentence-transformers.
        card: what the model card says.
        options: sizes, and whether to overwrite.

    Raises:
        WeightsError: the tokeniser lacks `<emb_token>` or has more ids than there are rows, or a
            weight does not fit the dtype.
        UnsupportedError: transformers has no class for this decoder.
        T1Error: the folder is taken, or the disk refused the data.
    """
    options = options or ExportOptions()
    check_export(config, tokeniser, document_side, metadata.stored_dtype)
    if tokeniser.emb_token_id != metadata.emb_token_id:
        raise WeightsError(
            f"the tokeniser has {EMB_TOKEN} at {tokeniser.emb_token_id}, t1.json would say "
            f"{metadata.emb_token_id}",
            mend="give the tokeniser the token first, in one of its three modes",
        )
    json_files = _json_files(config, tokeniser, metadata)
    texts = {name: to_json(content) for name, content in json_files.items()}
    texts["tokenizer.json"] = tokeniser.backend.to_str()
    texts["README.md"] = render_card(card, config, metadata)
    if tokeniser.chat_template is not None:
        texts["chat_template.jinja"] = tokeniser.chat_template
    with atomic_folder(folder, overwrite=options.overwrite) as scratch:
        weights = _write_weights(scratch, state, config, metadata.stored_dtype, options)
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8")
        write_sentence_transformers(
            scratch, weights, config.embed_dim, _with_pad_token(tokeniser), document_side
        )


def check_export(
    config: DecoderConfig, tokeniser: Tokeniser, document_side: DocumentSide, dtype: str
) -> None:
    """Refuses what `export_folder` could not write; needs no weights.

    Args:
        config: of the decoder, its vocabulary with `<emb_token>`.
        tokeniser: with `<emb_token>`.
        document_side: the document prompt as tokens.
        dtype: name of the dtype that weights are to be stored in.

    Raises:
        ConfigError: an unknown dtype, or a document prompt that sentence-transformers cannot use.
        WeightsError: the tokeniser has more ids than there are rows.
        UnsupportedError: transformers has no class for this decoder.
    """
    if dtype not in STORED_DTYPES:
        raise ConfigError(f"weights are not stored as {dtype!r}; known: {', '.join(STORED_DTYPES)}")
    hf_config_from_decoder(config, dtype=dtype)
    tokeniser.assigned(config.vocab_size)
    check_document_side(document_side, _with_pad_token(tokeniser))


def _with_pad_token(tokeniser: Tokeniser) -> Tokeniser:
    """A tokeniser that can fill up a batch: with the end of a text where no token is for that.

    Llama 3 has none. Filled places are masked, so it does not matter which token it is.
    """
    if "pad_token" in tokeniser.special_tokens:
        return tokeniser
    ends = (tokeniser.backend.id_to_token(index) for index in tokeniser.eos_ids)
    pad = tokeniser.special_tokens.get("eos_token") or next(filter(None, ends), None)
    if pad is None:
        return tokeniser
    return replace(tokeniser, special_tokens={**tokeniser.special_tokens, "pad_token": pad})


def _tokeniser_config(tokeniser: Tokeniser, max_tokens: int) -> dict[str, object]:
    """`tokenizer_config.json`: the generic fast class, which takes `tokenizer.json` as it is."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": [EMB_TOKEN],
        **tokeniser.special_tokens,
    }


def _json_files(
    config: DecoderConfig, tokeniser: Tokeniser, metadata: T1Metadata
) -> dict[str, dict[str, object]]:
    """File name -> content."""
    roles = {
        f"{role}_id": index
        for role in ("bos_token", "pad_token")
        if (index := tokeniser.id_of_role(role)) is not None
    }
    ends = list(tokeniser.eos_ids)
    fields = hf_config_from_decoder(config, dtype=metadata.stored_dtype, eos_token_id=ends, **roles)
    # `<emb_token>` ends a thought, so it also ends a plain transformers `generate`.
    generation = {**tokeniser.generation, **roles, "eos_token_id": [*ends, metadata.emb_token_id]}
    special = {**tokeniser.special_tokens, "additional_special_tokens": [EMB_TOKEN]}
    return {
        "config.json": fields,
        "generation_config.json": generation,
        "special_tokens_map.json": special,
        "tokenizer_config.json": _tokeniser_config(tokeniser, config.max_positions),
        T1_FILE: metadata.to_fields(),
    }


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
            mend="restore its checkpoint on one host and export from there",
        )
    if layer is None or isinstance(leaf, np.ndarray):
        return np.asarray(leaf if layer is None else leaf[layer])
    return np.asarray(_layer(leaf, layer))


@jax.jit
def _layer(stacked: Shaped[Array, "Y ..."], layer: Int[Array, ""] | int) -> Shaped[Array, "..."]:
    return jax.lax.dynamic_index_in_dim(stacked, layer, axis=0, keepdims=False)
