"""The GGUF header: whole files are read, damaged ones are refused and never loop."""

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t1_jax.errors import WeightsError
from t1_jax.hub.gguf_file import read_gguf


@pytest.fixture
def whole(tmp_path, tiny_config, random_tensors, write_gguf) -> Path:
    config = tiny_config(num_layers=1)
    return write_gguf(
        tmp_path / "model.gguf",
        config,
        random_tensors(config),
        general__alignment=64,
        tokenizer__ggml__tokens=["a", "é", "<|end|>"],
        tokenizer__ggml__token_type=[1, 1, 3],
        tokenizer__ggml__add_bos_token=False,
    )


def test_metadata_and_tensors_are_read(whole: Path) -> None:
    file = read_gguf(whole)
    assert file.metadata["general.architecture"] == "llama"
    assert file.metadata["llama.block_count"] == 1
    assert file.metadata["tokenizer.ggml.tokens"] == ["a", "é", "<|end|>"]
    assert file.metadata["tokenizer.ggml.token_type"] == [1, 1, 3]
    assert file.metadata["tokenizer.ggml.add_bos_token"] is False
    assert file.tensors["blk.0.attn_k.weight"].shape == (8, 12)
    assert all(tensor.start % 64 == 0 for tensor in file.tensors.values())


def test_a_file_cut_in_its_data_names_the_tensor(whole: Path) -> None:
    last = max(read_gguf(whole).tensors.items(), key=lambda item: item[1].start)[0]
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) - 64])
    with pytest.raises(WeightsError, match=rf"model\.gguf is truncated.*tensor {last} ends"):
        read_gguf(whole)


def test_a_file_cut_anywhere_is_refused(whole: Path) -> None:
    data = whole.read_bytes()
    for length in random.Random(0).sample(range(len(data) - 64), 40):
        whole.write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"model\.gguf"):
            read_gguf(whole)


@settings(max_examples=200)
@given(data=st.data())
def test_changed_bytes_in_the_header_never_hang_or_crash(tmp_path_factory, data) -> None:
    header = bytearray(_small_header())
    for _ in range(data.draw(st.integers(1, 4))):
        header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("changed") / "model.gguf"
    file.write_bytes(header)
    with contextlib.suppress(WeightsError):
        read_gguf(file)


def test_an_array_length_beyond_the_file_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(_small_header(array_length=1 << 60))
    with pytest.raises(WeightsError, match=f"{1 << 60} more bytes expected"):
        read_gguf(file)


@pytest.mark.parametrize(
    "content", [b"", b"GGU", b"safetensors are no GGUF file"], ids=["empty", "short", "other"]
)
def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a GGUF file"):
        read_gguf(file)


def test_an_alignment_that_is_none_is_refused(tmp_path, tiny_config, write_gguf) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny_config(), {}, general__alignment=0)
    with pytest.raises(WeightsError, match=r"general\.alignment is 0"):
        read_gguf(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(_small_header(version=9))
    with pytest.raises(WeightsError, match="is GGUF version 9; known: 2, 3"):
        read_gguf(file)


def _small_header(version: int = 3, array_length: int = 2) -> bytes:
    """One array of two uint8 and no tensors, byte by byte."""
    number = lambda value, size: value.to_bytes(size, "little")  # noqa: E731
    text = lambda value: number(len(value), 8) + value  # noqa: E731
    return (
        b"GGUF"
        + number(version, 4)
        + number(0, 8)
        + number(1, 8)
        + text(b"general.list")
        + number(9, 4)
        + number(0, 4)
        + number(array_length, 8)
        + b"\x01\x02"
    )
