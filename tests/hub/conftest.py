"""Tiny checkpoints of every family and shape, made on the spot."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import jax
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from t1_jax.hub.card import ModelCardData
from t1_jax.hub.checkpoint import open_checkpoint
from t1_jax.hub.emb_token import add_emb_token
from t1_jax.hub.export import export_folder
from t1_jax.hub.hf_config import hf_config_from_decoder
from t1_jax.hub.load import load_decoder_state
from t1_jax.hub.metadata import T1Metadata
from t1_jax.hub.sentence_transformers import DocumentPrompt
from t1_jax.hub.sources import STORED_DTYPES
from t1_jax.hub.tokenizer import ModelTokenizer
from t1_jax.hub.weight_map import expected_tensors, param_shape, rules_for
from t1_jax.model import DecoderConfig, RopeConfig


def _tiny_config(family: str = "llama", **changes: Any) -> DecoderConfig:
    """D=12 and H=4 with 4 heads, so that D is not N * H; V=37 is padded to 40."""
    of_family = {
        "llama": {},
        "mistral": {},
        "qwen2": {"qkv_bias": True},
        "qwen3": {"qk_norm": True},
    }
    shape: dict[str, Any] = {
        "family": family,
        "vocab_size": 37,
        "vocab_multiple": 8,
        "embed_dim": 12,
        "num_layers": 3,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 4,
        "mlp_dim": 20,
        "norm_eps": 1e-5,
        "rope": RopeConfig(theta=5e4),
        "max_positions": 512,
        **of_family[family],
    }
    return DecoderConfig(**(shape | changes))


def _random_tensors(
    config: DecoderConfig, dtype: str = "float32", seed: int = 0
) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        name: generator.standard_normal(shape).astype(STORED_DTYPES[dtype])
        for name, shape in expected_tensors(config).items()
    }


def _abstract(config: DecoderConfig, dtype: str = "float32") -> dict[str, jax.ShapeDtypeStruct]:
    """What the model asks for: stacked layers, padded vocabulary, one device."""
    leaves = {}
    for rule in rules_for(config):
        shape = [config.num_layers] * rule.stacked + [*param_shape(rule, config)]
        if rule.vocab_axis is not None:
            shape[rule.vocab_axis] = config.padded_vocab_size
        leaves[rule.path] = jax.ShapeDtypeStruct(tuple(shape), STORED_DTYPES[dtype])
    return leaves


def _write_folder(
    folder: Path, config: DecoderConfig, tensors: Mapping[str, np.ndarray], dtype: str = "float32"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    fields = hf_config_from_decoder(config, dtype=dtype)
    (folder / "config.json").write_text(json.dumps(fields))
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


_GGUF_NAMES = (
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
    ("model.layers.", "blk."),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.", "attn_"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.", "ffn_"),
    ("_proj", ""),
)


def _write_gguf(
    path: Path,
    config: DecoderConfig,
    tensors: Mapping[str, np.ndarray],
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    **metadata: Any,
) -> Path:
    """What llama.cpp's converter writes: matrices in `kind`, the rest in F32."""
    writer = gguf.GGUFWriter(path, config.family)
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.embed_dim)
    writer.add_feed_forward_length(config.mlp_dim)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    for key, value in metadata.items():
        key = key.replace("__", ".")
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        else:
            writer.add_uint32(key, value)
    for name, values in tensors.items():
        if config.family == "llama":
            values = _permuted(name, values, config)
        for theirs, gguf_name in _GGUF_NAMES:
            name = name.replace(theirs, gguf_name)
        stored = kind if values.ndim == 2 else GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _permuted(name: str, values: np.ndarray, config: DecoderConfig) -> np.ndarray:
    """The order of rows that llama.cpp's converter gives q and k: rotary pairs side by side."""
    heads = {"q_proj": config.num_heads, "k_proj": config.num_kv_heads}
    for projection, n in heads.items():
        if projection in name:
            halves = values.reshape(n, 2, values.shape[0] // n // 2, *values.shape[1:])
            return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
    return values


def _tiny_vocabulary() -> tuple[list[str], list[str]]:
    """The 256 bytes and a few merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "1"), ("1", "2")]
    return [*letters, *("".join(pair) for pair in pairs)], [" ".join(pair) for pair in pairs]


def _tiny_tokenizer(specials: tuple[str, ...] = ("<|end|>", "<|im_start|>")) -> ModelTokenizer:
    """Byte-level BPE of 262 tokens, then `specials`; the first of them ends a text."""
    tokens, merges = _tiny_vocabulary()
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(BPE(vocabulary, [(a, b) for a, b in map(str.split, merges)]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True) for text in specials])
    return ModelTokenizer(
        backend=backend,
        special_tokens={"eos_token": specials[0], "pad_token": specials[0]},
        eos_ids=(len(tokens),),
        chat_template="{{ messages }}<|im_start|>",
        generation_config={"eos_token_id": len(tokens), "temperature": 0.7},
    )


@pytest.fixture
def tiny_vocabulary() -> Callable[[], tuple[list[str], list[str]]]:
    return _tiny_vocabulary


@pytest.fixture
def tiny_tokenizer() -> Callable[..., ModelTokenizer]:
    return _tiny_tokenizer


@pytest.fixture
def write_gguf() -> Callable[..., Path]:
    return _write_gguf


@pytest.fixture
def tiny_config() -> Callable[..., DecoderConfig]:
    return _tiny_config


@pytest.fixture
def random_tensors() -> Callable[..., dict[str, np.ndarray]]:
    return _random_tensors


@pytest.fixture
def abstract() -> Callable[..., dict[str, jax.ShapeDtypeStruct]]:
    return _abstract


@pytest.fixture
def write_folder() -> Callable[..., Path]:
    return _write_folder


def _write_tiny_tokenizer(folder: Path, tokenizer: ModelTokenizer) -> None:
    tokenizer.backend.save(str(folder / "tokenizer.json"))
    roles = {**tokenizer.special_tokens, "unk_token": None}  # Qwen2 would have one of its own
    config = {**roles, "chat_template": tokenizer.chat_template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps(tokenizer.generation_config))


@pytest.fixture
def export_tiny(tmp_path, tiny_config, tiny_tokenizer, random_tensors, write_folder, abstract):
    """HF folder -> our state -> exported folder; returns the tensors and both folders."""

    def run(
        family: str = "llama",
        dtype: str = "float32",
        *,
        options=None,
        compute=None,
        prepare=_write_tiny_tokenizer,
        **changes,
    ):
        changes = {"vocab_size": 300, "vocab_multiple": 128, "num_kv_heads": 4} | changes
        config = tiny_config(family, **changes)
        tensors = random_tensors(config, dtype)
        base = write_folder(tmp_path / "base", config, tensors, dtype)
        prepare(base, tiny_tokenizer())
        checkpoint = open_checkpoint(base)
        tokenizer, emb = add_emb_token(checkpoint.tokenizer, config.vocab_size)
        state = load_decoder_state(checkpoint.source, config, abstract(config, compute or dtype))
        metadata = T1Metadata(
            emb_token_id=emb.id,
            emb_token_mode=emb.mode,
            stored_dtype=dtype,
            prompt={"name": "t1", "version": "1", "hash": "abc"},
            base_model="base",
            base_fingerprint=checkpoint.fingerprint,
        )
        side = DocumentPrompt(
            head_ids=(263,), text_prefix="a", tail_ids=(262, emb.id), max_tokens=64
        )
        folder = tmp_path / "exported"
        export_folder(
            folder,
            state,
            config,
            tokenizer,
            metadata,
            side,
            ModelCardData(name="Tiny"),
            options,
            other_fields=checkpoint.other_fields,
        )
        return tensors, base, folder

    return run


@pytest.fixture(scope="session")
def tiny_files() -> Callable[[], dict[str, Any]]:
    """File name -> content of a tokenizer and what goes with it."""

    def make() -> dict[str, Any]:
        backend = _tiny_tokenizer().backend
        added = backend.get_added_tokens_decoder()
        entries = {str(index): token.__getstate__() for index, token in added.items()}
        return {
            "config.json": {"model_type": "llama", "eos_token_id": 262},
            "generation_config.json": {"eos_token_id": [262, 5], "temperature": 0.7},
            "tokenizer.json": json.loads(backend.to_str()),
            "tokenizer_config.json": {
                "added_tokens_decoder": entries,
                "additional_special_tokens": ["<|im_start|>"],
                "chat_template": [{"name": "default", "template": "{{ messages }}"}],
                "eos_token": {"__type": "AddedToken", "content": "<|end|>", "special": True},
                "model_max_length": 4096,
                "pad_token": "<|end|>",
                "padding_side": "left",
                "tokenizer_class": "PreTrainedTokenizerFast",
            },
            "special_tokens_map.json": {"eos_token": "<|end|>", "pad_token": "<|end|>"},
            "added_tokens.json": {"<|end|>": 262, "<|im_start|>": 263},
        }

    return make
