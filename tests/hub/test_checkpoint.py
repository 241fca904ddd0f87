"""Opening: every kind of checkpoint, and everything that is none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from t1_jax.errors import ConfigError, UnsupportedError, WeightsError
from t1_jax.hub.checkpoint import open_checkpoint
from t1_jax.hub.load import check_tensors


@pytest.fixture
def folder(tmp_path: Path, tiny_config, tiny_tokenizer, random_tensors, write_folder) -> Path:
    config = tiny_config(vocab_size=300)
    path = write_folder(tmp_path / "model", config, random_tensors(config, "bfloat16"), "bfloat16")
    tiny_tokenizer().backend.save(str(path / "tokenizer.json"))
    return path


def test_a_folder_is_opened(folder: Path, tiny_config) -> None:
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config == tiny_config(vocab_size=300, vocab_multiple=128)
    assert (checkpoint.stored_dtype, checkpoint.metadata) == ("bfloat16", None)
    assert checkpoint.tokenizer.backend.get_vocab_size() == 264
    check_tensors(checkpoint.source, checkpoint.config)


def test_a_gguf_file_is_opened(
    tmp_path: Path, tiny_config, tiny_vocabulary, random_tensors, write_gguf
) -> None:
    config = tiny_config("qwen2", vocab_size=270, vocab_multiple=128)
    tokens, merges = tiny_vocabulary()
    path = write_gguf(
        tmp_path / "m.gguf",
        config,
        random_tensors(config),
        tokenizer__ggml__model="gpt2",
        tokenizer__ggml__pre="qwen2",
        tokenizer__ggml__tokens=[*tokens, *(f"[PAD{i}]" for i in range(262, 270))],
        tokenizer__ggml__token_type=[1] * 262 + [5] * 8,
        tokenizer__ggml__merges=merges,
    )
    checkpoint = open_checkpoint(path)
    assert checkpoint.config == config
    assert checkpoint.tokenizer.assigned(270).sum() == 262
    assert (checkpoint.stored_dtype, checkpoint.metadata) == ("float32", None)
    check_tensors(checkpoint.source, checkpoint.config)


def test_the_fingerprint_covers_weights_config_and_tokenizer(folder: Path) -> None:
    found = {open_checkpoint(folder).fingerprint, open_checkpoint(folder).fingerprint}
    assert len(found) == 1
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    found.add(open_checkpoint(folder).fingerprint)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"rope_theta": 1.0} | {"rope_parameters": None})
    )
    found.add(open_checkpoint(folder).fingerprint)
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    found.add(open_checkpoint(folder).fingerprint)
    (folder / "README.md").write_text("words")
    found.add(open_checkpoint(folder).fingerprint)
    assert len(found) == 4


def test_weights_of_another_save_in_the_folder_change_nothing(folder: Path) -> None:
    before = open_checkpoint(folder).fingerprint
    (folder / "model-00001-of-00001.safetensors").write_bytes(b"old")
    (folder / "model.safetensors.index.json").write_text("{}")
    assert open_checkpoint(folder).fingerprint == before


def test_a_headless_save_in_a_folder_of_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    """Names without `model.`, the class Qwen3Model or LlamaModel, in `0_Transformer`."""
    whole = open_checkpoint(folder)
    tensors = {name: np.array(whole.source.read(name)) for name in whole.source.names()}
    inner = tmp_path / "st" / "0_Transformer"
    shutil.copytree(folder, inner)
    bare = {name.removeprefix("model."): values for name, values in tensors.items()}
    save_file(bare, inner / "model.safetensors")
    fields = json.loads((inner / "config.json").read_text())
    (inner / "config.json").write_text(json.dumps(fields | {"architectures": ["LlamaModel"]}))
    (tmp_path / "st" / "modules.json").write_text("[]")
    opened = open_checkpoint(tmp_path / "st")
    check_tensors(opened.source, opened.config)
    for name, values in tensors.items():
        np.testing.assert_array_equal(opened.source.read(name), values)


def test_a_folder_of_a_model_and_an_adapter_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(WeightsError, match="both a model .* and an adapter"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        (
            [],
            "is not a model: it has no config.json",
            "config.json, tokenizer.json and safetensors",
        ),
        (["notes.txt"], "is not a model", "or a .gguf file"),
        (["adapter_config.json"], "is a LoRA adapter", "merge_and_unload"),
        (["a.gguf", "b.gguf"], "is not a model", "give one of its files: a.gguf, b.gguf"),
    ],
    ids=str,
)
def test_a_folder_that_is_not_a_model_says_what_it_is(
    tmp_path: Path, files: list[str], message: str, hint: str
) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(tmp_path)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="gone does not exist"):
        open_checkpoint(tmp_path / "gone")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(WeightsError, match="link is a broken link"):
        open_checkpoint(tmp_path / "link")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(WeightsError, match=r"x\.pt is not a GGUF file"):
        open_checkpoint(tmp_path / "x.pt")


def test_pickled_weights_are_never_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pickled .bin files, which are not supported"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model_type": "mamba"}, UnsupportedError, "architecture 'mamba'"),
        ({"hidden_act": "gelu"}, UnsupportedError, "hidden_act = 'gelu'"),
        ({"hidden_size": None}, ConfigError, "hidden_size must be an integer"),
        ({"vocab_size": 263}, WeightsError, "ids up to 263, the vocabulary only 263 rows"),
    ],
    ids=str,
)
def test_faults_of_the_config_name_the_file(folder: Path, change, error, message: str) -> None:
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | change))
    with pytest.raises(error, match=message) as caught:
        open_checkpoint(folder)
    if "vocab_size" not in change:
        assert caught.value.message.startswith(str(folder / "config.json"))


def test_a_tokenizer_without_the_token_of_t1_json_is_refused(folder: Path) -> None:
    (folder / "t1.json").write_text(
        json.dumps(
            {
                "format": 1,
                "emb_token_id": 264,
                "emb_token_mode": "unused",
                "stored_dtype": "bfloat16",
                "prompt": {},
                "base_model": "x",
                "base_fingerprint": "y",
            }
        )
    )
    with pytest.raises(WeightsError, match=r"id 264 in t1\.json and None in tokenizer\.json"):
        open_checkpoint(folder)
