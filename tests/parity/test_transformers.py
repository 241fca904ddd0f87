"""Tiny random checkpoints of transformers compute the same here, and again after export."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from t1_jax.parallel import single_device_mesh_context
from t1_jax.retriever import T1
from tests.model.tiny import Model

torch = pytest.importorskip("torch")

LENGTH = 300  # positions past 256, where bf16 angles would go wrong
SHAPE: dict[str, Any] = {
    "vocab_size": 260,  # 256 bytes and 4 special tokens; padded here to 384
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,  # not 48 / 6
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-3,
    "rope_theta": 54_321.0,
    "tie_word_embeddings": True,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
WINDOW = {"use_sliding_window": True, "sliding_window": 37}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama-untied-biases-llama3": (
        "Llama",
        {
            "tie_word_embeddings": False,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "llama-linear-ungrouped": (
        "Llama",
        {"num_key_value_heads": 6, "rope_parameters": {"rope_type": "linear", "factor": 3.0}},
    ),
    "llama-yarn-mscale": (
        "Llama",
        {"rope_parameters": {**YARN, "mscale": 1.3, "mscale_all_dim": 0.7, "truncate": False}},
    ),
    "llama-dynamic": ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}),
    "mistral": ("Mistral", {"sliding_window": None, "tie_word_embeddings": False}),
    "mistral-window": ("Mistral", {"sliding_window": 37}),
    "qwen2-yarn": ("Qwen2", {"rope_parameters": YARN}),
    "qwen2-untied-windows": (
        "Qwen2",
        {"tie_word_embeddings": False, **WINDOW, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", {}),
    "qwen3-windows-bias-yarn": (
        "Qwen3",
        {
            "tie_word_embeddings": False,
            "attention_bias": True,
            **WINDOW,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {**YARN, "beta_fast": 16.0, "attention_factor": 1.1},
        },
    ),
}


def theirs(family: str, changes: Mapping[str, Any]) -> Any:
    """A model of transformers with every parameter random, biases and norms included."""
    fields = {"attn_implementation": "eager", **SHAPE, **changes}
    theta = fields.pop("rope_theta")
    fields["rope_parameters"] = {"rope_theta": theta, **fields.get("rope_parameters", {})}
    fields["rope_parameters"].setdefault("rope_type", "default")
    if family == "Qwen2":
        fields["head_dim"] = fields["hidden_size"] // fields["num_attention_heads"]
    config = getattr(transformers, f"{family}Config")(**fields)
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if "norm" in name else 0.2 * noise)
    return model


def write_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer without merges, whose ids fill the vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE({byte: i for i, byte in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<emb_token>"]
    backend.add_special_tokens([AddedToken(token, special=True) for token in specials])
    backend.save(str(folder / "tokenizer.json"))
    roles = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(roles))


def logits_of(model: Any, ids: np.ndarray) -> np.ndarray:
    """Logits as transformers computes them."""
    with torch.no_grad():
        return model(torch.from_numpy(ids).long()).logits.numpy()


def our_logits(model: T1, ids: np.ndarray) -> np.ndarray:
    """Logits as we compute them, without the padding of the vocabulary."""
    decoder = Model(model.decoder, single_device_mesh_context())
    return decoder.logits(ids)[..., : model.decoder.config.vocab_size]


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_those_of_transformers_before_and_after_export(
    case: str, tmp_path: Path
) -> None:
    original = theirs(*CASES[case])
    original.save_pretrained(tmp_path / "hf")
    write_tokenizer(tmp_path / "hf")
    ids = np.random.default_rng(0).integers(0, SHAPE["vocab_size"], (2, LENGTH), dtype=np.int32)
    expected = logits_of(original, ids)
    assert np.abs(expected).max() > 1  # else 1e-4 would say nothing

    ours = T1.load(tmp_path / "hf", dtype="float32")
    np.testing.assert_allclose(our_logits(ours, ids), expected, atol=1e-4)

    ours.save_pretrained(tmp_path / "t1")
    again = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "t1", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    assert type(again) is type(original)
    np.testing.assert_array_equal(logits_of(again, ids), expected)


def test_a_model_saved_without_its_head_computes_the_same(tmp_path: Path) -> None:
    """Qwen3-Embedding, and every save of sentence-transformers: no head and no `model.`."""
    original = theirs(*CASES["qwen3"])
    original.model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["Qwen3Model"]
    ids = np.random.default_rng(0).integers(0, SHAPE["vocab_size"], (2, LENGTH), dtype=np.int32)
    ours = our_logits(T1.load(tmp_path, dtype="float32"), ids)
    np.testing.assert_allclose(ours, logits_of(original, ids), atol=1e-4)


def test_logits_stay_equal_at_8192_positions(tmp_path: Path) -> None:
    """7.6e-5 apart; frequencies without float32 rounding: 1.9e-3: see `inverse_frequencies`."""
    length = 8192
    changes = {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "max_position_embeddings": length,
        "rope_theta": 1e6,
        "attn_implementation": "sdpa",  # eager would hold 8,192 x 8,192 weights a head
    }
    original = theirs("Qwen3", changes)
    with torch.no_grad():
        for layer in original.model.layers:
            layer.self_attn.q_norm.weight.mul_(5)  # sharp attention, which small turns change
    original.save_pretrained(tmp_path / "hf")
    write_tokenizer(tmp_path / "hf")
    ids = np.random.default_rng(0).integers(0, SHAPE["vocab_size"], (1, length), dtype=np.int32)
    expected = logits_of(original, ids)
    ours = our_logits(T1.load(tmp_path / "hf", dtype="float32"), ids)
    np.testing.assert_allclose(ours, expected, atol=2e-4)
