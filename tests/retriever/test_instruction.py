from dataclasses import replace

import pytest

from t1_jax.errors import ConfigError
from t1_jax.retriever import instruction_note, query_instruction
from t1_jax.text import load_preset


def test_an_unknown_task_is_an_error():
    preset = load_preset("t1")
    assert query_instruction(preset, None, None) == preset.instruction(None)
    assert query_instruction(preset, "cwe", None) == preset.instruction("cwe")
    with pytest.raises(ConfigError) as error:
        query_instruction(preset, "rufff", None, custom="write one: KEY")
    assert error.value.hint == "did you mean 'ruff'? (or write one: KEY)"


@pytest.mark.parametrize("given", [("cwe", None), (None, "Find it")])
def test_prompts_that_hold_no_instruction_take_none(given):
    compact, whole = load_preset("t1-compact"), load_preset("t1")
    with pytest.raises(ConfigError, match="t1-compact.* have no instruction"):
        query_instruction(compact, *given)
    chosen = query_instruction(compact, None, None, "cwe")
    assert instruction_note(compact, chosen) == ("the prompts 't1-compact' have no instruction")
    own = replace(whole, query_template="{text}")  # it keeps the instructions of tasks
    assert query_instruction(own, None, None, "cwe") == own.default_instruction
    assert instruction_note(whole, query_instruction(whole, *given)).startswith("query instruction")
