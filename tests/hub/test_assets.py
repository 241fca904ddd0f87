"""Pinned models: complete records, and a hint for a misspelt name."""

import re

import pytest

from t1_jax.errors import WeightsError
from t1_jax.hub.assets import MODELS, model_asset


def test_every_asset_is_pinned_to_a_version_and_a_hash() -> None:
    for name, asset in MODELS.items():
        assert asset.name == name
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", asset.requirement)
        assert re.fullmatch(r"[0-9a-f]{64}", asset.sha256)
        assert asset.member.endswith(".gguf")


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(WeightsError, match="did you mean 'smollm2-135m-instruct'"):
        model_asset("smollm2-135m-instuct")
