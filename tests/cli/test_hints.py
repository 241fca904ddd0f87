"""Every command that a message of the package names exists, and works as it is typed."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.command_line import parse

ROOT = Path(__file__).parents[2]

# What stands for an expression in braces, or for a word in capitals, in a command.
FILL = {
    "{asset.name}": "smollm2-135m-instruct",
    "{options.benchmark}": "bright",
    "{known[0]}": "smollm2-135m-instruct",
    "{name_or_folder}": "cwe",
    "{name}": "smollm2-135m-instruct",
    "{quote(str(adapter.path))}": "ADAPTER",
    "{quote(_some_query(result))}": "'who purrs?'",
    "{quote(source)}": "PETS_INDEX",
    "{quote(str(best))}": "BASE_MODEL",
    "{quote(str(checkpoint.path))}": "BASE_MODEL",
    "{quote(str(config.path))}": "BASE_MODEL",
    "{quote(str(file))}": "RECIPE",
    "{quote(str(folder))}": "NEW",
    "{quote(str(path))}": "BASE_MODEL",
    "{quote(str(result.weights))}": "BASE_MODEL",
    "{quote(str(vectors))}": "PETS_INDEX",
    "{source}": "PETS",
    "{weights}": "BASE_MODEL",
    "A": "RUN",
    "B": "RUN",
    "BASE": "BASE_MODEL",
    "COLLECTION": "PETS",
    "FOLDER": "NEW",
    "OWNER/NAME": "owner/name",
    "runs/NAME/recipe.yaml": "RECIPE",
}
# What keeps a command small, or stands for a default that is not on this machine.
SMALL = {
    "t1 compare": "-c PETS",
    "t1 evaluate": "-m BASE_MODEL max_thought_tokens=2 controls=[own] bootstrap_samples=9",
    "t1 index build NEW -c": "-m BASE_MODEL --dtype float32",
    "t1 search PETS 'your query'": "--max-thought-tokens 4 --dtype float32",
    "t1 think 'why": "-m BASE_MODEL --max-thought-tokens 4 --dtype float32",
    "t1 think -m": "--max-thought-tokens 4 --dtype float32",
}
# Commands that are parsed, but too long to run here; each has tests of its own that run it.
PARSED_ONLY = ("t1 quickstart", "t1 rebase", "t1 serve", "t1 train --data")


def messages() -> Iterator[str]:
    """All strings of the package but docstrings; expressions stand in braces."""
    for path in sorted((ROOT / "t1_jax").rglob("*.py")):
        tree = ast.parse(path.read_text())
        skipped = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                skipped.add(id(node.value))
            if isinstance(node, ast.JoinedStr):
                skipped |= {id(part) for part in ast.walk(node) if part is not node}
        for node in ast.walk(tree):
            if id(node) in skipped:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value)
                    if isinstance(part, ast.Constant)
                    else f"{{{ast.unparse(part.value)}}}"  # pyright: ignore[reportAttributeAccessIssue]
                    for part in node.values
                )


MESSAGES = list(messages())
NAMED = sorted({name for text in MESSAGES for name in re.findall(r"`(t1 [^`]*)`", text)})
COMMANDS = sorted(
    {match for text in MESSAGES for match in re.findall(r"(?:^|: )(t1 [a-z].*)$", text)}
)


def filled(command: str, places: dict[str, object]) -> list[str]:
    for expression in re.findall(r"\{.*?\}(?=[\s]|$)", command):
        assert expression in FILL, f"say in FILL what {expression} stands for"
        command = command.replace(expression, FILL[expression])
    words = [FILL.get(word, word) for word in shlex.split(command)]
    for start, more in SMALL.items():
        if shlex.join(words).startswith(start):
            words += more.split()
    return [
        "".join(str(places.get(part, part)) for part in re.split(r"(\b[A-Z][A-Z_]+\b)", word))
        for word in words[1:]
    ]


def test_commands_are_found_in_messages():
    assert "t1 index build FOLDER -c COLLECTION" in COMMANDS
    assert "t1 pull {name} --source hub" in COMMANDS
    assert "t1 evaluate --output" in NAMED


@pytest.mark.parametrize("name", NAMED)
def test_named_commands_and_options_exist(t1, name):
    words = [word for word in name.split()[1:] if not word.startswith("-")]
    answer = t1(*words, "--help")
    assert answer.code == 0
    for option in name.split():
        assert not option.startswith("--") or option in answer.out


@pytest.fixture
def places(base_model, pets, pets_index, tmp_path):
    (tmp_path / "run.trec").write_text("q1 Q0 cat 1 9 x\n")
    return {
        "ADAPTER": tmp_path / "adapter",
        "BASE_MODEL": base_model,
        "NEW": tmp_path / "new",
        "PETS": pets,
        "PETS_INDEX": pets_index,
        "RECIPE": "configs/experiment/t1.yaml",
        "RUN": tmp_path / "run.trec",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_messages_work_as_typed(t1, command, places, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = filled(command, places)
    if command.startswith(PARSED_ONLY):
        parse(words)
        return
    pulled: list[str] = []
    split = {"test": SimpleNamespace(documents=(), queries=(), qrels={}, data_hash="ab")}
    monkeypatch.setattr("t1_jax.hub.pull_model", lambda name, **_: pulled.append(name))
    monkeypatch.setattr("t1_jax.hub.pull_collection", lambda name: (pulled.append(name), split))
    monkeypatch.setattr("t1_jax.hub.pull_benchmark", pulled.append)
    done = SimpleNamespace(stopped=None, steps=1, folder=Path("x"), best=None, validations={})
    monkeypatch.setattr("t1_jax.train.train", lambda config, **_: done)
    answer = t1(*words)
    assert answer.code == 0, answer.err
    assert bool(pulled) == command.startswith("t1 pull")
