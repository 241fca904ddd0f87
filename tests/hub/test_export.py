"""Export: bit-exact round trips, whole or absent, and loadable by transformers."""

import dataclasses
import errno
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from t1_jax.errors import ConfigError, T1Error, UnsupportedError, WeightsError
from t1_jax.hub import export, safetensors_writer
from t1_jax.hub.card import ModelCardData
from t1_jax.hub.checkpoint import Checkpoint, open_checkpoint
from t1_jax.hub.emb_token import add_emb_token
from t1_jax.hub.export import ExportOptions, export_folder
from t1_jax.hub.load import load_decoder_state
from t1_jax.hub.sentence_transformers import DocumentPrompt

SHAPES = [
    ("llama", {}),
    ("llama", {"tie_embeddings": False, "qkv_bias": True, "out_bias": True, "mlp_bias": True}),
    ("qwen2", {"tie_embeddings": False}),
    ("qwen3", {"windows": (0, 64, 64)}),
]


def export_again(folder: Path, checkpoint: Checkpoint, state, **changes: dict[str, Any]) -> None:
    """Exports an opened T1 checkpoint with changed parts."""
    assert checkpoint.metadata is not None
    side = {"head_ids": (), "text_prefix": "", "tail_ids": (264,), "max_tokens": 64}
    export_folder(
        folder,
        state,
        dataclasses.replace(checkpoint.config, **changes.get("config", {})),
        dataclasses.replace(checkpoint.tokenizer, **changes.get("tokenizer", {})),
        dataclasses.replace(checkpoint.metadata, **changes.get("metadata", {})),
        DocumentPrompt(**(side | changes.get("side", {}))),
        ModelCardData(name="Tiny"),
    )


@pytest.mark.parametrize(("family", "changes"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_round_trip_is_bit_exact(export_tiny, family: str, changes, dtype: str) -> None:
    tensors, base, folder = export_tiny(family, dtype, **changes)
    before, after = open_checkpoint(base), open_checkpoint(folder)
    assert set(after.source.names()) == set(tensors)
    for name, expected in tensors.items():
        read = after.source.read(name)
        assert (read.dtype, read.shape) == (expected.dtype, expected.shape)
        assert read.tobytes() == expected.tobytes(), name
    assert after.config == before.config
    assert after.stored_dtype == dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_survives_float32_masters(export_tiny, dtype: str) -> None:
    tensors, _, folder = export_tiny("qwen3", dtype, compute="float32")
    source = open_checkpoint(folder).source
    for name, expected in tensors.items():
        assert source.read(name).tobytes() == expected.tobytes(), name


def test_shards_and_one_file_hold_the_same(export_tiny) -> None:
    tensors, _, folder = export_tiny(options=ExportOptions(max_shard_bytes=5_000))
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    source = open_checkpoint(folder).source
    for name, expected in tensors.items():
        np.testing.assert_array_equal(source.read(name), expected)


def test_the_checkpoint_that_comes_back_is_a_t1(export_tiny) -> None:
    _, base, folder = export_tiny()
    checkpoint = open_checkpoint(folder)
    assert checkpoint.metadata is not None
    assert checkpoint.metadata.emb_token_id == checkpoint.tokenizer.emb_token_id == 264
    assert checkpoint.metadata.base_fingerprint == open_checkpoint(base).fingerprint
    assert checkpoint.tokenizer.eos_ids == (262,)
    assert checkpoint.tokenizer.special_tokens["pad_token"] == "<|end|>"
    assert checkpoint.tokenizer.chat_template == "{{ messages }}<|im_start|>"
    assert checkpoint.tokenizer.generation_config["temperature"] == 0.7


def test_a_second_export_of_the_same_is_the_same(export_tiny, abstract, tmp_path: Path) -> None:
    _, _, folder = export_tiny("qwen2", "bfloat16")
    first = open_checkpoint(folder)
    state = load_decoder_state(first.source, first.config, abstract(first.config, "float32"))
    again = tmp_path / "again"
    export_again(again, first, state)
    assert open_checkpoint(again).fingerprint == first.fingerprint
    for name in ("generation_config.json", "special_tokens_map.json", "t1.json"):
        assert (again / name).read_text() == (folder / name).read_text()


def test_transformers_reads_the_config_and_the_tokenizer(export_tiny) -> None:
    _, _, folder = export_tiny("qwen3")
    config = transformers.AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.head_dim, config.vocab_size) == ("qwen3", 4, 300)
    assert config.rope_parameters["rope_theta"] == 5e4
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer("hello<emb_token>").input_ids == [259, 264]
    assert tokenizer.decode([259, 264], skip_special_tokens=True) == "hello"
    assert (tokenizer.eos_token, tokenizer.chat_template[:3]) == ("<|end|>", "{{ ")
    generation = transformers.GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == [262, 264]


@pytest.mark.parametrize(("family", "changes"), SHAPES, ids=str)
def test_transformers_reads_the_weights(export_tiny, family: str, changes) -> None:
    torch = pytest.importorskip("torch")
    tensors, _, folder = export_tiny(family, "bfloat16", **changes)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16
    ).state_dict()
    for name, expected in tensors.items():
        assert theirs[name].view(torch.uint16).numpy().tobytes() == expected.tobytes(), name


def test_a_sharded_state_is_gathered_layer_by_layer(export_tiny, abstract, tmp_path: Path) -> None:
    tensors, _, folder = export_tiny()
    checkpoint = open_checkpoint(folder)
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"))
    with jax.set_mesh(mesh):
        placed = {
            path: jax.ShapeDtypeStruct(
                leaf.shape,
                leaf.dtype,
                sharding=jax.NamedSharding(
                    mesh, jax.P(None, "fsdp", "tensor") if "q/kernel" in path else jax.P()
                ),
            )
            for path, leaf in abstract(checkpoint.config).items()
        }
        state = load_decoder_state(checkpoint.source, checkpoint.config, placed)
        export_again(tmp_path / "again", checkpoint, state)
    source = open_checkpoint(tmp_path / "again").source
    for name, expected in tensors.items():
        np.testing.assert_array_equal(source.read(name), expected)


def test_a_full_disk_leaves_nothing_and_says_so(export_tiny, tmp_path: Path, monkeypatch) -> None:
    written = []

    def full(path, *args) -> None:
        path.write_bytes(b"half")
        written.append(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors_writer, "_write_shard", full)
    with pytest.raises(T1Error, match=r"exported could not be written: No space left"):
        export_tiny()
    assert written
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_full_disk_keeps_what_stood_there_before(export_tiny, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "old").write_text("kept")
    with pytest.raises(T1Error, match="already exists"):
        export_tiny()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "write_sentence_transformers", full)
    with pytest.raises(T1Error, match="could not be written"):
        export_tiny(options=ExportOptions(overwrite=True))
    assert [path.name for path in folder.iterdir()] == ["old"]


def test_a_value_beyond_float16_is_refused_by_tensor(export_tiny, abstract, tmp_path) -> None:
    _, _, folder = export_tiny()
    checkpoint = open_checkpoint(folder)
    state = load_decoder_state(checkpoint.source, checkpoint.config, abstract(checkpoint.config))
    state["final_norm/scale"] = jnp.full(12, 1e6)
    with pytest.raises(
        WeightsError, match=r"not finite in float16 .*65504.*\n.*model\.norm\.weight"
    ):
        export_again(tmp_path / "half", checkpoint, state, metadata={"stored_dtype": "float16"})
    assert not (tmp_path / "half").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"metadata": {"emb_token_id": 5}},
            WeightsError,
            "id 264 in the tokenizer and 5 in the metadata",
        ),
        ({"metadata": {"stored_dtype": "int8"}}, ConfigError, "unknown dtype 'int8'"),
        (
            {"config": {"mlp_bias": True, "family": "qwen3", "qk_norm": True}},
            UnsupportedError,
            "cannot represent",
        ),
        ({"config": {"vocab_size": 264}}, WeightsError, "ids up to 264, the vocabulary only 264"),
        ({"without": "embed/table"}, WeightsError, "state lacks embed/table"),
        ({"side": {"tail_ids": (264, 262)}}, ConfigError, "must end with <emb_token>"),
        (
            {"tokenizer": {"special_tokens": {}, "eos_ids": ()}},
            ConfigError,
            "neither pad_token nor eos_token",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_refused_before_it_is(
    export_tiny, abstract, tmp_path: Path, change, error, message: str
) -> None:
    _, _, folder = export_tiny()
    checkpoint = open_checkpoint(folder)
    state = load_decoder_state(checkpoint.source, checkpoint.config, abstract(checkpoint.config))
    state.pop(change.pop("without", ""), None)
    with pytest.raises(error, match=message):
        export_again(tmp_path / "never", checkpoint, state, **change)
    assert not (tmp_path / "never").exists()


def test_sizes_of_shards_are_positive() -> None:
    with pytest.raises(ConfigError, match="max_shard_bytes"):
        ExportOptions(max_shard_bytes=0)


def test_every_file_is_valid_json(export_tiny) -> None:
    _, _, folder = export_tiny()
    files = list(folder.rglob("*.json"))
    assert len(files) >= 14
    for file in files:
        json.loads(file.read_text())


def test_a_qwen2_model_with_a_tokenizer_of_another_family_is_not_exported(
    export_tiny, abstract, tiny_tokenizer, tmp_path: Path
) -> None:
    """A GGUF file may have one; transformers would read other ids than T1 does."""
    _, _, folder = export_tiny("qwen2")
    checkpoint = open_checkpoint(folder)
    state = load_decoder_state(checkpoint.source, checkpoint.config, abstract(checkpoint.config))
    foreign, _ = add_emb_token(tiny_tokenizer(), 300)
    with pytest.raises(UnsupportedError, match=r"with Qwen2Tokenizer.*: .*pre_tokenizer"):
        export_again(tmp_path / "x", checkpoint, state, tokenizer={"backend": foreign.backend})
    assert not (tmp_path / "x").exists()
