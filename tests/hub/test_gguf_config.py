"""GGUF metadata: the decoder it describes, and refusals by key."""

import dataclasses
from pathlib import Path

import pytest

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.hub.gguf_config import decoder_config_from_gguf
from t1_jax.hub.gguf_file import read_gguf


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_config_comes_back(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, family: str, tied: bool
) -> None:
    config = tiny_config(family, tie_embeddings=tied, vocab_multiple=128)
    path = write_gguf(tmp_path / "m.gguf", config, random_tensors(config))
    assert decoder_config_from_gguf(read_gguf(path)) == config


def test_biases_are_told_by_the_tensors(
    tmp_path: Path, tiny_config, random_tensors, write_gguf
) -> None:
    config = tiny_config(qkv_bias=True, out_bias=True, mlp_bias=True, vocab_multiple=128)
    path = write_gguf(tmp_path / "m.gguf", config, random_tensors(config))
    assert decoder_config_from_gguf(read_gguf(path)) == config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama__expert_count", 8, "expert_count = 8"),
        ("llama__attention__sliding_window", 128, "attention.sliding_window = 128"),
        ("llama__rope__scaling__type", "yarn", "rope.scaling.type 'yarn'"),
        ("split__count", 2, "one file of several"),
        ("llama__rope__dimension_count", 2, "heads of several sizes"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, key: str, value, message: str
) -> None:
    config = tiny_config()
    path = write_gguf(tmp_path / "m.gguf", config, random_tensors(config), **{key: value})
    with pytest.raises(UnsupportedError, match=message):
        decoder_config_from_gguf(read_gguf(path))


def test_the_scaled_rope_of_llama_3_1_is_refused(
    tmp_path: Path, tiny_config, random_tensors, write_gguf
) -> None:
    config = tiny_config()
    tensors = random_tensors(config)
    tensors["rope_freqs.weight"] = tensors["model.norm.weight"]
    path = write_gguf(tmp_path / "m.gguf", config, tensors)
    with pytest.raises(UnsupportedError, match=r"rope_freqs\.weight"):
        decoder_config_from_gguf(read_gguf(path))


def test_another_architecture_is_refused(
    tmp_path: Path, tiny_config, random_tensors, write_gguf
) -> None:
    config = tiny_config("qwen3")
    path = write_gguf(tmp_path / "m.gguf", config, random_tensors(config))
    with pytest.raises(UnsupportedError, match="architecture 'qwen3' .* known: llama, qwen2"):
        decoder_config_from_gguf(read_gguf(path))


@pytest.mark.parametrize("key", ["llama.block_count", "llama.rope.freq_base"])
def test_a_missing_key_is_named(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, key: str
) -> None:
    config = tiny_config()
    file = read_gguf(write_gguf(tmp_path / "m.gguf", config, random_tensors(config)))
    kept = {name: value for name, value in file.metadata.items() if name != key}
    with pytest.raises(ConfigError, match=key.removeprefix("llama.")):
        decoder_config_from_gguf(dataclasses.replace(file, metadata=kept))
