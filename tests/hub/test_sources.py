"""What is common to all sources: the dtype that holds a checkpoint exactly."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from t1_jax.hub.safetensors_source import SafetensorsSource
from t1_jax.hub.sources import TensorSource, stored_dtype


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
