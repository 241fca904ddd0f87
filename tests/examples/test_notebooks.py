"""The notebooks run from top to bottom, with a tiny model in place of the shipped one."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from t1_jax.parallel import single_device_mesh_context
from t1_jax.retriever import T1
from t1_jax.text import T1Tokenizer
from tests.train.toy_runs import write_model

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: T1Tokenizer) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny", tiny_tokenizer)


@pytest.fixture(scope="module")
def tiny(folder: Path) -> T1:
    return T1.load(folder, dtype="float32", mesh_context=single_device_mesh_context())


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_cell_runs(
    path: Path, folder: Path, tiny: T1, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(T1, "load", lambda *_, **__: tiny)
    monkeypatch.setattr("t1_jax.retriever.search_source.DEFAULT_MODEL", str(folder))
    monkeypatch.setenv("T1_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, cell in enumerate(code_cells(path), 1):
        tree = ast.parse("".join(cell["source"]))
        shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{path.name}, cell {number}", "exec"), names)
        if isinstance(shown, ast.Expr):  # a notebook shows the value of the last line
            value = eval(compile(ast.Expression(shown.value), path.name, "eval"), names)
            getattr(value, "_repr_html_", value.__repr__)()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_stored_outputs_are_complete_and_without_errors(path: Path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert cell["outputs"]
        assert all(output["output_type"] != "error" for output in cell["outputs"])
    assert str(Path.home()) not in path.read_text()
