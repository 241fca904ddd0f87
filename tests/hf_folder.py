"""A Hugging Face folder as others make them: random weights, and a tokenizer without our token."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from t1_jax.hub import hf_config_from_decoder
from t1_jax.hub.weight_map import expected_tensors
from t1_jax.model import DecoderConfig
from t1_jax.text import T1Tokenizer


def write_hf_folder(
    folder: Path, shape: DecoderConfig, tokenizer: T1Tokenizer, *, scale: float, seed: int = 0
) -> Path:
    """Writes a model of this shape and the tokenizer's vocabulary, which has a spare token.

    Args:
        folder: made here.
        shape: of the decoder; its vocabulary is replaced.
        tokenizer: with `<emb_token>`, which becomes the spare `<empty_output>`.
        scale: standard deviation of the weights.
        seed: of the weights.
    """
    folder.mkdir(parents=True)
    description = json.loads(tokenizer.tokenizer.to_str())
    for token in description["added_tokens"]:
        if token["content"] == "<emb_token>":
            token["content"] = "<empty_output>"
    vocabulary = description["model"]["vocab"]
    vocabulary["<empty_output>"] = vocabulary.pop("<emb_token>")
    (folder / "tokenizer.json").write_text(json.dumps(description))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    )
    shape = replace(shape, vocab_size=tokenizer.vocab_size + 3)
    random = np.random.default_rng(seed)
    tensors = {
        name: (random.standard_normal(size) * scale + name.endswith("norm.weight")).astype("f4")
        for name, size in expected_tensors(shape).items()
    }
    (folder / "config.json").write_text(json.dumps(hf_config_from_decoder(shape, dtype="float32")))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
