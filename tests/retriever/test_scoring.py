"""Scores of given thoughts against the log-probabilities of the sampler and of plain rows."""

import numpy as np
import pytest

from t1_jax.errors import DataError
from t1_jax.generate import SamplingParams
from t1_jax.retriever import T1
from t1_jax.retriever.scoring import mean_log_probs
from t1_jax.text import tokenize_queries

QUERIES = ["an array is written past its end", "a lock is never released", "short"]


def prompts_and_thoughts(model: T1) -> tuple[list[np.ndarray], list[list[np.ndarray]], list]:
    sampling = SamplingParams(seed=1)
    _, thoughts = model.encode_query(QUERIES, n=2, sampling=sampling, return_thoughts=True)
    preset = model.preset.with_instruction(model.preset.query_instruction(None, None))
    prompts = tokenize_queries(model.tokenizer, preset, QUERIES, max_tokens=160)
    tokens = [[thought.token_ids for thought in group] for group in thoughts]
    return [prompt.ids for prompt in prompts], tokens, thoughts


def test_a_sampled_thought_has_the_log_probability_it_was_sampled_with(tiny_t1: T1) -> None:
    prompts, tokens, thoughts = prompts_and_thoughts(tiny_t1)
    scores = mean_log_probs(tiny_t1, prompts, tokens)
    for row, group in zip(scores, thoughts, strict=True):
        expected = [thought.log_probs_at_1.mean() for thought in group]
        np.testing.assert_allclose(row, expected, atol=2e-5)


def test_thoughts_in_one_row_do_not_see_one_another(tiny_t1: T1) -> None:
    groups = [["a", "b c d", "", "e"], ["b c d"], []]
    together = tiny_t1.score_thoughts(QUERIES, groups)
    alone = tiny_t1.score_thoughts([QUERIES[0]] * 4, [[text] for text in groups[0]])
    np.testing.assert_allclose(together[0], np.concatenate(alone), atol=2e-5)
    assert [len(row) for row in together] == [4, 1, 0]
    assert all((row < 0).all() for row in together)


def test_a_row_for_each_thought_gives_the_same(tiny_t1: T1, monkeypatch) -> None:
    """As with a sliding window, or where prompt and thoughts do not fit into one row."""
    prompts, tokens, _ = prompts_and_thoughts(tiny_t1)
    shared = mean_log_probs(tiny_t1, prompts, tokens)
    monkeypatch.setattr("t1_jax.retriever.scoring.shares_prefix", lambda decoder: False)
    finished: list[int] = []
    separate = mean_log_probs(tiny_t1, prompts, tokens, advance=finished.append)
    for a, b in zip(shared, separate, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert sum(finished) == len(prompts)


def test_more_thoughts_than_fit_into_the_context_are_scored_in_several_rows(tiny_t1: T1) -> None:
    many = [f"thought number {number}" for number in range(40)]
    (scores,) = tiny_t1.score_thoughts(QUERIES[:1], [many])
    (first,), (last,) = (
        tiny_t1.score_thoughts(QUERIES[:1], [[text]]) for text in (many[0], many[-1])
    )
    np.testing.assert_allclose(scores[[0, -1]], np.concatenate([first, last]), atol=2e-5)


def test_task_and_instruction_reach_the_prompt_and_numbers_must_agree(tiny_t1: T1) -> None:
    (plain,) = tiny_t1.score_thoughts(QUERIES[:1], [["x"]])
    (by_task,) = tiny_t1.score_thoughts(QUERIES[:1], [["x"]], task="cwe")
    told_text = tiny_t1.preset.instruction("cwe")
    (told,) = tiny_t1.score_thoughts(QUERIES[:1], [["x"]], instruction=told_text)
    np.testing.assert_array_equal(by_task, told)
    assert plain != by_task
    with pytest.raises(DataError, match="3 queries but 1 groups of thoughts"):
        tiny_t1.score_thoughts(QUERIES, [["x"]])
