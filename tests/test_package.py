"""The package as a whole: cheap to import, complete, in small files, and true to its floors."""

import ast
import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

import t1_jax

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "t1_jax").rglob("*.py"))
PACKAGES = {".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES}
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES]

# Modules that need an extra.
EXTRAS = {
    "t1_jax.integrations.langchain": "langchain_core",
    "t1_jax.integrations.llama_index": "llama_index.core",
    "t1_jax.integrations.mteb": "mteb",
}


def test_importing_the_package_is_cheap() -> None:
    heavy = {"jax", "flax", "transformers", "tokenizers", "numpy", "scann", "bm25s", "rich"}
    code = f"import sys, t1_jax; print(sorted({heavy} & sys.modules.keys()))"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert seconds < 1.5


@pytest.mark.parametrize("name", sorted(set(t1_jax.__all__)))
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(t1_jax, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'T2'"):
        t1_jax.T2  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name: str) -> None:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    importlib.import_module(name.removesuffix(".__init__"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_is_small_and_says_what_it_is_for(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= 500
    assert ast.get_docstring(ast.parse(source)), "the first line must say what the file is for"


def test_a_room_takes_from_another_room_only_what_its_package_offers() -> None:
    """`from t1_jax.model import Decoder`: never `t1_jax.model.decoder`, never a `_name`.

    A nested package (`t1_jax.train.data`) is a package of its own, and may import its parent.
    """
    reached = [
        f"{path.relative_to(ROOT)}:{node.lineno}: from {node.module} import {name.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module
        and _is_of_another_room(path, node.module)
        for name in node.names
        if node.module not in PACKAGES or name.name.startswith("_")
    ]
    assert reached == []


def test_imports_keep_to_the_floors() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _is_of_another_room(path: Path, module: str) -> bool:
    here = ".".join(path.parent.relative_to(ROOT).parts)
    room = module if module in PACKAGES else module.rpartition(".")[0]
    return module.startswith("t1_jax.") and not f"{here}.".startswith(f"{room}.")
