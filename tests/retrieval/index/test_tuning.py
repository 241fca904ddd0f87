"""The fastest settings that reach the recall are found with few measurements."""

from typing import Any

import numpy as np
import pytest

from t1_jax.errors import IndexContractError
from t1_jax.retrieval.index import EmbeddingTable, tuning
from t1_jax.retrieval.index.recall import RecallSample
from t1_jax.retrieval.index.tuning import Trial, check_recall, choose_settings, counts_up_to
from tests.retrieval.index.untrained import Untrained


class Tuned(Untrained):
    """An index whose settings are measured."""

    def propose(self, units, count):
        return np.zeros((len(units), 1), np.int64)


def choose(monkeypatch, ladders, recall_of, speed_of, minimum) -> tuple[Trial, list[Any]]:
    tried = []

    def measured(index, settings, sample, minimum_recall):
        tried.append(settings)
        return Trial(
            settings=settings,
            recall_at_10=recall_of(settings),
            queries_per_second=speed_of(settings),
        )

    monkeypatch.setattr(tuning, "_measured", measured)
    index = Tuned(EmbeddingTable.from_vectors(["a"], np.eye(1)), None, None)
    trial = choose_settings(index, ladders, RecallSample(index.table), minimum)
    assert index.settings == trial.settings
    return trial, tried


@pytest.mark.parametrize("enough", [0, 1, 6, 13, 19])
def test_the_first_settings_of_a_ladder_that_reach_the_recall(monkeypatch, enough):
    trial, tried = choose(
        monkeypatch,
        [list(range(20))],
        lambda effort: 1.0 if effort >= enough else 0.5,
        lambda effort: 1000.0 / (1 + effort),
        0.95,
    )
    assert trial.settings == enough
    assert len(tried) <= 10


def test_the_fastest_over_all_ladders(monkeypatch):
    ladders = [[("few", effort) for effort in range(8)], [("many", effort) for effort in range(8)]]
    needed = {"few": 7, "many": 1}
    trial, _ = choose(
        monkeypatch,
        ladders,
        lambda given: 1.0 if given[1] >= needed[given[0]] else 0.5,
        lambda given: 100.0 / (1 + given[1]) - (given[0] == "many"),
        0.9,
    )
    assert trial.settings == ("many", 1)


def test_without_any_that_reaches_it_the_best_is_taken_and_can_be_refused(monkeypatch):
    trial, _ = choose(monkeypatch, [[1, 2, 3]], lambda n: n / 10, lambda n: 1.0, 0.9)
    assert (trial.settings, trial.recall_at_10) == (3, 0.3)
    with pytest.raises(IndexContractError, match=r"X reaches a recall@10 of 0\.300"):
        check_recall("X", trial, 0.9)
    check_recall("X", trial, 0.3)


def test_counts_grow_by_about_a_half():
    assert counts_up_to(20) == [1, 2, 3, 4, 6, 9, 13, 19, 20]
    assert counts_up_to(1) == [1]
    assert counts_up_to(40, start=16) == [16, 24, 36, 40]
