"""The collection `ruff`: from offending code to the lint rule that explains it.

Documents are the rules of the linter Ruff: what a rule does and why, without code. Queries are the
offending examples in their documentation, without comments, which often state the error.
"""

import hashlib
import json
import re
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.retrieval.collection import Collection, Document, Query
from t1_jax.retrieval.datasets.splits import LabeledQuery, group_keys, split_collection

_MAX_EXAMPLES_PER_RULE = 2
_FENCED = re.compile(
    r"^[ \t]*```+[ \t]*(\w*)[^\n]*\n(.*?)^[ \t]*```+[ \t]*$\n?", re.MULTILINE | re.DOTALL
)
_STRING_OR_COMMENT = re.compile(
    r'''(?P<string>("""|\'\'\')(?:\\.|(?!\2).)*\2|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')'''
    r"|#[^\n]*",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule.

    Attributes:
        name: unique name, such as "unused-import".
        code: code, such as "F401"; None for a few rules.
        linter: tool that the rule comes from; None for a rule without a code.
        status: "Stable", "Preview", "Deprecated" or "Removed".
        sections: heading -> Markdown of the section, such as "What it does".
        messages: formats of Ruff's messages, with {placeholders}; may be empty.
    """

    name: str
    code: str | None
    linter: str | None
    status: str
    sections: Mapping[str, str]
    messages: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name with spaces in place of hyphens."""
        return self.name.replace("-", " ")

    def prose(self, heading: str) -> str:
        """A section without its code blocks; empty if the section does not exist."""
        return _FENCED.sub("", self.sections.get(heading, "")).strip()

    @property
    def examples(self) -> tuple[str, ...]:
        """The first two blocks of offending Python code, without comments."""
        section = next(
            (self.sections[name] for name in ("Example", "Examples") if name in self.sections), ""
        )
        blocks = _FENCED.findall(section.split("Use instead")[0])
        python = [code for language, code in blocks if language.startswith("py")]
        stripped = [without_comments(code) for code in python[:_MAX_EXAMPLES_PER_RULE]]
        return tuple(dict.fromkeys(code for code in stripped if code))


def parse_ruff(text: str) -> tuple[Rule, ...]:
    """Reads the output of `ruff rule --all --output-format json`.

    Raises:
        DataError: the text has another format.
    """
    try:
        rules = tuple(
            Rule(
                name=fields["name"],
                code=fields["code"],
                linter=fields["linter"],
                status=next(iter(fields["status"])),
                sections=_sections(fields["explanation"]),
                messages=tuple(map(str, fields.get("message_formats", ()))),
            )
            for fields in json.loads(text)
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise DataError(
            f"not a list of Ruff's rules: {error!r}",
            hint="use the output of `ruff rule --all --output-format json`",
        ) from error
    return rules


def ruff_rules_json(executable: Path) -> str:
    """The rules of a `ruff` executable as JSON.

    Raises:
        DataError: it cannot be run, or fails.
    """
    command = [str(executable), "rule", "--all", "--output-format", "json"]
    try:
        return subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise DataError(f"{executable} failed to list its rules: {error}") from error


def build_ruff(text: str) -> dict[str, Collection]:
    """The collection, split by rule: queries of one split never target the rules of another.

    Raises:
        DataError: see `parse_ruff`.
    """
    rules = parse_ruff(text)
    documents = (
        Document(
            id=rule.name,
            title=rule.title,
            text=f"{rule.prose('What it does')}\n\n{rule.prose('Why is this bad?')}".strip(),
        )
        for rule in rules
    )
    metadata = {
        "description": "offending code -> the lint rule that explains it",
        "source": "ruff rule --all --output-format json, https://github.com/astral-sh/ruff",
        "source_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "license": "MIT",
        "attribution": "Copyright (c) 2022 Charles Marsh, and the contributors to Ruff",
    }
    return split_collection("ruff", documents, _labeled_queries(rules), metadata)


def without_comments(code: str) -> str:
    """Python without comments, blank lines and common indentation; a # in a string stays."""
    bare = _STRING_OR_COMMENT.sub(lambda match: match["string"] or "", textwrap.dedent(code))
    return "\n".join(line.rstrip() for line in bare.splitlines() if line.strip())


def _labeled_queries(rules: tuple[Rule, ...]) -> Iterator[LabeledQuery]:
    """One query for each distinct example.

    A few rules have the same example. The first of them is the relevant document; the others are
    excluded from the ranking, and all of them belong to the same split.
    """
    rules_with: dict[str, list[str]] = {}
    for rule in rules:
        for code in rule.examples:
            rules_with.setdefault(code, []).append(rule.name)
    keys = group_keys((names[0], name) for names in rules_with.values() for name in names)
    counts: dict[str, int] = {}
    for code, (name, *others) in rules_with.items():
        counts[name] = number = counts.get(name, 0) + 1
        yield LabeledQuery(
            query=Query(id=name if number == 1 else f"{name}#{number}", text=code),
            labels={name: 1},
            group_key=keys[name],
            excluded=frozenset(others),
        )


def _sections(markdown: str) -> dict[str, str]:
    """Second-level heading -> text of its section; lines in code blocks are not headings."""
    sections: dict[str, list[str]] = {"": []}
    lines, in_code = sections[""], False
    for line in markdown.splitlines(keepends=True):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        if line.startswith("## ") and not in_code:
            lines = sections.setdefault(line[3:].strip().rstrip(":"), [])
        else:
            lines.append(line)
    return {heading: "".join(lines) for heading, lines in sections.items() if heading}
