"""Instruction sets reproduce the prompts of the harnesses byte for byte.

The expected texts were read in the harnesses: BRIGHT at d99e839 (`configs/e5`, `configs/sf`), mteb
2.26 (`bright_v1_1_retrieval.py`) and FlagEmbedding 1.4 (`evaluation/bright/prompts.py`).
"""

import pytest

from t1_jax.config import undocumented_fields
from t1_jax.errors import ConfigError
from t1_jax.text import InstructionSet, instruction_set_names, load_instructions, load_preset

STACK_EXCHANGE = {
    "biology": "a Biology",
    "earth_science": "an Earth Science",
    "economics": "an Economics",
    "psychology": "a Psychology",
    "robotics": "a Robotics",
    "stackoverflow": "a Stack Overflow",
    "sustainable_living": "a Sustainable Living",
}
MATH = ("aops", "theoremqa_questions")


def paper() -> dict[str, str]:
    prompts = {}
    for suffix, what in (("", "passages"), ("_long", "documents")):
        for task in STACK_EXCHANGE:
            prompts[task + suffix] = (
                f"Instruct: Given a {task} post, retrieve relevant {what} that help answer the post"
                "\nQuery: "
            )
        prompts[f"pony{suffix}"] = (
            f"Instruct: Given a pony question, retrieve relevant {what} that help answer the "
            "question\nQuery: "
        )
    prompts["leetcode"] = (
        "Instruct: Given a coding problem, retrieve relevant examples that help answer the problem"
        "\nQuery: "
    )
    for task, what in (*((task, "examples") for task in MATH), ("theoremqa_theorems", "theorems")):
        prompts[task] = (
            f"Instruct: Given a Math problem, retrieve relevant {what} that help answer the problem"
            "\nQuery: "
        )
    return prompts


def mteb() -> dict[str, str]:
    prompts = {}
    for suffix in ("", "_long"):
        for task in STACK_EXCHANGE:
            prompts[task + suffix] = f"Represent this {task} post for searching relevant passages: "
        prompts[f"pony{suffix}"] = "Represent this Pony question for searching relevant passages: "
    prompts["leetcode"] = "Represent this Coding problem for searching relevant examples: "
    for task in MATH:
        prompts[task] = "Represent this Math problem for searching relevant examples: "
    prompts["theoremqa_theorems"] = "Represent this Math problem for searching relevant theorems: "
    return prompts


def flagembedding() -> dict[str, str]:
    prompts = {}
    for suffix, what, stop in (("", "passages", "."), ("_long", "documents", "")):
        for task, name in STACK_EXCHANGE.items():
            prompts[task + suffix] = (
                f"Instruct: Given {name} post, retrieve relevant {what} that help answer the post."
                "\nQuery: "
            )
        prompts[f"pony{suffix}"] = (
            f"Instruct: Given a Pony question, retrieve relevant {what} that help answer the "
            f"question{stop}\nQuery: "
        )
    prompts["leetcode"] = (
        "Instruct: Given a Coding problem, retrieve relevant examples that help answer the "
        "problem.\nQuery: "
    )
    for task, what in (*((task, "examples") for task in MATH), ("theoremqa_theorems", "theorems")):
        prompts[task] = (
            f"Instruct: Given a Math problem, retrieve relevant {what} that help answer the "
            "problem.\nQuery: "
        )
    return prompts


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bright-paper", paper()), ("mteb-v1.1", mteb()), ("flagembedding", flagembedding())],
)
def test_prefixes_are_byte_exact(name, expected):
    instructions = load_instructions(name)
    assert {task: instructions.prefix(task) for task in instructions.instructions} == expected
    assert len(expected) == 20


def test_only_mteb_strips_documents():
    stripping = [
        name for name in instruction_set_names() if load_instructions(name).strip_documents
    ]
    assert stripping == ["mteb-v1.1"]


def test_the_instructions_of_t1_are_those_of_the_paper():
    preset, instructions = load_preset("t1"), load_instructions("bright-paper")
    for task in instructions.instructions:
        assert instructions.in_prompt(task) == preset.instructions[task]


def test_prompts_end_the_sentence_themselves():
    assert load_instructions("flagembedding").in_prompt("earth_science") == (
        "Given an Earth Science post, retrieve relevant passages that help answer the post"
    )
    assert load_instructions("mteb-v1.1").in_prompt("aops") == (
        "Represent this Math problem for searching relevant examples"
    )


def test_a_set_of_ones_own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text('extends: bright-paper\nname: own\ninstructions: {bugs: "Find the cause."}')
    own = load_instructions(path)
    assert own.prefix("bugs") == "Instruct: Find the cause.\nQuery: "
    assert own.hash != load_instructions("bright-paper").hash
    assert undocumented_fields(InstructionSet) == []
    path.write_text('name: own\nversion: "1"\nquery_prefix: "Query: "\ninstructions: {}')
    with pytest.raises(ConfigError, match="query_prefix must contain {instruction} exactly once"):
        load_instructions(path)


def test_unknown_names():
    with pytest.raises(ConfigError, match="did you mean 'bright-paper'"):
        load_instructions("bright-papers")
    with pytest.raises(ConfigError, match="have none for the task 'cwe'"):
        load_instructions("mteb-v1.1").prefix("cwe")
