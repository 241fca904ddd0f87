"""GGUF metadata: the decoder it describes, and refusals by key."""

import contextlib
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t1_jax.errors import ConfigError, T1Error, UnsupportedError
from t1_jax.hub.gguf_config import decoder_config_from_gguf
from t1_jax.hub.gguf_file import read_gguf
from t1_jax.hub.gguf_source import GGUFSource
from t1_jax.model import RopeConfig


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
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
        ("llama__rope__scaling__type", "longrope", "rope.scaling.type 'longrope'"),
        ("llama__rope__scaling__yarn_log_multiplier", 1, "yarn_log_multiplier = 1"),
        ("split__count", 2, "one file of several"),
        ("llama__rope__dimension_count", 2, "heads of different sizes"),
    ],
)
def test_what_is_not_honored_is_refused_by_name(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, key: str, value, message: str
) -> None:
    config = tiny_config()
    path = write_gguf(tmp_path / "m.gguf", config, random_tensors(config), **{key: value})
    with pytest.raises(UnsupportedError, match=message):
        decoder_config_from_gguf(read_gguf(path))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        # llama.cpp: rope_scaling = "linear" unless the file says otherwise.
        ({"rope.scaling.factor": 4.0}, RopeConfig(theta=5e4, kind="linear", factor=4.0)),
        ({"rope.scale_linear": 4.0}, RopeConfig(theta=5e4, kind="linear", factor=4.0)),
        ({"rope.scaling.factor": 1.0}, RopeConfig(theta=5e4)),
        ({"rope.scaling.factor": 0.0}, RopeConfig(theta=5e4)),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, RopeConfig(theta=5e4)),
        ({"rope.scaling.type": "linear"}, RopeConfig(theta=5e4)),
        ({"rope.freq_base": None}, RopeConfig(theta=1e4)),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0},
            RopeConfig(
                theta=5e4,
                kind="yarn",
                factor=4.0,
                original_max_positions=512,
                attention_factor=0.1 * math.log(4) + 1,
            ),
        ),
        (
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 4.0,
                "rope.scaling.original_context_length": 128,
                "rope.scaling.attn_factor": 0.5,
                "rope.scaling.yarn_beta_fast": 16.0,
                "rope.scaling.yarn_beta_slow": 2.0,
            },
            RopeConfig(
                theta=5e4,
                kind="yarn",
                factor=4.0,
                original_max_positions=128,
                beta_fast=16.0,
                beta_slow=2.0,
                attention_factor=0.5 * (0.1 * math.log(4) + 1),
            ),
        ),
    ],
    ids=str,
)
def test_rope_is_scaled_as_in_llama_cpp(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, metadata, expected: RopeConfig
) -> None:
    config = tiny_config()
    file = read_gguf(write_gguf(tmp_path / "m.gguf", config, random_tensors(config)))
    fields = {**file.metadata, **{f"llama.{key}": value for key, value in metadata.items()}}
    fields = {key: value for key, value in fields.items() if value is not None}
    assert decoder_config_from_gguf(dataclasses.replace(file, metadata=fields)).rope == expected


def converted_factors(theta: float, dim: int, factor: float, low: float = 1.0) -> np.ndarray:
    """`rope_freqs` as llama.cpp's convert_hf_to_gguf.py writes it (LlamaModel)."""
    found = []
    for exponent in range(0, dim, 2):
        length = 2 * math.pi * theta ** (exponent / dim)
        smooth = (8192 / length - low) / (4 - low)
        between = 1 / ((1 - smooth) / factor + smooth) if 0 <= smooth <= 1 else 0.0
        found.append(1.0 if length < 8192 / 4 else factor if length > 8192 / low else between)
    return np.array(found, np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_divisors_of_llama_3_1_become_its_scaling(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, factor: float
) -> None:
    config = tiny_config(head_dim=64, rope=RopeConfig(theta=5e5))
    tensors = random_tensors(config) | {"rope_freqs.weight": converted_factors(5e5, 64, factor)}
    file = read_gguf(write_gguf(tmp_path / "m.gguf", config, tensors))
    assert decoder_config_from_gguf(file).rope == RopeConfig(
        theta=5e5,
        kind="llama3",
        factor=factor,
        original_max_positions=8192,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
    )
    assert "rope_freqs.weight" not in GGUFSource(file).names()


def test_divisors_of_one_do_nothing(
    tmp_path: Path, tiny_config, random_tensors, write_gguf
) -> None:
    config = tiny_config()
    tensors = random_tensors(config) | {"rope_freqs.weight": np.ones(2, np.float32)}
    file = read_gguf(write_gguf(tmp_path / "m.gguf", config, tensors))
    assert decoder_config_from_gguf(file).rope == config.rope


@pytest.mark.parametrize(
    "factors",
    [converted_factors(5e5, 64, 8.0, low=2.0), np.full(3, 8.0, np.float32), np.zeros(32, "f4")],
    ids=["other parameters", "too few", "zeros"],
)
def test_other_divisors_are_refused(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, factors: np.ndarray
) -> None:
    config = tiny_config(head_dim=64, rope=RopeConfig(theta=5e5))
    tensors = random_tensors(config) | {"rope_freqs.weight": factors}
    path = write_gguf(tmp_path / "m.gguf", config, tensors)
    with pytest.raises(UnsupportedError, match=r"rope_freqs\.weight does not hold the divisors"):
        decoder_config_from_gguf(read_gguf(path))


def test_another_architecture_is_refused(
    tmp_path: Path, tiny_config, random_tensors, write_gguf
) -> None:
    config = tiny_config("mistral")
    path = write_gguf(tmp_path / "m.gguf", config, random_tensors(config))
    with pytest.raises(UnsupportedError, match="architecture 'mistral' .* known: llama, qwen2"):
        decoder_config_from_gguf(read_gguf(path))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("attention.head_count", 0, "head_count must be positive, got 0"),
        ("attention.head_count", "4", "head_count must be one integer, got '4'"),
        ("attention.head_count_kv", [2, 4, 2], r"head_count_kv must be one .*, got \[2, 4, 2\]"),
        ("block_count", 10**10, "num_layers must be at most 10000"),
        ("rope.freq_base", float("nan"), "rope.freq_base must be one number, got nan"),
        ("rope.freq_base", -1.0, "theta and factor must be positive"),
        ("rope.scaling.factor", "4", "rope.scaling.factor must be one number"),
        ("attention.layer_norm_rms_epsilon", [1e-5] * 99, r"must be one number, got \[.*\.\.\.\]$"),
    ],
)
def test_odd_values_are_named(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, key: str, value, message: str
) -> None:
    config = tiny_config()
    file = read_gguf(write_gguf(tmp_path / "m.gguf", config, random_tensors(config)))
    fields = file.metadata | {f"llama.{key}": value}
    with pytest.raises(ConfigError, match=message):
        decoder_config_from_gguf(dataclasses.replace(file, metadata=fields))


def test_a_number_given_for_every_layer_is_one_where_all_agree(
    tmp_path: Path, tiny_config, random_tensors, write_gguf
) -> None:
    config = tiny_config(vocab_multiple=128)
    file = read_gguf(write_gguf(tmp_path / "m.gguf", config, random_tensors(config)))
    fields = file.metadata | {"llama.attention.head_count_kv": [2, 2, 2]}
    assert decoder_config_from_gguf(dataclasses.replace(file, metadata=fields)) == config


@pytest.mark.parametrize("key", ["llama.block_count", "llama.context_length"])
def test_a_missing_key_is_named(
    tmp_path: Path, tiny_config, random_tensors, write_gguf, key: str
) -> None:
    config = tiny_config()
    file = read_gguf(write_gguf(tmp_path / "m.gguf", config, random_tensors(config)))
    kept = {name: value for name, value in file.metadata.items() if name != key}
    with pytest.raises(ConfigError, match=key.removeprefix("llama.")):
        decoder_config_from_gguf(dataclasses.replace(file, metadata=kept))


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=3)), max_size=3),
)


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # they are functions without state
)
@given(data=st.data())
def test_no_value_of_a_key_ends_in_a_traceback(
    tmp_path_factory, tiny_config, random_tensors, write_gguf, data: st.DataObject
) -> None:
    config = tiny_config()
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    if not path.exists():
        write_gguf(path, config, random_tensors(config), llama__rope__scaling__type="yarn")
    file = read_gguf(path)
    keys = [key for key in file.metadata if key.startswith("llama.")]
    keys += [f"llama.rope.scaling.{name}" for name in ("factor", "attn_factor", "yarn_beta_fast")]
    changes = data.draw(st.dictionaries(st.sampled_from(keys), ODD, min_size=1, max_size=3))
    with contextlib.suppress(T1Error):
        decoder_config_from_gguf(dataclasses.replace(file, metadata=file.metadata | changes))
