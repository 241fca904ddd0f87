import pytest

from t1_jax.cli.quickstart_config import QuickstartConfig
from t1_jax.config import load_config
from t1_jax.errors import ConfigError


def test_nested_fields_are_reached_from_the_command_line():
    overrides = [
        "evaluation.max_thought_tokens=128",
        "evaluation.sampling.seed=3",
        "collections=[ruff]",
    ]
    config = load_config(QuickstartConfig, overrides=overrides)
    assert config.evaluation.max_thought_tokens == 128
    assert config.evaluation.max_queries == 120  # the quick start's own default stays
    assert config.evaluation.sampling.seed == 3
    assert config.collections == ("ruff",)


@pytest.mark.parametrize(
    "override", ["collections=[]", "collections=[cwe,cwe]", "colections=[cwe]"]
)
def test_mistakes_are_refused(override):
    with pytest.raises(ConfigError, match="collections"):
        load_config(QuickstartConfig, overrides=[override])
