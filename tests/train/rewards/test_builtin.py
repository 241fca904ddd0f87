"""Each reward against its formula, worked by hand or by trec_eval."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.generate import FinishReason
from t1_jax.retrieval import score_run
from t1_jax.train.rewards import RetrievalOutcome, RewardOptions, outcome_from_scores
from t1_jax.train.rewards.builtin import (
    copying_reward,
    cosine_dcg_reward,
    format_reward,
    gain_reward,
    gap_reward,
    length_reward,
    log_rank_reward,
    ndcg_reward,
    repetition_reward,
)
from tests.train.rewards.toys import EMB, context, outcome, thought

ANY = outcome([[1]])


def test_format_pays_for_one_drawn_token_after_some_reasoning():
    group = [
        thought([1, 2]),
        thought([1, 2], text="a cause"),
        thought([]),
        thought([1, EMB, 2]),
        thought([1, 2], finish_reason=FinishReason.LENGTH),
        thought([1, 2], finish_reason=FinishReason.EOS),
        thought([1, 2], text=" \n"),
    ]
    found = format_reward(context(outcome([[1]] * len(group)), thoughts=group))
    assert found.tolist() == [[1, 1, 0, 0, 0, 0, 0]]


def test_format_of_special_tokens_alone():
    special = frozenset({7, 8, EMB})
    group = [
        thought([7, 8], text="<|im_start|>"),
        thought([7, 1], text="<|im_start|>a"),
        thought([7]),
    ]
    given_ = replace(context(outcome([[1]] * len(group)), thoughts=group), special_ids=special)
    assert format_reward(given_).tolist() == [[0, 1, 0]]


def test_length_is_soft_overlong_punishment():
    """DAPO eq. 13 with L_max 8 and a cache of 4, by its three cases."""
    lengths = range(9)
    group = [thought([1] * length) for length in lengths]
    punished = [0.0 if n <= 8 - 4 else ((8 - 4) - n) / 4 if n <= 8 else -1.0 for n in lengths]
    found = length_reward(
        context(outcome([[1]] * len(group)), thoughts=group, max_thought_tokens=8)
    )
    np.testing.assert_allclose(found, [1 + np.array(punished)])


ONE_CANDIDATE = outcome([[1]], scores=[[0.7]], candidates=1)
ALL_TIE = outcome([[100]], scores=[[0.7]], negatives=[0.7] * 10)
BOTH_TIE = outcome([[2, 2]], scores=[[0.7, 0.7]], candidates=2)
OPPOSITE = outcome([[100]], scores=[[-1.0]], negatives=[1.0] * 10)


@pytest.mark.parametrize(
    ("where", "log_rank", "ndcg", "cosine_dcg", "gap"),
    [
        (ONE_CANDIDATE, 1.0, 1.0, 0.7, 0.7),
        (ALL_TIE, 0.0, 0.0, 0.7 / math.log2(101), 0.0),
        (BOTH_TIE, 0.0, 2 / (1 + math.log2(3)), 1.4 / (1 + math.log2(3)), 0.7),
        (OPPOSITE, 0.0, 0.0, 0.0, -2.0),
    ],
)
def test_rankings_at_their_edges(
    where: RetrievalOutcome, log_rank: float, ndcg: float, cosine_dcg: float, gap: float
):
    given_ = context(where, nothink=where)
    for reward, expected in (
        (log_rank_reward, log_rank),
        (ndcg_reward, ndcg),
        (cosine_dcg_reward, cosine_dcg),
        (gap_reward, gap),
        (gain_reward, 0.0),
    ):
        assert reward(given_).item() == pytest.approx(expected, abs=1e-12), reward


def test_an_empty_thought():
    given_ = context(ANY, thoughts=[thought([])])
    found = [r(given_).item() for r in (format_reward, length_reward)]
    assert found == [0.0, 1.0]
    assert repetition_reward(given_).item() == copying_reward(given_).item() == 0.0


@pytest.mark.parametrize(
    ("target", "lengths", "expected"),
    [
        (None, [0, 4, 5, 6, 8], [1, 1, 0.75, 0.5, 0]),  # half of the budget of 8
        (2, [2, 3, 4, 8], [1, 0.5, 0, 0]),
    ],
)
def test_length(target: int | None, lengths: list[int], expected: list[float]):
    group = [thought([1] * length) for length in lengths]
    where = outcome([[1]] * len(group))
    given_ = context(where, thoughts=group, options=RewardOptions(length_target=target))
    assert length_reward(given_).tolist() == [expected]


def test_log_rank():
    """Over 100 candidates rank 10 is half way on the logarithm; of several the best one counts."""
    found = log_rank_reward(context(outcome([[1], [10], [100]])))
    np.testing.assert_allclose(found, [[1.0, 0.5, 0.0]], atol=1e-12)
    found = log_rank_reward(context(outcome([[30, 10], [100, 1]])))
    np.testing.assert_allclose(found, [[0.5, 1.0]])
    assert log_rank_reward(context(outcome([[1]], candidates=1))).item() == 1.0


@given(seed=st.integers(0, 2**32 - 1), k=st.sampled_from([1, 3, 10]))
def test_ndcg_is_that_of_trec_eval(seed: int, k: int):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(15).astype(float)
    grades = np.where(rng.random(15) < 0.4, rng.integers(1, 4, 15), 0)
    grades[0] = 2
    where = outcome_from_scores(scores[None, None], grades[None], np.ones((1, 15), bool))
    run = {"q": {str(c): score for c, score in enumerate(scores)}}
    judged = {"q": {str(c): int(grade) for c, grade in enumerate(grades)}}
    expected = score_run(run, judged, metrics=[f"nDCG@{k}"]).mean(f"nDCG@{k}")
    found = ndcg_reward(context(where, options=RewardOptions(ndcg_k=k)))
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_cosine_dcg():
    where = outcome([[1, 3], [2, 5]], scores=[[0.8, 0.5], [0.4, -0.2]])
    ideal = 1 + 1 / math.log2(3)
    expected = [(0.8 + 0.5 / 2) / ideal, (0.4 / math.log2(3)) / ideal]
    np.testing.assert_allclose(cosine_dcg_reward(context(where)), [expected])
    alone = outcome([[1, -1]], grades=[1, 0], scores=[[1.0, 0.0]])
    assert cosine_dcg_reward(context(alone)).item() == 1.0


def test_gap():
    where = outcome([[1, 2], [1, 2]], scores=[[0.8, 0.6], [0.5, 0.5]], negatives=[0.4, 0.2])
    np.testing.assert_allclose(gap_reward(context(where)), [[0.4, 0.2]])
    one_of_two = outcome([[1, -1]], grades=[1, 0], scores=[[0.8, 0.0]])
    assert gap_reward(context(one_of_two)).item() == pytest.approx(0.8)  # no negatives: mean 0


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ("log_rank", [0.5, 0.0]),
        ("ndcg", [1 - 1 / math.log2(11), 0.0]),
        ("gap", [0.3, -0.1]),
    ],
)
def test_gain_over_no_thought(of: str, expected: list[float]):
    where = outcome([[1], [10]], scores=[[0.8], [0.4]], negatives=[0.2])
    nothink = outcome([[10]], scores=[[0.5]], negatives=[0.2])
    given_ = context(where, nothink=nothink, options=RewardOptions(gain_of=of))
    np.testing.assert_allclose(gain_reward(given_), [expected], atol=1e-12)


def test_gain_needs_the_standing_without_a_thought():
    with pytest.raises(DataError, match="'gain' needs the outcome"):
        gain_reward(context(ANY))


def test_repetition():
    group = [
        thought([1, 2, 3, 4, 5, 6]),
        thought([7] * 10),  # 7 4-grams, one of them distinct
        thought([1, 2, 3, 4, 1, 2, 3, 4]),  # 5 4-grams, the last one repeats the first
        thought([1, 2]),
    ]
    where = outcome([[1]] * len(group))
    found = repetition_reward(context(where, thoughts=group))
    np.testing.assert_allclose(found, [[0, -6 / 7, -1 / 5, 0]])


def test_copying():
    texts = ["Why does it leak memory", "something else entirely different here", "why", ""]
    group = [thought([1, 2, 3], text=text) for text in texts]
    found = copying_reward(context(outcome([[1]] * len(group)), thoughts=group))
    np.testing.assert_allclose(found, [[-0.5, 0, 0, 0]])
