import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import Collection
from t1_jax.retrieval.datasets import build_ruff, parse_ruff, ruff_rules_json
from t1_jax.retrieval.datasets.ruff_rules import without_comments

EXPLANATION = """Preamble.

## What it does
Checks for unused imports, as in:

```python
import os  # code of a document goes
```

It looks at `__all__` too.

## Why is this bad?
They cost time.

## Example
```python
## a comment, no heading
import os  # unused


def f():
    return "# no comment"
```

- Or, in a list:
  ```pyi
  import re
  ```

```python
a_third_block
```

Use instead:
```python
def f(): ...
```

## Options
- `lint.x`
"""


def rule(name: str, explanation: str = EXPLANATION, status: str = "Stable") -> dict[str, object]:
    return {
        "name": name,
        "code": None,
        "linter": "Pyflakes",
        "status": {status: {"since": "v0.0.1"}},
        "explanation": explanation,
    }


def example(code: str, heading: str = "Example", language: str = "python") -> str:
    return f"## What it does\nx\n\n## {heading}\n```{language}\n{code}\n```\n"


def build(*rules: Mapping[str, object]) -> dict[str, Collection]:
    return build_ruff(json.dumps(rules))


def test_a_rule_keeps_its_sections():
    (parsed,) = parse_ruff(json.dumps([rule("unused-import")]))
    assert (parsed.title, parsed.code, parsed.status) == ("unused import", None, "Stable")
    assert list(parsed.sections) == ["What it does", "Why is this bad?", "Example", "Options"]
    assert parsed.prose("Why is this bad?") == "They cost time."
    assert parsed.prose("Fix safety") == ""


def test_a_rule_keeps_its_messages():
    said = {**rule("unused-import"), "message_formats": ["`{name}` is unused"]}
    found, silent = parse_ruff(json.dumps([said, rule("other")]))
    assert (found.messages, silent.messages) == (("`{name}` is unused",), ())


def test_documents_have_no_code():
    (document,) = build(rule("unused-import"))["train"].documents
    assert document.full_text == (
        "unused import\nChecks for unused imports, as in:\n\n\nIt looks at `__all__` too.\n\n"
        "They cost time."
    )


def test_queries_are_the_first_two_offending_blocks_without_comments():
    queries = {
        query.id: query.text
        for part in build(rule("unused-import")).values()
        for query in part.queries
    }
    assert queries == {
        "unused-import": 'import os\ndef f():\n    return "# no comment"',
        "unused-import#2": "import re",
    }


@pytest.mark.parametrize(
    ("explanation", "number"),
    [
        (example("x = 1", "Examples"), 1),
        (example("x = 1", "Example:"), 1),
        (example("x = 1", "Exemplary"), 0),
        (example("x = 1", language="toml"), 0),
        (example("# only a comment"), 0),
        ("## What it does\nNothing.", 0),
    ],
)
def test_what_counts_as_an_example(explanation: str, number: int):
    parts = build(rule("a", explanation))
    assert sum(len(part.queries) for part in parts.values()) == number


def test_rules_that_show_the_same_code_are_no_wrong_answers_and_share_a_split():
    twins = [rule(name, example("x = 1")) for name in ("b", "a", "c")]
    other = rule("a", example("x = 1") + "\n```python\ny = 2\n```\n")
    parts = [part for part in build(twins[0], other, twins[2]).values() if part.queries]
    (part,) = parts
    assert part.qrels == {"b": {"b": 1}, "a": {"a": 1}}
    assert part.excluded == {"b": frozenset({"a", "c"})}


@pytest.mark.parametrize(
    ("code", "bare"),
    [
        ("x = 1  # one", "x = 1"),
        ("color = '#fff'  # white", "color = '#fff'"),
        ('"""\n# text\n"""\n# gone', '"""\n# text\n"""'),
        ("'it\\'s # text'", "'it\\'s # text'"),
        ("don't = 1  # an open quote ends with its line", "don't = 1"),
        ("    if x:\n        y  # z\n\n", "if x:\n    y"),
        ("#!shebang", ""),
    ],
)
def test_comments_are_stripped_and_strings_are_not(code: str, bare: str):
    assert without_comments(code) == bare


@pytest.mark.parametrize("text", ["", "{}]", '[{"name": "a"}]', "[1]", "3"])
def test_other_json_is_refused(text: str):
    with pytest.raises(DataError, match="not a list of Ruff's rules"):
        parse_ruff(text)


def test_an_executable_that_is_none_is_named(tmp_path: Path):
    fake = tmp_path / "ruff"
    with pytest.raises(DataError, match="failed to list its rules"):
        ruff_rules_json(fake)
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    with pytest.raises(DataError, match="exit status 3"):
        ruff_rules_json(fake)
