"""One process asked to stop is all processes asked to stop."""

import jax
import numpy as np
import pytest

from t1_jax.train.infra import any_process


@pytest.mark.parametrize("flag", [True, False])
def test_one_process_decides_alone(flag: bool) -> None:
    assert any_process(flag) is flag


@pytest.mark.parametrize(
    ("others", "answer"), [([False, False], False), ([False, True], True), ([True, True], True)]
)
def test_many_processes_decide_together(
    others: list[bool], answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(
        "t1_jax.train.infra.stopping.multihost_utils.process_allgather",
        lambda flag: np.stack([flag, *map(np.asarray, others)]),
    )
    assert any_process(False) is answer
    assert any_process(True) is True
