"""The defaults of options that several commands share."""

import inspect

from t1_jax.cli import options
from t1_jax.cli.encode import encode
from t1_jax.cli.explain import explain
from t1_jax.cli.index import build_index
from t1_jax.cli.mine import mine
from t1_jax.cli.prompt import show_prompt
from t1_jax.cli.search import search
from t1_jax.cli.think import think
from t1_jax.evaluate import EvaluationConfig
from t1_jax.generate import SamplingParams
from t1_jax.retriever import DEFAULT_MODEL, T1, RetrieverOptions


def default(command, name):
    return inspect.signature(command).parameters[name].default


def test_the_same_model_everywhere():
    assert options.DEFAULT_MODEL == DEFAULT_MODEL == default(T1.load, "path_or_name")
    for command in (encode, build_index, mine, show_prompt, think):
        assert default(command, "model") == DEFAULT_MODEL, command


def test_thoughts_are_decoded_the_same_everywhere():
    python, evaluation = RetrieverOptions(), EvaluationConfig()
    assert python.sampling == evaluation.sampling == SamplingParams(temperature=0.0)
    assert python.max_thought_tokens == evaluation.max_thought_tokens
    for command in (search, encode, think, explain):
        given = {name: default(command, name) for name in ("temperature", "top_p", "seed")}
        assert SamplingParams(**given) == python.sampling, command
        assert default(command, "max_thought_tokens") is None  # that of the options
        assert command is explain or default(command, "n") == evaluation.n
