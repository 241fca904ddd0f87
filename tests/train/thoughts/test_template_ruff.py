from collections.abc import Mapping

from t1_jax.retrieval import Collection, Document, Query
from t1_jax.retrieval.datasets import Rule
from t1_jax.train.thoughts.template_ruff import ruff_pairs, ruff_thoughts


def rule(name: str, does: str, why: str, *messages: str, **more: str) -> Rule:
    sections: Mapping[str, str] = {"What it does": does, "Why is this bad?": why, **more}
    return Rule(
        name=name, code=None, linter=None, status="Stable", sections=sections, messages=messages
    )


UNUSED = rule(
    "unused-import",
    "Checks for the presence of unused `import` statements.\n\nMore of it.",
    "Tidy. Unused imports add a performance overhead, and risk cycles with `os.path`. Avoid them.",
    "`{name}` imported but unused; consider removing it",
    Example="```python\nimport os.path\n```",
)
TIMEOUT = rule(
    "async-timeout", "Checks that async functions have no `timeout`.", "It is bad style to do so."
)
RULES = (UNUSED, TIMEOUT)
COLLECTION = Collection(
    name="ruff",
    documents=tuple(
        Document(id=r.name, title=r.title, text=r.prose("What it does")) for r in RULES
    ),
    queries=(
        Query(id="unused-import", text="import os.path\nreturn 1"),
        Query(id="async-timeout", text="async def f(timeout): ..."),
    ),
    qrels={"unused-import": {"unused-import": 1}, "async-timeout": {"async-timeout": 1}},
)


def test_a_thought_says_what_the_code_has_and_what_is_wrong():
    short, code, reason, whole = ruff_thoughts(RULES, COLLECTION)["unused-import"]
    assert short.casefold().rstrip(".").endswith("unused import")
    assert code.casefold().startswith(("the code has unused", "in the code: unused", "unused"))
    assert code.endswith("Rule: unused import.")
    assert reason.startswith("Unused import: Unused imports add a performance overhead")
    assert whole.startswith("os.path: unused import statements.")
    assert "imported but unused; consider removing it" in whole
    assert whole.endswith("Rule: unused import.")


def test_what_a_rule_demands_is_told_as_broken():
    thoughts = ruff_thoughts(RULES, COLLECTION)["async-timeout"]
    assert "broken: async functions have no timeout." in thoughts[1].casefold()
    assert thoughts[3].startswith("timeout, async: ")


def test_pairs_hold_prose_and_no_code():
    pairs = {pair.text: pair for pair in ruff_pairs(RULES)}
    assert pairs["unused import statements"].id == "doc:unused-import:0"
    assert pairs["x imported but unused; consider removing it"].grades == {"unused-import": 1}
    assert "async functions have no timeout" in pairs
    assert not any("import os.path" in text for text in pairs)
    assert all("```" not in text for text in pairs)
