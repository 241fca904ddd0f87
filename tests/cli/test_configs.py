"""Every recipe under configs/ is read by its dataclass, whose every field is explained."""

from pathlib import Path

import pytest

from t1_jax.cli.quickstart_config import QuickstartConfig
from t1_jax.config import load_config, undocumented_fields
from t1_jax.evaluate import EvaluationConfig
from t1_jax.train import TrainConfig

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {
    "quickstart": QuickstartConfig,
    "benchmark": EvaluationConfig,
    "evaluate": EvaluationConfig,
    "evaluate_sampled": EvaluationConfig,
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_read(name):
    path, config_class = CONFIGS / f"{name}.yaml", RECIPES[name]
    load_config(config_class, path)
    command = (
        "t1 quickstart" if config_class is QuickstartConfig else f"t1 evaluate configs/{path.name}"
    )
    assert command in path.read_text()


@pytest.mark.parametrize("cls", [QuickstartConfig, EvaluationConfig, TrainConfig])
def test_every_field_is_explained(cls):
    assert undocumented_fields(cls) == []


def test_every_other_recipe_trains():
    for path in sorted(CONFIGS.glob("*.yaml")):
        if path.stem not in RECIPES:
            load_config(TrainConfig, path)


def test_the_quickstart_file_states_the_defaults_and_what_it_trains():
    found = load_config(QuickstartConfig, CONFIGS / "quickstart.yaml")
    training = Path("configs/quickstart_training.yaml")
    shipped = "t1-smollm2-135m"
    assert found == QuickstartConfig(training=training, weights=shipped)
    assert (CONFIGS.parent / training).exists()
