import sys

import pytest

REWARDS = """
import numpy as np

def short(context):
    return np.array([[-float(t.reasoning_tokens) for t in group] for group in context.thoughts])

def same(context):
    return np.zeros(context.shape)

def broken(context):
    return np.array([1.0])
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with a file of rewards, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    (tmp_path / "my_rewards.py").write_text(REWARDS)
    return tmp_path


def test_a_reward_in_the_current_folder_is_tried_on_sampled_thoughts(t1, here, base_model):
    arguments = ("-m", base_model, "--queries", 2, "-n", 2, "--max-thought-tokens", 4)
    answer = t1("reward", "try", "my_rewards:short", "log_rank", *arguments, "--json")
    assert answer.code == 0, answer.err
    first, second = answer.json["queries"]
    assert first["query"] == "why is the sky blue"
    for query in (first, second):
        rewards = [thought["reward"] for thought in query["thoughts"]]
        assert rewards == sorted(rewards, reverse=True)
        for thought in query["thoughts"]:
            assert -4 <= thought["terms"]["my_rewards:short"] <= 0
            assert 0 <= thought["terms"]["log_rank"] <= 1
            assert 1 <= thought["rank"] <= 8
            assert thought["reward"] == pytest.approx(sum(thought["terms"].values()))
    assert "why is the sky blue" in answer.err
    assert "advantage" in answer.err


def test_a_reward_that_pays_all_thoughts_the_same_is_pointed_out(t1, here, base_model, pets):
    answer = t1(
        "reward", "try", "my_rewards:same", "-m", base_model, "-c", pets, "--split", "test",
        "--queries", 1, "-n", 2, "--max-thought-tokens", 4,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "rank of 12" in answer.out
    assert "GRPO would learn nothing" in answer.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("my_rewards:brief",), "has no function 'brief'"),
        (("my_rewards:broken",), "returned float64[1], not float[4, 4]"),
        (("your_rewards:short",), "your_rewards must be beside the config, in the current"),
        (("fromat",), "did you mean 'format'?"),
        (("gap", "--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("gap", "-c", "cwe", "--data", "x.jsonl"), "not both"),
        (("gap", "-m", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_found_before_a_model_is_loaded(t1, here, arguments, message):
    answer = t1("reward", "try", *arguments)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
