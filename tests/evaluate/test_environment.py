from pathlib import Path

import pytest

import t1_jax
from t1_jax.evaluate import environment


def test_versions_name_what_is_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package-anywhere"))
    found = environment.package_versions()
    assert found["t1_jax"] == t1_jax.__version__
    assert "numpy" in found
    assert "no-such-package-anywhere" not in found


def test_the_machine_is_told_without_empty_lines():
    found = environment.hardware()
    assert int(found["cores"]) >= 1
    assert all(found.values())


def test_a_status_file_that_is_not_there_is_no_fault(tmp_path: Path):
    (tmp_path / "info").write_text("model name\t: Fast: 3 GHz\nMemTotal: 12 kB\n")
    assert environment._status_value(tmp_path / "info", "model name") == "Fast: 3 GHz"
    assert environment._status_value(tmp_path / "info", "missing") is None
    assert environment._status_value(tmp_path / "none", "model name") is None
