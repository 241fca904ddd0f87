"""LoRA adapters in PEFT's format.

A folder has `adapter_config.json` and `adapter_model.safetensors`, which
`peft.PeftModel.from_pretrained` loads, and `t1.json` with the metadata of T1 and its base model.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import save

from t1_jax.errors import ConfigError, UnsupportedError, WeightsError
from t1_jax.files import atomic_folder, sha256_of
from t1_jax.hub.assets import MODELS
from t1_jax.hub.card import ModelCardData, render_card
from t1_jax.hub.json_files import read_json, to_json
from t1_jax.hub.metadata import T1_FILE, AdapterMetadata, read_adapter_metadata
from t1_jax.hub.safetensors_source import SafetensorsSource
from t1_jax.hub.sources import STORED_DTYPES, CheckedCast
from t1_jax.hub.tokenizer import ModelTokenizer
from t1_jax.hub.weight_map import Rule, from_hf, hf_names, hf_shape, rules_for, to_hf
from t1_jax.model import LORA_TARGETS, Decoder, DecoderConfig, LoraConfig, LoraParam, add_lora
from t1_jax.parallel import MeshContext, global_to_host, on_mesh

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_ROW = "token_adapter.trainable_tokens_delta"
_BASE_NAME = "base_model_name_or_path"

# Fields of PEFT that are read, or that do not change the output of a trained adapter. Any other
# field with a value raises an error.
_READ = ("r", "lora_alpha", "use_rslora", "target_modules", "trainable_token_indices")
_INERT = (
    *(_BASE_NAME, "revision", "task_type", "auto_mapping", "inference_mode", "peft_version"),
    *("lora_dropout", "runtime_config", "layers_pattern", "megatron_core", "qalora_group_size"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "ensure_weight_tying"),
)
# Values that are supported; other initializations also change the weights of the base model.
_SUPPORTED_VALUES = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """An adapter folder that has been checked; its weights are not read yet.

    Attributes:
        path: folder of the adapter.
        config: rank, scale and targets.
        metadata: base model, tokenizer and prompt.
        fingerprint: hex SHA-256 of config and weights.
    """

    path: Path
    config: LoraConfig
    metadata: AdapterMetadata
    fingerprint: str


def is_adapter(path: Path) -> bool:
    """Whether a folder contains an adapter instead of a model."""
    return (path / ADAPTER_CONFIG).exists() and not (path / "config.json").exists()


def tokenizer_hash(tokenizer: ModelTokenizer) -> str:
    """Hex SHA-256 of all tokens and their ids."""
    tokens = json.dumps(sorted(tokenizer.backend.get_vocab().items()), ensure_ascii=True)
    return hashlib.sha256(tokens.encode()).hexdigest()


def export_adapter(
    folder: Path,
    decoder: Decoder,
    metadata: AdapterMetadata,
    card: ModelCardData,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
) -> None:
    """Writes the adapter of a decoder atomically.

    A collective operation: all processes must call it; process 0 writes. `dtype` is the name of the
    dtype of the stored factors. Only with `overwrite` may the folder exist with content.

    Raises:
        ConfigError: unknown dtype, or the decoder has no adapter.
        WeightsError: a value is not finite in `dtype`.
        T1Error: the folder is not empty, or the write failed.
    """
    if decoder.lora is None:
        raise ConfigError("the decoder has no adapter", hint="export it as a model")
    if dtype not in STORED_DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}; known: {', '.join(STORED_DTYPES)}")
    tensors = _to_peft(decoder, metadata.emb_token_id, STORED_DTYPES[dtype])
    if jax.process_index() != 0:
        return
    metadata = replace(metadata, card=card.stored)
    fields = _config_fields(decoder.lora, decoder.config, metadata)
    texts = {
        ADAPTER_CONFIG: to_json(fields),
        T1_FILE: to_json(metadata.to_fields()),
        "README.md": render_card(
            card,
            decoder.config,
            metadata,
            lora=decoder.lora,
            dtype=dtype,
        ),
    }
    with atomic_folder(folder, overwrite=overwrite) as scratch:
        # PEFT only opens files whose metadata names PyTorch as the format.
        (scratch / ADAPTER_WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8")


def read_adapter(folder: Path) -> Adapter:
    """Opens an adapter folder.

    Raises:
        WeightsError: a file is missing or damaged, or the adapter was not written by t1_jax.
        UnsupportedError: an unsupported kind of adapter; names the field.
    """
    fields = read_json(folder / ADAPTER_CONFIG)
    for name, value in fields.items():
        supported = value in _SUPPORTED_VALUES[name] if name in _SUPPORTED_VALUES else not value
        if not supported and name not in _READ + _INERT:
            raise UnsupportedError(
                f"{folder / ADAPTER_CONFIG}: {name} = {value!r} is not supported",
                hint="merge the adapter with peft's merge_and_unload and import the result",
            )
    metadata = read_adapter_metadata(folder)
    weights = folder / ADAPTER_WEIGHTS
    if not weights.exists():
        raise WeightsError(f"{weights} is missing", hint="give the folder of a complete adapter")
    hashed = [sha256_of(folder / ADAPTER_CONFIG), sha256_of(weights), str(metadata.emb_token_id)]
    return Adapter(
        path=folder,
        config=_lora_config(folder, fields, metadata),
        metadata=metadata,
        fingerprint=hashlib.sha256("\n".join(hashed).encode()).hexdigest(),
    )


def load_adapter(decoder: Decoder, adapter: Adapter, mesh_context: MeshContext) -> Decoder:
    """The base decoder with the weights of an adapter, unmerged.

    Raises:
        WeightsError: the tensors do not match the adapter's config and the decoder; lists all
            mismatches.
        ConfigError: the id of `<emb_token>` exceeds the decoder's vocabulary.
    """
    source = check_adapter_fits(adapter, decoder.config)
    emb_token_id = adapter.metadata.emb_token_id
    with mesh_context.activate():
        abstract = nnx.eval_shape(
            lambda base: add_lora(base, adapter.config, nnx.Rngs(0), emb_token_id=emb_token_id),
            decoder,
        )
    graph, factors, _ = nnx.split(abstract, LoraParam, ...)
    leaves = {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(factors)}
    for rule in _rules(adapter.config, decoder.config):
        layers = [
            from_hf(rule, source.read(name).astype(np.float32), decoder.config)
            for name in hf_names(rule, decoder.config)
        ]
        _set(leaves[rule.path], np.stack(layers), mesh_context)
    for name, (path, _) in _rows(adapter.config, decoder.config).items():
        row = source.read(name).astype(np.float32)
        _set(leaves[path], row[0] - _base_row(decoder, path, emb_token_id), mesh_context)
    return nnx.merge(graph, factors, nnx.state(decoder), copy=True)


def check_adapter_fits(adapter: Adapter, config: DecoderConfig) -> SafetensorsSource:
    """Checks names and shapes of an adapter's tensors, and returns their source; reads no values.

    Raises:
        WeightsError: lists every missing, unexpected and misshapen tensor.
    """
    source = SafetensorsSource(adapter.path / ADAPTER_WEIGHTS)
    expected = {
        name: hf_shape(rule, config, rank=adapter.config.rank)
        for rule in _rules(adapter.config, config)
        for name in hf_names(rule, config)
    }
    expected |= dict.fromkeys(_rows(adapter.config, config), (1, config.embed_dim))
    names = set(source.names())
    mismatches = [f"missing: {name}" for name in sorted(expected.keys() - names)]
    mismatches += [f"unexpected: {name}" for name in sorted(names - expected.keys())]
    mismatches += [
        f"misshapen: {name} has shape {source.shape(name)}, expected {shape}"
        for name, shape in expected.items()
        if name in names and source.shape(name) != shape
    ]
    if mismatches:
        raise WeightsError(
            f"{adapter.path}: the tensors do not match the adapter's config and its base model "
            f"({len(mismatches)} mismatches):\n  " + "\n  ".join(mismatches),
            hint="use the base model on which the adapter was trained",
        )
    return source


def _config_fields(
    lora: LoraConfig, config: DecoderConfig, metadata: AdapterMetadata
) -> dict[str, object]:
    """The content of `adapter_config.json`."""
    asset = MODELS.get(metadata.base_model)
    modules = _hf_modules(config)
    ids = [metadata.emb_token_id]
    rows: object = ids if config.tie_embeddings else {"embed_tokens": ids, "lm_head": ids}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        _BASE_NAME: asset.hub_repo if asset else metadata.base_model,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "use_rslora": lora.rslora,
        "target_modules": [modules[target] for target in lora.targets],
        "trainable_token_indices": rows if lora.emb_row else None,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _lora_config(folder: Path, fields: Mapping[str, Any], metadata: AdapterMetadata) -> LoraConfig:
    """The `LoraConfig` of `adapter_config.json`."""
    known = [f"{target}_proj" for target in LORA_TARGETS]
    modules = fields.get("target_modules")
    if not isinstance(modules, list) or not set(modules) <= set(known):
        raise UnsupportedError(
            f"{folder / ADAPTER_CONFIG}: target_modules is {modules!r}, expected a list of "
            f"{', '.join(known)}"
        )
    rows = fields.get("trainable_token_indices")
    row_lists = list(rows.values()) if isinstance(rows, dict) else [rows]
    if rows is not None and any(ids != [metadata.emb_token_id] for ids in row_lists):
        raise UnsupportedError(
            f"{folder / ADAPTER_CONFIG}: trainable_token_indices is {rows!r}, expected the id of "
            f"<emb_token>, {metadata.emb_token_id}"
        )
    try:
        return LoraConfig(
            rank=int(fields["r"]),
            alpha=float(fields["lora_alpha"]),
            targets=tuple(target for target in LORA_TARGETS if f"{target}_proj" in modules),
            emb_row=rows is not None,
            rslora=bool(fields.get("use_rslora", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder / ADAPTER_CONFIG} is damaged: {error!r}") from error


def _hf_modules(config: DecoderConfig) -> dict[str, str]:
    """LoRA target -> name of its module in transformers."""
    return {target: rule.hf_name.split(".")[-2] for target, rule in _kernel_rules(config).items()}


def _kernel_rules(config: DecoderConfig) -> dict[str, Rule]:
    """LoRA target -> rule of its kernel."""
    rules = {tuple(rule.path.split("/")[-2:]): rule for rule in rules_for(config)}
    return {target: rules[target, "kernel"] for target in LORA_TARGETS}


def _rules(lora: LoraConfig, config: DecoderConfig) -> list[Rule]:
    """Rules between PEFT's tensors and the LoRA parameters, derived from those of the kernels.

    A kernel in PyTorch is (out, in), each a group of letters; A is (rank, in) and B (out, rank).
    """
    rules = []
    kernel_rules = _kernel_rules(config)
    for target in lora.targets:
        rule = kernel_rules[target]
        out, into = re.findall(r"\(.+?\)|\w", rule.pattern.split(" -> ")[0])
        base = f"{_PREFIX}{rule.hf_name.removesuffix('.weight')}"
        path = rule.path.removesuffix("kernel")
        rules += [
            Rule(f"{base}.lora_A.weight", f"{path}lora/a", f"r {into} -> {into.strip('()')} r"),
            Rule(f"{base}.lora_B.weight", f"{path}lora/b", f"{out} r -> r {out.strip('()')}"),
        ]
    return rules


def _rows(lora: LoraConfig, config: DecoderConfig) -> dict[str, tuple[str, str]]:
    """PEFT's tensor with the row of `<emb_token>` -> path of its delta, and of the table.

    PEFT stores the row of a tied head with the embedding.
    """
    if not lora.emb_row:
        return {}
    rows = {f"{_PREFIX}model.embed_tokens.{_ROW}": ("embed/row/delta", "embed/table")}
    if not config.tie_embeddings:
        rows[f"{_PREFIX}lm_head.{_ROW}"] = ("head/row/delta", "head/kernel")
    return rows


def _to_peft(decoder: Decoder, emb_token_id: int, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Every tensor of the adapter, with the name and layout of PEFT."""
    lora, config = decoder.lora, decoder.config
    assert lora is not None
    state = {
        "/".join(map(str, path)): leaf.get_value()
        for path, leaf in nnx.to_flat_state(nnx.state(decoder, LoraParam))
    }
    tensors: dict[str, np.ndarray] = {}
    for rule in _rules(lora, config):
        stacked = global_to_host(state[rule.path])
        for layer, name in enumerate(hf_names(rule, config)):
            tensors[name] = to_hf(rule, stacked[layer], config)
    for name, (path, _) in _rows(lora, config).items():
        row = _base_row(decoder, path, emb_token_id) + global_to_host(state[path])
        tensors[name] = row[None]
    cast = CheckedCast(dtype)
    stored = {
        name: np.ascontiguousarray(cast.cast(values, f"tensor {name}"))
        for name, values in tensors.items()
    }
    cast.raise_on_overflow()
    return stored


def _base_row(decoder: Decoder, path: str, emb_token_id: int) -> np.ndarray:
    """The row of `<emb_token>` without its delta, in float32."""
    if path.startswith("embed/"):
        table = decoder.embed.table[...]
        row = table.at[emb_token_id]
    else:
        assert decoder.head is not None
        table = decoder.head.kernel[...]
        row = table.at[:, emb_token_id]
    assert isinstance(table.sharding, jax.NamedSharding)
    replicated = jax.NamedSharding(table.sharding.mesh, jax.P(None))
    return global_to_host(row.get(out_sharding=replicated)).astype(np.float32)


def _set(leaf: nnx.Variable, values: np.ndarray, mesh_context: MeshContext) -> None:
    """Gives an abstract leaf its values, sharded as it is."""
    leaf.set_value(jax.device_put(values, on_mesh(leaf.get_value(), mesh_context).sharding))
