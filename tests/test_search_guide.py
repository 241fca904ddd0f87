"""The commands that the README and docs/search.md show work in a folder with notes only.

They are typed as written, on a tiny model under the name of the shipped one: in this process, and
in one that has only the wheel.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from t1_jax.cli.main import app
from t1_jax.hub import ADAPTERS
from t1_jax.parallel import single_device_mesh_context
from t1_jax.retriever import DEFAULT_MODEL, T1
from t1_jax.text import T1Tokenizer
from tests.compile_cache import CompileCache
from tests.train.toy_runs import write_model

ROOT = Path(__file__).parent.parent
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/search.md")
}
LINES = [
    line.split("  #")[0].strip()
    for text in PAGES.values()
    for line in text.splitlines()
    if line.startswith("t1 search notes/")
]
SERVER = """\
# The server at home

## Remote access

The web interface takes the path of a file from the address. On 3 May somebody read /etc/passwd.

## Backups

The script runs at night.
"""
NOTES = {
    "server.md": SERVER,
    "tea.md": "# Tea\n\nGreen tea is steeped at 80 degrees.\n",
    "sky.txt": "The sky is blue because air scatters short wavelengths more than long ones.\n",
    "teas.csv": "name,price\nAssam,4\nSencha,5\n",
    "list.txt": "?!\n- x\n",
}
FIRST = {
    "who read files outside of the web folder": "notes/server.md",
    "steeped tea": "notes/tea.md",
    "files": "notes/server.md",
    "why is the sky blue": "notes/sky.txt",
}
"""The file that each query must find first; other queries are typed into the prompt."""

IN_THE_WHEEL = """
import json, sys
from pathlib import Path
site, model, lines = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
import t1_jax
assert Path(t1_jax.__file__).is_relative_to(site), t1_jax.__file__
from typer.testing import CliRunner
from t1_jax.cli.main import app
from t1_jax.config import load_config
from t1_jax.cli.quickstart_config import QuickstartConfig
from t1_jax.hub import ADAPTERS, read_adapter
from t1_jax.train import TrainConfig
(name, folder), = ADAPTERS.items()
read_adapter(folder)
quickstart = load_config(QuickstartConfig, Path("configs/quickstart.yaml"))
load_config(TrainConfig, quickstart.training)
load_config(TrainConfig, Path("configs/experiment/t1.yaml"))
ADAPTERS[name] = Path(model)
for words in lines:
    done = CliRunner().invoke(app, words, input="why is the sky blue", catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    print(done.stdout.splitlines()[-1])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: T1Tokenizer) -> Path:
    """A tiny T1 folder that says that it was trained as the shipped model was."""
    base = write_model(tmp_path_factory.mktemp("model") / "tiny", tiny_tokenizer)
    folder = base.with_name("t1")
    mesh_context = single_device_mesh_context()
    T1.load(base, dtype="float32", mesh_context=mesh_context).save_pretrained(folder)
    fields = json.loads((folder / "t1.json").read_text()) | {"trained_on": ["cwe", "ruff"]}
    (folder / "t1.json").write_text(json.dumps(fields))
    return folder


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with notes and nothing else, and an empty cache."""
    monkeypatch.setenv("T1_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    (work / "notes").mkdir(parents=True)
    for name, text in NOTES.items():
        (work / "notes" / name).write_text(text)
    monkeypatch.chdir(work)
    return work


def words_of(line: str) -> list[str]:
    """The words after `t1`, with a bound on the thought, as the tiny model never ends one."""
    words = shlex.split(line)[1:]
    samples = not {"--bm25", "--thought", "--no-think"} & set(words)
    return [*words, *(["--max-thought-tokens", "4"] if samples else []), "--json"]


def check_first(line: str, printed: str) -> None:
    """The expected document comes first."""
    answer: dict[str, Any] = json.loads(printed)
    assert answer["results"][0]["path"] == FIRST[answer["query"]], line


@pytest.fixture(autouse=True)
def shipped(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, DEFAULT_MODEL, model)


@pytest.mark.parametrize("line", LINES)
def test_the_commands_find_what_they_look_for(line: str, empty_folder: Path):
    done = CliRunner().invoke(
        app, words_of(line), input="why is the sky blue", catch_exceptions=False
    )
    assert done.exit_code == 0, done.stderr
    check_first(line, done.stdout)


def test_the_python_of_the_guide_finds_the_sky(empty_folder: Path, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGES["docs/search.md"], re.M | re.S)
    exec(code.replace("k=3", "k=3, max_thought_tokens=4"), {})
    thought, best, sentence, *_ = capsys.readouterr().out.splitlines()
    assert thought.startswith("thought: ")
    assert best.endswith("notes/sky.txt:1  sky")
    assert sentence.startswith("    The sky is blue because")


def test_the_shown_result_has_the_form_of_the_real_one(empty_folder: Path):
    section = PAGES["README.md"].split("## Search your own files")[1]
    command, shown = re.findall(r"^```\n(.*?)^```$", section, re.M | re.S)[:2]
    line = command.splitlines()[1]
    words = [*words_of(line)[:-1]]
    printed = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    form = re.compile(r"thought: .+\n( \d\. \d\.\d{4}  notes/\w+\.\w+:\d+  .+\n {4}.+\n){2}")
    assert form.fullmatch(shown)
    assert form.fullmatch(printed), printed


def test_the_same_from_a_wheel(
    empty_folder: Path, model: Path, tmp_path: Path, compile_cache: CompileCache
):
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, site], check=True)
    lines = [words_of(line) for line in LINES]
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_WHEEL, site, model, json.dumps(lines)],
        env={
            **os.environ,
            "PYTHONPATH": str(site),
            "JAX_COMPILATION_CACHE_DIR": str(compile_cache.own),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert len(printed) == len(LINES)
    for line, result in zip(LINES, printed, strict=True):
        check_first(line, result)
