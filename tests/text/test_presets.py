"""Presets are data: byte-exact, hashed, and open to a user's own."""

from dataclasses import replace
from pathlib import Path

import pytest

from t1_jax.config import to_yaml, undocumented_fields
from t1_jax.errors import ConfigError
from t1_jax.text import PromptPreset, load_preset

OWN = """
name: own
version: "2"
query_template: "Q: {text}"
query_nothink_template: "q: {text}"
document_template: "D: {text}"
default_instruction: Find it
"""


def test_the_default_prompts_are_byte_exact() -> None:
    preset = load_preset("t1")
    assert preset.query_template == (
        "<|im_start|>user\n{instruction}. First reason about what a relevant document must "
        "contain.\nQuery: {text}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert preset.document_template == (
        "<|im_start|>user\nRepresent this passage for retrieval.\n{text}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_llama3_prompts_differ_from_the_default_in_their_special_tokens_only() -> None:
    chatml, llama3 = load_preset("t1"), load_preset("t1-llama3")
    user, assistant = (
        f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ("user", "assistant")
    )
    for key in ("query_template", "query_nothink_template", "document_template"):
        translated = (
            getattr(chatml, key)
            .replace("<|im_start|>user\n", "<|begin_of_text|>" + user)
            .replace("<|im_end|>\n<|im_start|>assistant\n", "<|eot_id|>" + assistant)
        )
        assert getattr(llama3, key) == translated
    assert llama3.instructions == chatml.instructions


@pytest.mark.parametrize("name", ["t1", "t1-llama3"])  # t1-compact tells the two by the role
def test_without_a_thought_only_the_request_to_reason_is_missing(name: str) -> None:
    preset = load_preset(name)
    request = " First reason about what a relevant document must contain."
    assert preset.query_template.replace(request, "") == preset.query_nothink_template


@pytest.mark.parametrize(
    ("task", "instruction"),
    [
        (
            "earth_science",
            "a earth_science post, retrieve relevant passages that help answer the post",
        ),
        ("pony_long", "a pony question, retrieve relevant documents that help answer the question"),
        (
            "theoremqa_theorems",
            "a Math problem, retrieve relevant theorems that help answer the problem",
        ),
        ("a collection of my own", "a query, retrieve relevant passages that answer the query"),
        (None, "a query, retrieve relevant passages that answer the query"),
    ],
)
def test_a_task_has_its_instruction(task: str | None, instruction: str) -> None:
    assert load_preset("t1").instruction(task) == f"Given {instruction}"


def test_no_instruction_ends_a_sentence_or_holds_a_placeholder() -> None:
    preset = load_preset("t1")
    for instruction in [preset.default_instruction, *preset.instructions.values()]:
        assert not instruction.endswith(".")
        assert "{" not in instruction


def test_the_hash_belongs_to_the_content(tmp_path: Path) -> None:
    preset = load_preset("t1")
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(preset))
    assert load_preset(copy).hash == preset.hash
    for key, value in [("version", "2"), ("default_instruction", "x"), ("instructions", {})]:
        assert replace(preset, **{key: value}).hash != preset.hash


def test_a_users_own_preset_loads_by_path(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    assert load_preset(path).instruction("anything") == "Find it"


def test_a_preset_extends_a_shipped_one_by_name(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        'extends: t1\nname: own\ninstructions: {zoo: "Given a sound, retrieve its animal"}'
    )
    own, base = load_preset(path), load_preset("t1")
    assert own.query_template == base.query_template
    assert own.instruction("zoo") == "Given a sound, retrieve its animal"
    assert own.instruction("cwe") == base.instruction("cwe")
    path.write_text("extends: t1\ndefault_instruction: Find it")
    with pytest.raises(ConfigError, match="differs from the preset 't1' and has its name"):
        load_preset(path)
    path.write_text("extends: t1-lama3\nname: own")
    with pytest.raises(
        ConfigError, match="'t1-lama3' is neither a YAML file nor one of t1"
    ) as caught:
        load_preset(path)
    assert caught.value.hint == "did you mean 't1-llama3'?"
    (tmp_path / "again.yaml").write_text("extends: own.yaml\nname: again")
    path.write_text("extends: t1-compact\nname: own")
    compact = load_preset("t1-compact")
    assert load_preset(tmp_path / "again.yaml").query_template == compact.query_template


@pytest.mark.parametrize("template", ["no place", "{text} and {text}"])
def test_a_template_holds_the_text_once(tmp_path: Path, template: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN.replace("Q: {text}", template))
    with pytest.raises(ConfigError, match="query_template must contain {text} exactly once"):
        load_preset(path)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        load_preset("t1-lama3")
    assert (
        "known are t1, t1-candidates, t1-compact, t1-compact-candidates, t1-llama3"
        in caught.value.message
    )
    assert "did you mean 't1-llama3'?" in (caught.value.hint or "")


def test_every_field_is_documented() -> None:
    assert undocumented_fields(PromptPreset) == []


def test_a_task_or_instruction_that_the_prompts_do_not_use_is_an_error() -> None:
    preset, compact = load_preset("t1"), load_preset("t1-compact")
    assert preset.query_instruction() == preset.default_instruction
    assert preset.query_instruction("cwe") == preset.instructions["cwe"]
    assert preset.query_instruction(instruction="Find it") == "Find it"
    assert compact.query_instruction() == compact.default_instruction
    assert (preset.known_task("cwe"), preset.known_task("x")) == ("cwe", None)
    assert compact.known_task("cwe") is None
    default = compact.default_instruction
    assert compact.query_instruction(instruction=default) == default
    for asked in ({"task": "cwe"}, {"instruction": "Find it"}):
        with pytest.raises(ConfigError, match="'t1-compact' have no instruction"):
            compact.query_instruction(**asked)
    with pytest.raises(ConfigError) as caught:
        preset.query_instruction("rufff")
    assert caught.value.hint == """did you mean 'ruff'? (or write one: instruction="TEXT")"""


def test_a_preset_with_candidates_adds_one_prompt_and_changes_no_other() -> None:
    for name in ("t1", "t1-compact"):
        base, own = load_preset(name), load_preset(f"{name}-candidates")
        assert not base.shows_candidates
        assert own.shows_candidates
        assert replace(own, name=name, query_candidates_template="").hash == base.hash
        assert replace(own, name=name).hash != base.hash
        with pytest.raises(ConfigError, match=f"'{name}' show no candidates"):
            base.require_candidates()
        own.require_candidates()


def test_a_preset_without_candidates_keeps_the_hash_that_adapters_store() -> None:
    assert load_preset("t1-compact").hash == (
        "a128c947b6d7a9c2694dadbee7d81423cb61bbe3e37dfa2b89765aacc4ed5a3a"
    )


@pytest.mark.parametrize("template", ["{text}", "{candidates}{text}{candidates}", "{candidates}"])
def test_a_candidates_template_has_both_placeholders_once(template: str) -> None:
    with pytest.raises(ConfigError, match=r"query_candidates_template must contain .* once"):
        replace(load_preset("t1"), query_candidates_template=template)
