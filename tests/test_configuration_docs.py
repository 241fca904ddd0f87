"""docs/configuration.md is generated from the dataclasses and must be current."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from t1_jax.config import describe

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "configuration", ROOT / "scripts" / "configuration.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(script: ModuleType) -> None:
    current = script.PAGE.read_text(encoding="utf-8") == script.render()
    assert current, "docs/configuration.md is stale: run `make docs` and commit the result"


def test_every_setting_has_one_row(script: ModuleType) -> None:
    rows = [line.split("`")[1] for line in script.render().splitlines() if line.startswith("| `")]
    settings = [
        field.key for cls in script.CONFIGS.values() for field in describe(cls) if not field.group
    ]
    assert sorted(rows) == sorted(settings)
