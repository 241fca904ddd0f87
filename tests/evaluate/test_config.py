import pytest

from t1_jax.config import load_config, undocumented_fields
from t1_jax.errors import ConfigError
from t1_jax.evaluate import EvaluationConfig
from t1_jax.generate import SamplingParams


def test_every_field_is_documented_and_the_default_is_valid():
    assert undocumented_fields(EvaluationConfig) == []
    assert EvaluationConfig().sampling.temperature == 0


def test_it_reads_from_overrides():
    config = load_config(
        EvaluationConfig,
        overrides=["controls=[own,gold]", "n=3", "sampling.temperature=0.7"],
    )
    assert config.controls == ("own", "gold")
    assert (config.n, config.sampling.temperature) == (3, 0.7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_thought_tokens": 0}, "max_thought_tokens must be at least 1, got 0"),
        ({"top_k": 0}, "top_k"),
        ({"max_queries": -1}, "max_queries"),
        ({"bootstrap_samples": 0}, "bootstrap_samples"),
        ({"n": 2}, "temperature 0 samples the same thought"),
        ({"task": "cwe", "instruction": "Find it"}, "a task or an instruction, not both"),
        ({"controls": ()}, "nothing to evaluate"),
        ({"controls": ("own", "own")}, "controls has a duplicate"),
        ({"metrics": ("nDCG@10",)}, "metrics must include recall@10"),
        ({"metrics": ("nDCG@10", "recall@10", "fun@3")}, "unknown me.* 'fun@3'"),
        ({"top_k": 5}, "nDCG@10 needs rankings of 10 documents"),
    ],
)
def test_invalid_values_are_errors(change: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig(**change)  # pyright: ignore[reportArgumentType]


def test_several_thoughts_need_a_temperature():
    assert EvaluationConfig(n=2, sampling=SamplingParams(temperature=1.0)).n == 2
