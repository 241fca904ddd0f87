"""GGUF tensors: Hugging Face names and order, exact or dequantized, unknown formats refused."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from t1_jax.errors import WeightsError
from t1_jax.hub.gguf_file import read_gguf
from t1_jax.hub.gguf_source import GGUFSource, hf_name
from t1_jax.hub.weight_map import expected_tensors

KINDS = GGMLQuantizationType
# Half of one step of the quantization of values in about [-4, 4].
QUANTIZED = {KINDS.Q4_0: 0.6, KINDS.Q4_1: 0.4, KINDS.Q5_0: 0.3, KINDS.Q5_1: 0.2, KINDS.Q8_0: 0.03}
# Formats that `gguf` reads and does not write.
BLOCKS = tuple(
    getattr(KINDS, name)
    for name in (
        *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"),
        *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"),
    )
)


def wide(tiny_config, family: str, **changes):
    """Widths that divide into blocks of 32."""
    return tiny_config(family, embed_dim=32, mlp_dim=64, num_layers=2, head_dim=8, **changes)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_tensors_come_back_under_their_names_and_in_their_order(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, family: str, tied: bool
) -> None:
    config = wide(tiny_config, family, tie_embeddings=tied)
    tensors = random_tensors(config)
    source = GGUFSource(read_gguf(write_gguf(tmp_path / "m.gguf", config, tensors)))
    assert set(source.names()) == set(expected_tensors(config))
    for name, expected in tensors.items():
        assert source.shape(name) == expected.shape
        np.testing.assert_array_equal(source.read(name), expected, err_msg=name)


def test_biased_llama_is_put_back_in_order_too(
    tmp_path: Path, tiny_config, random_tensors, write_gguf
) -> None:
    config = wide(tiny_config, "llama", qkv_bias=True, out_bias=True)
    tensors = random_tensors(config)
    source = GGUFSource(read_gguf(write_gguf(tmp_path / "m.gguf", config, tensors)))
    for name, expected in tensors.items():
        np.testing.assert_array_equal(source.read(name), expected, err_msg=name)


@pytest.mark.parametrize("kind", [KINDS.F16, KINDS.BF16])
def test_half_precision_is_read_bit_for_bit(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, kind: GGMLQuantizationType
) -> None:
    config = wide(tiny_config, "qwen2")
    tensors = random_tensors(config)
    source = GGUFSource(read_gguf(write_gguf(tmp_path / "m.gguf", config, tensors, kind)))
    name = "model.layers.1.mlp.up_proj.weight"
    expected = tensors[name].astype(source.dtype(name))
    assert source.read(name).tobytes() == expected.tobytes()
    assert expected.itemsize == 2


@pytest.mark.parametrize(("kind", "step"), QUANTIZED.items(), ids=lambda value: str(value))
def test_block_formats_are_dequantized(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, kind: GGMLQuantizationType, step: float
) -> None:
    config = wide(tiny_config, "llama")
    tensors = random_tensors(config)
    source = GGUFSource(read_gguf(write_gguf(tmp_path / "m.gguf", config, tensors, kind)))
    for name, expected in tensors.items():
        read = source.read(name)
        assert read.dtype == source.dtype(name) == np.float32
        np.testing.assert_allclose(read, expected, atol=step if expected.ndim == 2 else 0)


def write_blocks(path: Path, raw: np.ndarray, kind: GGMLQuantizationType) -> GGUFSource:
    """A file of one tensor, stored as these blocks."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_tensor("blk.0.ffn_up.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GGUFSource(read_gguf(path))


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.name)
def test_other_block_formats_are_those_of_the_gguf_package(
    tmp_path: Path, kind: GGMLQuantizationType
) -> None:
    """`gguf` has no quantizer for these: bytes below 60, whose float16 scales are finite."""
    block, block_bytes = GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(0).integers(0, 60, (3, 2 * block_bytes), dtype=np.uint8)
    read = write_blocks(tmp_path / "k.gguf", raw, kind).read("model.layers.0.mlp.up_proj.weight")
    assert read.shape == (3, 2 * block)
    assert np.isfinite(read).all()
    np.testing.assert_array_equal(read, gguf.quants.dequantize(raw, kind))


def test_a_block_of_q5_k_by_hand(tmp_path: Path) -> None:
    """d = 0.5, dmin = 0, first sub-block: scale 3, low bits 7, high bit 1: 0.5 * 3 * (7 + 16)."""
    raw = np.zeros((1, GGML_QUANT_SIZES[KINDS.Q5_K][1]), np.uint8)
    raw[0, :2] = np.array([0.5], np.float16).view(np.uint8)
    raw[0, 4] = 3  # scale of the first 32 values
    raw[0, 16:48] = 1  # their high bits
    raw[0, 48:80] = 7  # their low bits
    read = write_blocks(tmp_path / "k.gguf", raw, KINDS.Q5_K).read(
        "model.layers.0.mlp.up_proj.weight"
    )
    np.testing.assert_array_equal(read, np.where(np.arange(256) < 32, 34.5, 0)[None])


def test_formats_that_gguf_cannot_read_are_named_and_refused(tmp_path: Path) -> None:
    raw = np.zeros((2, GGML_QUANT_SIZES[KINDS.TQ1_0][1]), np.uint8)
    with pytest.raises(WeightsError, match=r"blk\.0\.ffn_up\.weight \(TQ1_0\); known: F32, .*Q6_K"):
        write_blocks(tmp_path / "t.gguf", raw, KINDS.TQ1_0)


def test_names_without_a_counterpart_keep_their_own() -> None:
    assert hf_name("blk.12.attn_output.bias") == "model.layers.12.self_attn.o_proj.bias"
    assert hf_name("blk.12.ffn_gate_exps.weight") == "blk.12.ffn_gate_exps.weight"
    assert hf_name("rope_freqs.weight") == "rope_freqs.weight"


def test_location_names_the_tensor_as_the_file_does(
    tmp_path: Path, tiny_config, random_tensors, write_gguf
) -> None:
    config = wide(tiny_config, "qwen2")
    path = write_gguf(tmp_path / "m.gguf", config, random_tensors(config))
    source = GGUFSource(read_gguf(path))
    assert source.location("model.norm.weight") == f"tensor output_norm.weight in {path}"
