import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import t1_jax
from t1_jax.cli import main
from t1_jax.errors import DataError

ROOT = Path(__file__).parents[2]
COMMANDS = (
    ("pull",), ("import",), ("export",), ("think",), ("encode",), ("index",), ("index", "build"),
    ("index", "info"), ("index", "add"), ("index", "delete"), ("index", "diff"),
    ("index", "export"), ("search",), ("collection",), ("collection", "check"),
    ("collection", "split"), ("evaluate",), ("doctor",), ("quickstart",), ("bench",),
    ("thoughts",), ("thoughts", "template"), ("thoughts", "teacher"), ("mine",),
    ("rebase",), ("compare",), ("explain",), ("prompt",), ("prompt", "show"),
)  # fmt: skip


def test_help_is_fast_and_imports_nothing_heavy():
    heavy = {"jax", "flax", "numpy", "transformers", "tokenizers", "omegaconf", "scann"}
    code = (
        "import sys\nfrom t1_jax.cli.main import main\nsys.argv = ['t1', '--help']\n"
        f"try: main()\nfinally: print(sorted({heavy} & sys.modules.keys()), file=sys.stderr)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0
    assert done.stderr == "[]\n"
    assert seconds < 2  # well below 1 s on unshared cores


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(t1, command):
    answer = t1(*command, "--help")
    assert answer.code == 0
    if command not in (("index",), ("thoughts",), ("collection",), ("prompt",)):
        assert f"Example: t1 {' '.join(command)}" in answer.out
        assert "--json" in answer.out


def test_every_command_is_listed(t1):
    listed = t1("--help").out
    assert all(command[0] in listed for command in COMMANDS)


def test_the_version(t1):
    assert t1("--version").out == f"t1_jax {t1_jax.__version__}\n"


def test_a_misspelt_command_or_option_gets_a_suggestion(t1):
    answer = t1("serch")
    assert answer.code == 2
    assert "'search'" in answer.err
    answer = t1("think", "why", "--modle", "x")
    assert answer.code == 2
    assert "--model" in answer.err
    assert t1("pull", "--source", "elsewhere").code == 2


def test_a_users_mistake_is_two_lines_on_stderr_and_an_object_with_json(t1):
    answer = t1("pull", "smollm2-135m-instuct")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        "error: no model or collection is called 'smollm2-135m-instuct'\n"
        "  hint: did you mean 'smollm2-135m-instruct'?\n"
    )
    answer = t1("pull", "smollm2-135m-instuct", "--json")
    assert answer.code == 2
    assert answer.json["error"] == {
        "kind": "ConfigError",
        "message": "no model or collection is called 'smollm2-135m-instuct'",
        "hint": "did you mean 'smollm2-135m-instruct'?",
    }


def _app_that_raises(error: BaseException):
    def command(as_json: bool = False) -> None:
        raise error

    app = main.typer.Typer(cls=main._Commands)
    app.command("boom")(command)
    app.command("other")(command)
    return app


def test_our_own_fault_is_code_1_and_an_interruption_130():
    result = CliRunner().invoke(_app_that_raises(ZeroDivisionError("x")), ["boom"])
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)
    result = CliRunner().invoke(_app_that_raises(KeyboardInterrupt()), ["boom"])
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "stopped\n")
    result = CliRunner().invoke(_app_that_raises(DataError("no [hint] here")), ["boom"])
    assert (result.exit_code, result.stderr) == (2, "error: no [hint] here\n")


def test_what_the_system_says_of_a_file_is_two_lines():
    error = FileNotFoundError(2, "No such file or directory", "model/tokenizer.json")
    result = CliRunner().invoke(_app_that_raises(error), ["boom"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: model/tokenizer.json: No such file or directory\n"
        "  hint: check the path, and whether a link leads to a file that is gone\n"
    )
    result = CliRunner().invoke(_app_that_raises(OSError("no file is named")), ["boom"])
    assert isinstance(result.exception, OSError)


def test_errors_keep_their_lines_and_brackets(t1, tmp_path):
    (tmp_path / "[odd] name.txt").write_text("a\n\nb\n")
    answer = t1("think", "-f", tmp_path / "[odd] name.txt", "--json")
    assert answer.code == 2
    assert json.loads(answer.out)["error"]["message"].endswith("[odd] name.txt:2 is empty")
    assert "[odd] name.txt:2 is empty" in answer.err
