"""The README and the guides name commands, options, make targets and files that exist."""

import re
import shlex
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from t1_jax.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}
COMMANDS = [
    line.split("  #")[0].strip()
    for text in (README, *PAGES.values())
    for line in re.sub(r"\\\n\s*", "", text).splitlines()
    if line.startswith("t1 ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_their_options_exist(line: str):
    _, *words = shlex.split(line)
    depth = 2 if words[0] in ("collection", "index", "thoughts") else 1
    help_run = CliRunner().invoke(app, [*words[:depth], "--help"], env={"COLUMNS": "200"})
    assert help_run.exit_code == 0
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(^|[\s,|│]){re.escape(option)}\b", help_run.output), option


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_take_what_they_are_given(line: str):
    """Parses every argument, and runs nothing."""
    _, *words = shlex.split(line)
    command = get_command(app)
    context = command.make_context("t1", [], resilient_parsing=True)
    while isinstance(command, TyperGroup):
        name, command, words = command.resolve_command(context, words)
        assert command is not None
        known = [] if isinstance(command, TyperGroup) else words
        context = command.make_context(name, known, resilient_parsing=not known, parent=context)


def test_configs_of_commands_exist():
    named = [word for line in COMMANDS for word in line.split() if word.startswith("configs/")]
    assert named
    for config in named:
        assert (ROOT / config).exists(), config


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = re.findall(r"^make ([a-z]+)|`make ([a-z]+)", README, flags=re.MULTILINE)
    assert named
    assert {one or other for one, other in named} <= targets


def test_linked_files_exist():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
