import re
from typing import Any

from t1_jax.train.infra.page import reward_curves, thoughts_page


def rollout(step: int, reward: float | None, thought: str) -> dict[str, Any]:
    return {
        "step": step,
        "stage": "s3",
        "of": "rollout",
        "set": "zoo",
        "query_id": "q1",
        "query": "who <purrs>?",
        "positive": "cat",
        "thought": thought,
        "finish_reason": "length",
        "reward": reward,
        "advantage": 0.5,
        "terms": {} if reward is None else {"gap": 0.25},
    }


def validation(step: int, score: float, thought: str) -> dict[str, Any]:
    return {
        "step": step,
        "stage": "s2",
        "of": "validation",
        "set": "zoo",
        "query_id": "v1",
        "query": "who barks",
        "thought": thought,
        "finish_reason": "emb_token",
        "gold": ["The dog"],
        "ndcg@10": score,
    }


METRICS = [
    {"step": 0, "validation/ndcg@10": 0.25},
    {"step": 1, "reward": 0.5, "reward/gap": 0.1, "loss": 1.0},
    {"step": 2, "reward": None, "reward/gap": 0.3},
    {"step": 3, "reward": 1.5, "reward/gap": 0.2, "validation/ndcg@10": 0.75},
]


def test_the_page_shows_thoughts_with_rewards_best_first_and_queries_over_time():
    page = thoughts_page(
        "run",
        METRICS,
        [
            validation(0, 0.25, "\x1bred"),
            rollout(1, None, "without a reward"),
            rollout(3, 0.1, "<b>worse</b>"),
            rollout(3, 0.9, "better"),
            validation(3, 0.75, "a dog"),
        ],
    )
    assert page.index("better") < page.index("&lt;b&gt;worse")
    assert "who &lt;purrs&gt;?" in page
    assert "mean reward 0.500" in page
    assert page.index("␛red") < page.index("a dog") < page.index("better")
    assert "(truncated)" in page
    assert not re.search(r'(src|href)="', page)


def test_curves_leave_out_what_was_not_logged_and_other_metrics():
    curves = {curve.name: curve for curve in reward_curves(METRICS)}
    assert list(curves) == ["validation/ndcg@10", "reward", "reward/gap"]
    reward = curves["reward"]
    assert (reward.first, reward.last, reward.steps) == (0.5, 1.5, (1, 3))
    assert reward.points == "0.0,120.0 640.0,0.0"


def test_a_long_run_shows_steps_from_the_first_to_the_last():
    page = thoughts_page("run", [], [rollout(step, 1.0, f"t{step}.") for step in range(1, 301)])
    assert "60 steps, evenly from the first to the last; 240 more" in page
    assert "t1." in page
    assert "t300." in page
