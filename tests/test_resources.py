"""What comes inside the package: recipes and the default model, wherever the command is called."""

from pathlib import Path

import pytest

from t1_jax.config import load_config
from t1_jax.errors import ConfigError, WeightsError
from t1_jax.evaluate import EvaluationConfig
from t1_jax.files import RESOURCES
from t1_jax.hub import ADAPTERS, locate_model, read_adapter
from t1_jax.retriever import DEFAULT_MODEL, open_model


def test_recipes_are_found_in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = Path("configs/evaluate_sampled.yaml")
    shipped = load_config(EvaluationConfig, name)
    assert shipped.sampling.temperature > 0
    name.parent.mkdir()
    name.write_text("n: 1\n")  # a file of the user comes first
    assert load_config(EvaluationConfig, name) == EvaluationConfig()
    for missing in ("configs/none.yaml", "evaluate.yaml", "../configs/evaluate.yaml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(EvaluationConfig, Path(missing))


def test_the_default_model_is_a_trained_adapter_in_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate_model(DEFAULT_MODEL) == ADAPTERS[DEFAULT_MODEL]
    assert ADAPTERS[DEFAULT_MODEL].is_relative_to(RESOURCES)
    assert read_adapter(locate_model(DEFAULT_MODEL)).metadata.trained_on == ["cwe", "ruff"]


def test_without_its_base_model_the_hint_fetches_that(tmp_path, monkeypatch):
    monkeypatch.setenv("T1_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="t1-smollm2-135m is an adapter of") as caught:
        open_model()
    assert caught.value.hint == "t1 pull smollm2-135m-instruct"
