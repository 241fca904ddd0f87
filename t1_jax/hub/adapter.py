"""LoRA adapters in PEFT's layout, written and read back.

A folder holds `adapter_config.json` and `adapter_model.safetensors`, as
`peft.PeftModel.from_pretrained` wants them, beside `t1.json`: what an adapter of T1 says about
itself and about the base model it belongs to.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import save

from t1_jax.errors import ConfigError, UnsupportedError, WeightsError
from t1_jax.files import atomic_folder, sha256_of
from t1_jax.hub.assets import MODELS
from t1_jax.hub.card import CardFacts, render_adapter_card
from t1_jax.hub.json_files import read_json, to_json
from t1_jax.hub.metadata import T1_FILE, AdapterMetadata, read_adapter_metadata
from t1_jax.hub.safetensors_source import SafetensorsSource
from t1_jax.hub.sources import STORED_DTYPES, CheckedCast
from t1_jax.hub.tokenizer import ModelTokenizer
from t1_jax.hub.weight_map import Rule, from_hf, hf_names, hf_shape, rules_for, to_hf
from t1_jax.model import LORA_TARGETS, Decoder, DecoderConfig, LoraConfig, LoraParam, add_lora
from t1_jax.parallel import MeshContext, global_to_host

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_ROW = "token_adapter.trainable_tokens_delta"

_BASE_NAME = "base_model_name_or_path"

# Fields of PEFT that are read, or that do not change what a trained adapter computes. Any other
# that is set to something does, and is refused.
_READ = ("r", "lora_alpha", "use_rslora", "target_modules", "trainable_token_indices")
_INERT = (
    *(_BASE_NAME, "revision", "task_type", "auto_mapping", "inference_mode", "peft_version"),
    *("lora_dropout", "runtime_config", "layers_pattern", "megatron_core", "qalora_group_size"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "ensure_weight_tying"),
)
# Other ways to initialize an adapter change the base model's weights as well.
_NAMED = {"peft_type": ("LORA",), "bias": ("none",), "init_lora_weights": (True, False, "gaussian")}


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """An adapter whose files are all there and fit each other; its weights have not been read.

    Attributes:
        path: the folder.
        config: rank, scale and targets.
        metadata: which model it belongs to.
        fingerprint: hex SHA-256 of its config and weights.
    """

    path: Path
    config: LoraConfig
    metadata: AdapterMetadata
    fingerprint: str


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter rather than a model."""
    return (path / ADAPTER_CONFIG).exists() and not (path / "config.json").exists()


def tokenizer_hash(tokenizer: ModelTokenizer) -> str:
    """Hex SHA-256 of every token and its id."""
    tokens = json.dumps(sorted(tokenizer.backend.get_vocab().items()), ensure_ascii=True)
    return hashlib.sha256(tokens.encode()).hexdigest()


def export_adapter(
    folder: Path,
    decoder: Decoder,
    metadata: AdapterMetadata,
    card: CardFacts,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
) -> None:
    """Writes the adapter of a decoder, whole or not at all.

    All processes call it together, and the first one writes.

    Args:
        folder: must not exist, or be empty.
        decoder: with an adapter that is not merged.
        metadata: for `t1.json`.
        card: for the model card.
        dtype: the factors are stored in.
        overwrite: replace a folder that is not empty.

    Raises:
        ConfigError: an unknown dtype; the decoder has no adapter.
        WeightsError: a value that is not finite in `dtype`.
        T1Error: the folder is not empty, or the disk refused the data.
    """
    if decoder.lora is None:
        raise ConfigError("the decoder has no adapter", hint="export it as a model")
    if dtype not in STORED_DTYPES:
        raise ConfigError(f"weights are not stored as {dtype!r}; known: {', '.join(STORED_DTYPES)}")
    tensors = _to_peft(decoder, metadata.emb_token_id, STORED_DTYPES[dtype])
    if jax.process_index() != 0:
        return
    fields = _config_fields(decoder.lora, decoder.config, metadata)
    texts = {
        ADAPTER_CONFIG: to_json(fields),
        T1_FILE: to_json(metadata.to_fields()),
        "README.md": render_adapter_card(
            card,
            decoder.config,
            metadata,
            decoder.lora,
            dtype=dtype,
            base_name=str(fields[_BASE_NAME]),
        ),
    }
    with atomic_folder(folder, overwrite=overwrite) as scratch:
        # PEFT opens files that say they are of PyTorch only.
        (scratch / ADAPTER_WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8")


def read_adapter(folder: Path) -> Adapter:
    """Opens an adapter folder.

    Raises:
        WeightsError: a file is missing or damaged, or the adapter is not one of T1.
        UnsupportedError: a kind of adapter that is not honored, by the field that says so.
    """
    fields = read_json(folder / ADAPTER_CONFIG)
    for name, value in fields.items():
        known = value in _NAMED[name] if name in _NAMED else not value
        if not known and name not in _READ + _INERT:
            raise UnsupportedError(
                f"{folder / ADAPTER_CONFIG}: {name} is {value!r}, which is not honored",
                hint="merge the adapter with peft's merge_and_unload and import the result",
            )
    metadata = read_adapter_metadata(folder)
    weights = folder / ADAPTER_WEIGHTS
    if not weights.exists():
        raise WeightsError(f"{weights} is missing", hint="give the folder of a whole adapter")
    parts = [sha256_of(folder / ADAPTER_CONFIG), sha256_of(weights), str(metadata.emb_token_id)]
    return Adapter(
        path=folder,
        config=_lora_config(folder, fields, metadata),
        metadata=metadata,
        fingerprint=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
    )


def with_adapter(decoder: Decoder, adapter: Adapter, mesh_context: MeshContext) -> Decoder:
    """The base decoder with an adapter beside its weights: to train on, or to merge.

    Raises:
        WeightsError: the tensors are not those of this adapter on this decoder; all misfits are
            listed.
        ConfigError: `<emb_token>` is beyond the decoder's vocabulary.
    """
    source = check_adapter_fits(adapter, decoder.config)
    emb = adapter.metadata.emb_token_id
    with mesh_context.activate():
        adapted = add_lora(decoder, adapter.config, nnx.Rngs(0), emb_token_id=emb)
    leaves = {
        "/".join(map(str, path)): leaf
        for path, leaf in nnx.to_flat_state(nnx.state(adapted, LoraParam))
    }
    for rule in _rules(adapter.config, decoder.config):
        layers = [
            from_hf(rule, source.read(name).astype(np.float32), decoder.config)
            for name in hf_names(rule, decoder.config)
        ]
        _set(leaves[rule.path], np.stack(layers))
    for name, (path, _) in _rows(adapter.config, decoder.config).items():
        row = source.read(name).astype(np.float32)
        _set(leaves[path], row[0] - _base_row(adapted, path, emb))
    return adapted


def check_adapter_fits(adapter: Adapter, config: DecoderConfig) -> SafetensorsSource:
    """The tensors of an adapter, if they are those of this decoder; reads no values.

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
    found = set(source.names())
    faults = [f"missing: {name}" for name in sorted(expected.keys() - found)]
    faults += [f"unexpected: {name}" for name in sorted(found - expected.keys())]
    faults += [
        f"misshapen: {name} is of shape {source.shape(name)}, expected {shape}"
        for name, shape in expected.items()
        if name in found and source.shape(name) != shape
    ]
    if faults:
        raise WeightsError(
            f"{adapter.path}: the tensors do not fit the adapter's config and its base model "
            f"({len(faults)} faults):\n  " + "\n  ".join(faults),
            hint="take the adapter and the base model that belong together",
        )
    return source


def _config_fields(
    lora: LoraConfig, config: DecoderConfig, metadata: AdapterMetadata
) -> dict[str, object]:
    """`adapter_config.json`."""
    known = MODELS.get(metadata.base_model)
    modules = _modules(config)
    emb = [metadata.emb_token_id]
    rows: object = emb if config.tie_embeddings else {"embed_tokens": emb, "lm_head": emb}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        _BASE_NAME: known.hub_repo if known else metadata.base_model,
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
    """What `adapter_config.json` says, in our words."""
    ours = {f"{target}_proj": target for target in LORA_TARGETS}
    stated = fields.get("target_modules")
    if not isinstance(stated, list) or not set(stated) <= ours.keys():
        raise UnsupportedError(
            f"{folder / ADAPTER_CONFIG}: target_modules is {stated!r}, expected a list of some of "
            f"{', '.join(ours)}"
        )
    rows = fields.get("trainable_token_indices")
    named = list(rows.values()) if isinstance(rows, dict) else [rows]
    if rows is not None and any(row != [metadata.emb_token_id] for row in named):
        raise UnsupportedError(
            f"{folder / ADAPTER_CONFIG}: trainable_token_indices is {rows!r}, expected the one of "
            f"<emb_token>, {metadata.emb_token_id}"
        )
    try:
        return LoraConfig(
            rank=int(fields["r"]),
            alpha=float(fields["lora_alpha"]),
            targets=tuple(target for target in LORA_TARGETS if f"{target}_proj" in stated),
            emb_row=rows is not None,
            rslora=bool(fields.get("use_rslora", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder / ADAPTER_CONFIG} is damaged: {error!r}") from error


def _modules(config: DecoderConfig) -> dict[str, str]:
    """Our name of a projection -> that of the module which holds it in transformers."""
    return {target: rule.hf_name.split(".")[-2] for target, rule in _kernels(config).items()}


def _kernels(config: DecoderConfig) -> dict[str, Rule]:
    """The rule of every projection's kernel, by our name of the projection."""
    found = {tuple(rule.path.split("/")[-2:]): rule for rule in rules_for(config)}
    return {target: found[target, "kernel"] for target in LORA_TARGETS}


def _rules(lora: LoraConfig, config: DecoderConfig) -> list[Rule]:
    """PEFT's tensors and our factors, derived from the rules of the kernels.

    A kernel of torch is (out, in), in groups of letters; A is (rank, in) and B (out, rank).
    """
    rules = []
    kernels = _kernels(config)
    for target in lora.targets:
        rule = kernels[target]
        out, into = re.findall(r"\(.+?\)|\w", rule.pattern.split(" -> ")[0])
        base = f"{_PREFIX}{rule.hf_name.removesuffix('.weight')}"
        path = rule.path.removesuffix("kernel")
        rules += [
            Rule(f"{base}.lora_A.weight", f"{path}lora/a", f"r {into} -> {into.strip('()')} r"),
            Rule(f"{base}.lora_B.weight", f"{path}lora/b", f"{out} r -> r {out.strip('()')}"),
        ]
    return rules


def _rows(lora: LoraConfig, config: DecoderConfig) -> dict[str, tuple[str, str]]:
    """PEFT's tensor with the whole row of `<emb_token>` -> our delta, and the table it is added to.

    PEFT puts a tied head's row where the embedding's is.
    """
    if not lora.emb_row:
        return {}
    rows = {f"{_PREFIX}model.embed_tokens.{_ROW}": ("embed/row/delta", "embed/table")}
    if not config.tie_embeddings:
        rows[f"{_PREFIX}lm_head.{_ROW}"] = ("head/row/delta", "head/kernel")
    return rows


def _to_peft(decoder: Decoder, emb: int, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Every tensor of the adapter, as PEFT names and lays it out."""
    lora, config = decoder.lora, decoder.config
    assert lora is not None
    state = {
        "/".join(map(str, path)): leaf.get_value()
        for path, leaf in nnx.to_flat_state(nnx.state(decoder, LoraParam))
    }
    found: dict[str, np.ndarray] = {}
    for rule in _rules(lora, config):
        stacked = global_to_host(state[rule.path])
        for layer, name in enumerate(hf_names(rule, config)):
            found[name] = to_hf(rule, stacked[layer], config)
    for name, (path, _) in _rows(lora, config).items():
        found[name] = (_base_row(decoder, path, emb) + global_to_host(state[path]))[None]
    cast = CheckedCast(dtype)
    stored = {
        name: np.ascontiguousarray(cast.cast(values, f"tensor {name}"))
        for name, values in found.items()
    }
    cast.refuse_misfits()
    return stored


def _base_row(decoder: Decoder, path: str, emb: int) -> np.ndarray:
    """The row that a delta is added to, in float32."""
    if path.startswith("embed/"):
        table = decoder.embed.table[...]
        place = table.at[emb]
    else:
        assert decoder.head is not None
        table = decoder.head.kernel[...]
        place = table.at[:, emb]
    assert isinstance(table.sharding, jax.NamedSharding)
    everywhere = jax.NamedSharding(table.sharding.mesh, jax.P(None))
    return global_to_host(place.get(out_sharding=everywhere)).astype(np.float32)


def _set(leaf: nnx.Variable, values: np.ndarray) -> None:
    """New values, laid out as the old ones are."""
    leaf.set_value(jax.device_put(values, leaf.get_value().sharding))
