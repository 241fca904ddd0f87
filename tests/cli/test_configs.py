"""Every recipe under configs/ is read by its dataclass, whose every field is explained."""

from pathlib import Path

import pytest

from t1_jax.cli.quickstart_config import QuickstartConfig
from t1_jax.config import load_config, undocumented_fields
from t1_jax.evaluate import EvaluationConfig

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {"quickstart": QuickstartConfig, "evaluate": EvaluationConfig}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_read(path):
    (config_class,) = {cls for name, cls in RECIPES.items() if path.stem.startswith(name)}
    load_config(config_class, path)
    command = (
        "t1 quickstart" if config_class is QuickstartConfig else f"--config configs/{path.name}"
    )
    assert command in path.read_text()


@pytest.mark.parametrize("cls", RECIPES.values(), ids=RECIPES)
def test_every_field_is_explained(cls):
    assert undocumented_fields(cls) == []


def test_the_quickstart_file_states_the_defaults():
    assert load_config(QuickstartConfig, CONFIGS / "quickstart.yaml") == QuickstartConfig()
