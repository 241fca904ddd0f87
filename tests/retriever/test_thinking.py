"""Thinking with and without a cache: the same blocks, the same bits."""

from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import ConfigError, WeightsError
from t1_jax.generate import SamplingParams, Thought
from t1_jax.interrupt import Interrupt, Interrupted
from t1_jax.retriever import T1, ThoughtCache
from tests.retriever.tiny import with_provenance

QUERIES = [f"query number {number}" for number in range(70)]
"""More than a block: 8 batches of 8 rows."""
GREEDY = SamplingParams(temperature=0.0)


def with_cache(tiny_t1: T1, provenance, cache: ThoughtCache | None, interrupt=None) -> T1:
    return with_provenance(tiny_t1, provenance, interrupt=interrupt, thought_cache=cache)


def thoughts_of(model: T1, queries=QUERIES, **options) -> tuple[np.ndarray, list[list[Thought]]]:
    return model.encode_query(queries, return_thoughts=True, **options)


def assert_same_bits(first, second) -> None:
    np.testing.assert_array_equal(first[0], second[0])
    for mine, theirs in zip(first[1], second[1], strict=True):
        for a, b in zip(mine, theirs, strict=True):
            for name in ("token_ids", "log_probs", "log_probs_at_1", "embedding"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
            assert (a.finish_reason, a.sample, a.text) == (b.finish_reason, b.sample, b.text)


def test_no_cache_an_empty_one_and_a_full_one_give_the_same_bits(
    tiny_t1, tiny_origin, tmp_path
) -> None:
    queries = [*QUERIES, QUERIES[3]]
    plain = thoughts_of(with_cache(tiny_t1, tiny_origin, None), queries)
    for expected in (0, len(QUERIES)):
        cache = ThoughtCache(tmp_path / "c")
        again = thoughts_of(with_cache(tiny_t1, tiny_origin, cache), queries)
        assert_same_bits(plain, again)
        assert cache.hits == expected


def test_only_what_is_missing_is_sampled(tiny_t1, tiny_origin, tmp_path) -> None:
    cache = ThoughtCache(tmp_path / "c")
    model = with_cache(tiny_t1, tiny_origin, cache)
    first = thoughts_of(model, QUERIES[:3])
    both = thoughts_of(model, QUERIES[:5])
    assert (cache.hits, cache.misses) == (3, 5)
    assert_same_bits(first, (both[0][:3], both[1][:3]))
    plain = thoughts_of(tiny_t1, QUERIES[:5])
    for mine, theirs in zip(both[1], plain[1], strict=True):
        assert mine[0].token_ids.tolist() == theirs[0].token_ids.tolist()
        np.testing.assert_allclose(mine[0].embedding, theirs[0].embedding, atol=1e-5)


def test_further_thoughts_keep_those_that_are_known(tiny_t1, tiny_origin, tmp_path) -> None:
    model = with_cache(tiny_t1, tiny_origin, ThoughtCache(tmp_path / "c"))
    ((one,),) = thoughts_of(model, QUERIES[:1])[1]
    (both,) = thoughts_of(model, QUERIES[:1], n=2)[1]
    assert [thought.sample for thought in both] == [0, 1]
    np.testing.assert_array_equal(both[0].embedding, one.embedding)


def test_greedy_thoughts_are_shared_by_evaluation_and_search(
    tiny_t1, tiny_origin, tmp_path
) -> None:
    """The one names its queries, the other does not."""
    cache = ThoughtCache(tmp_path / "c")
    model = with_cache(tiny_t1, tiny_origin, cache)
    named = thoughts_of(model, QUERIES[:2], query_ids=["a", "b"], sampling=GREEDY)
    assert_same_bits(named, thoughts_of(model, QUERIES[:2], sampling=GREEDY))
    assert cache.hits == 2


def test_finished_blocks_survive_an_interruption(tiny_t1, tiny_origin, tmp_path) -> None:
    cache = ThoughtCache(tmp_path / "c")
    interrupt = Interrupt(lambda: len(cache_rows(cache)) >= 64)
    with pytest.raises(Interrupted):
        thoughts_of(with_cache(tiny_t1, tiny_origin, cache, interrupt))
    assert len(cache_rows(cache)) == 64
    resumed = thoughts_of(with_cache(tiny_t1, tiny_origin, cache))
    assert_same_bits(resumed, thoughts_of(with_cache(tiny_t1, tiny_origin, None)))


def cache_rows(cache: ThoughtCache) -> list[bytes]:
    return [key for (key,) in cache._open().execute("SELECT key FROM thoughts")]


def test_a_prompt_that_does_not_fit_is_found_before_the_first_block(tiny_t1) -> None:
    with pytest.raises(ConfigError, match="positions"):
        thoughts_of(tiny_t1, max_thought_tokens=500)


def test_a_model_of_unknown_weights_has_no_cache(tiny_t1, tmp_path: Path) -> None:
    model = with_cache(tiny_t1, None, ThoughtCache(tmp_path / "c"))
    with pytest.raises(WeightsError, match="built from parts"):
        thoughts_of(model, QUERIES[:1])
