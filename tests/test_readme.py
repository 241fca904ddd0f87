"""The README and the guides name commands, options, files and results that exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from t1_jax.cli.main import app
from tests.cli.command_line import parse

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
COMMANDS = [
    line.split("  #")[0].strip()
    for text in PAGES.values()
    for line in re.sub(r"\\\n\s*", "", text).splitlines()
    if line.startswith("t1 ")
]


def code_blocks(text: str, language: str = "") -> list[str]:
    """The contents of the fenced blocks of a language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [content for name, content in blocks if name == language]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_their_options_exist(line: str):
    _, *words = shlex.split(line)
    depth = 2 if words[0] in ("collection", "index", "prompt", "thoughts") else 1
    help_run = CliRunner().invoke(app, [*words[:depth], "--help"], env={"COLUMNS": "200"})
    assert help_run.exit_code == 0
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(^|[\s,|│]){re.escape(option)}\b", help_run.output), option


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_take_what_they_are_given(line: str):
    """Parses every argument, and runs nothing."""
    _, *words = shlex.split(line)
    parse(words)


def test_named_files_exist():
    """Configs, source files, tests and launch scripts, wherever a page names one."""
    folders = "benchmarks|configs|constraints|examples|launch|models|scripts|t1_jax|tests"
    for page, text in PAGES.items():
        text = re.sub(r"https?://\S+", "", text)
        for name in re.findall(rf"\b(?:{folders})/[\w./-]*\w", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page, text in PAGES.items():
        for words in re.findall(r"^make ([a-z -]+)|`make ([a-z -]+)", text, flags=re.MULTILINE):
            named = "".join(words).split()
            assert set(named) <= targets, f"{page.name}: make {named}"


def test_linked_files_and_headings_exist():
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in link:
                continue
            name, _, heading = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), f"{page.name}: {link}"
            if heading:
                titles = re.findall(r"^#+ (.*)$", target.read_text().lower(), flags=re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles}
                assert heading in anchors, f"{page.name}: {link}"


def test_results_of_the_readme_are_those_of_the_experiment():
    """Every value with its interval stands in a table that is made from the result files."""
    experiment = (ROOT / "docs/experiment.md").read_text()
    marked = "".join(re.findall(r"<!-- table:.*?<!-- end -->", experiment, flags=re.DOTALL))
    results = re.findall(r"[+−]?\d\.\d{3} \[[^\]]+\]", README)
    assert len(results) > 10
    for result in results:
        assert result in marked, result


def test_the_first_screen_has_an_example_with_its_output():
    code, _ = code_blocks(README, "python")
    assert README.count("\n", 0, README.index(code)) < 25
    assert len(code.splitlines()) <= 18


def test_the_collection_of_the_guide_can_be_searched(tmp_path, monkeypatch):
    guide = (ROOT / "docs/collections.md").read_text()
    documents, queries, excluded = code_blocks(guide, "json")
    qrels = next(block for block in code_blocks(guide) if block.startswith("query-id"))
    folder = tmp_path / "my-collection"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(documents)
    (folder / "queries.jsonl").write_text(queries)
    (folder / "excluded.jsonl").write_text(excluded)
    (folder / "qrels/test.tsv").write_text(qrels)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (code,) = code_blocks(guide, "python")
    exec(code, names)
    assert {query: set(ranking) for query, ranking in names["run"].items()} == {
        "q1": {"d1"},
        "q2": set(),  # shares no word with d2; d1 is excluded
    }


def test_the_guide_to_training_lists_every_reward_and_real_metrics():
    guide = (ROOT / "docs/training.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "t1_jax/train").rglob("*.py"))
    rewards = guide.split("## Rewards")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", rewards, flags=re.MULTILINE)
    registered = re.findall(r'^@register_reward\("(\w+)"', sources, flags=re.MULTILINE)
    assert sorted(documented) == sorted(registered)
    metrics = re.findall(r"^\| `(\w+/\w+)` \|", guide, flags=re.MULTILINE)
    assert len(metrics) > 5
    for metric in metrics:
        assert f'"{metric}"' in sources, metric
