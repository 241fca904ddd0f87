"""The adapter that comes with the project, which the quick start evaluates."""

from pathlib import Path

from t1_jax.cli.quickstart_config import QuickstartConfig
from t1_jax.config import load_config
from t1_jax.hub import locate_model, read_adapter
from t1_jax.text import load_preset

ROOT = Path(__file__).parent.parent


def test_the_quick_start_evaluates_an_adapter_of_its_model():
    config = load_config(QuickstartConfig, ROOT / "configs" / "quickstart.yaml")
    assert config.weights is not None
    adapter = read_adapter(locate_model(config.weights))
    assert adapter.metadata.base_model == config.model
    assert adapter.metadata.prompt["hash"] == load_preset("t1-compact").hash


def test_it_is_small_and_says_what_it_is():
    folder = ROOT / "models" / "t1-smollm2-135m"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 16 * 2**20
    card = (folder / "README.md").read_text()
    for word in ("seed 0", "configs/experiment/t1.yaml", "Results", "License"):
        assert word in card
