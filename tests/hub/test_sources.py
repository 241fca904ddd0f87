"""What is common to all sources: dtypes, casts that lose no value, and names."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from t1_jax.errors import WeightsError
from t1_jax.hub.safetensors_source import SafetensorsSource
from t1_jax.hub.sources import CheckedCast, TensorSource, as_causal_lm, stored_dtype


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([np.float32], "float32"),
        ([np.float16, np.float16], "float16"),
        ([ml_dtypes.bfloat16], "bfloat16"),
        ([ml_dtypes.bfloat16, np.float32], "float32"),
        ([ml_dtypes.bfloat16, np.float16], "float32"),
    ],
)
def test_the_narrowest_dtype_that_loses_nothing(tmp_path: Path, dtypes, expected: str) -> None:
    tensors = {f"t{i}": np.ones(2, dtype) for i, dtype in enumerate(dtypes)}
    save_file(tensors, tmp_path / "model.safetensors")
    source = SafetensorsSource(tmp_path)
    assert isinstance(source, TensorSource)
    assert stored_dtype(source) == expected


@pytest.mark.parametrize("stored", [np.float32, ml_dtypes.bfloat16])
def test_a_value_beyond_float16_is_named_and_no_smaller_one(stored: type) -> None:
    """65,504 is the largest; float16 rounds up to infinity from 65,520 on."""
    cast = CheckedCast(np.dtype(np.float16))
    np.testing.assert_array_equal(cast.cast(np.array([-65280, 1], stored), "fits"), [-65280, 1])
    cast.raise_on_overflow()
    cast.cast(np.array([1, 65536], stored), "high")
    cast.cast(np.array([-1e30, 0], stored), "low")
    cast.cast(np.array([np.nan], stored), "no number")
    with pytest.raises(
        WeightsError, match=r"3 tensors .* float16 \(.*65504\):\n  high\n  low\n  no"
    ):
        cast.raise_on_overflow()


def test_rounding_decides_what_fits() -> None:
    cast = CheckedCast(np.dtype(np.float16))
    assert cast.cast(np.array([65519], np.float32), "rounds down") == 65504
    cast.raise_on_overflow()
    cast.check(np.array([65520], np.float32), "rounds up")
    with pytest.raises(WeightsError, match="rounds up"):
        cast.raise_on_overflow()


def test_only_a_wider_range_is_narrowed() -> None:
    half, brain, single = (np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32))
    narrowed = {
        (wide.name, narrow.name)
        for wide in (half, brain, single)
        for narrow in (half, brain, single)
        if CheckedCast(narrow).can_overflow(wide)
    }
    assert narrowed == {
        ("bfloat16", "float16"),
        ("float32", "float16"),
        ("float32", "bfloat16"),
    }


def test_a_long_list_of_misfits_is_cut() -> None:
    cast = CheckedCast(np.dtype(np.float16))
    for number in range(25):
        cast.check(np.array([1e9], np.float32), f"tensor {number}")
    with pytest.raises(WeightsError, match=r"25 tensors .*\n(.*\n)*  tensor 19\n  and 5 more"):
        cast.raise_on_overflow()


@pytest.mark.parametrize(
    ("stored", "tied", "expected"),
    [
        (["model.norm", "lm_head.weight"], False, ["model.norm", "lm_head.weight"]),
        (["norm", "embed_tokens.weight"], True, ["model.norm", "model.embed_tokens.weight"]),
        (["norm", "lm_head.weight"], False, ["model.norm", "lm_head.weight"]),
        (["norm", "lm_head.weight"], True, ["model.norm", "model.embed_tokens.weight"]),
        (["model.norm", "lm_head.weight"], True, ["model.norm", "model.embed_tokens.weight"]),
    ],
    ids=str,
)
def test_names_are_those_of_the_causal_language_model(
    tmp_path: Path, stored: list[str], tied: bool, expected: list[str]
) -> None:
    tensors = {name: np.full(2, place, np.float32) for place, name in enumerate(stored)}
    save_file(tensors, tmp_path / "model.safetensors")
    source = as_causal_lm(SafetensorsSource(tmp_path), tied=tied)
    assert isinstance(source, TensorSource)
    assert sorted(source.names()) == sorted(expected)
    for place, name in enumerate(expected):
        assert source.read(name).tolist() == [place, place]
        assert (source.shape(name), source.dtype(name)) == ((2,), np.float32)
        assert stored[place] in source.location(name)
