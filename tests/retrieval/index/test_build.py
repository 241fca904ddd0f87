from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.retrieval import Fingerprint, Index, build_index, load_index
from t1_jax.retrieval.index.build import INDEX_KINDS

FINGERPRINT = Fingerprint(encoder="e0", prompt="f0", data="d0")


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_every_kind_is_an_index(kind: str):
    if kind == "faiss":
        pytest.importorskip("faiss", reason="needs t1_jax[faiss]")
    index = build_index(kind, ["a", "b"], np.eye(2, 4))
    assert isinstance(index, Index)
    assert index.kind == kind


def test_an_unknown_kind_names_the_known():
    with pytest.raises(ConfigError, match=r"'annoy'\n  hint: use one of numpy, jax, scann, faiss"):
        build_index("annoy", ["a"], np.ones((1, 2)))


def test_an_index_can_be_searched_exactly_by_another_back_end(tmp_path: Path):
    build_index("scann", ["a", "b"], np.eye(2, 4)).save(tmp_path / "index", FINGERPRINT)
    for kind in ("numpy", "jax"):
        loaded = load_index(tmp_path / "index", FINGERPRINT, kind=kind)
        assert loaded.kind == kind
        assert loaded.search(np.eye(1, 4), 2).rows.tolist() == [[0, 1]] or loaded.ids == ("a", "b")


def test_an_index_without_scann_files_is_not_searched_with_scann(tmp_path: Path):
    build_index("numpy", ["a", "b"], np.eye(2, 4)).save(tmp_path / "index", FINGERPRINT)
    with pytest.raises(ConfigError, match="built for 'numpy' and cannot be searched with 'scann'"):
        load_index(tmp_path / "index", FINGERPRINT, kind="scann")
