"""Batches: every row once, whole, in one of few shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.config import load_config, undocumented_fields
from t1_jax.errors import ConfigError, DataError
from t1_jax.text import BucketConfig, PromptTokens, restore_order, token_batches

PAD, EMB = 0, 3
CONFIG = BucketConfig(lengths=(4, 8, 16), batch_sizes=(1, 2, 8), max_batch_tokens=32)


def row(length: int) -> PromptTokens:
    ids = np.full(length, 7, np.int32)
    ids[-1] = EMB
    return PromptTokens(ids=ids)


@given(st.lists(st.integers(1, 16), min_size=1, max_size=60))
def test_every_row_stands_whole_in_one_batch(lengths: list[int]) -> None:
    rows = [row(length) for length in lengths]
    batches = token_batches(rows, CONFIG, pad_id=PAD, emb_token_id=EMB)
    assert {batch.tokens.shape for batch in batches} <= set(CONFIG.shapes())
    seen = []
    for batch in batches:
        for number, item in enumerate(batch.input_index):
            if item < 0:
                assert (batch.tokens[number] == PAD).all()
                assert batch.lengths[number] == 1
                continue
            seen.append(item)
            length = batch.lengths[number]
            np.testing.assert_array_equal(batch.tokens[number, :length], rows[item].ids)
            assert (batch.tokens[number, length:] == PAD).all()
            assert batch.tokens[number, batch.emb_position[number]] == EMB
    assert sorted(seen) == list(range(len(rows)))


@given(st.lists(st.integers(1, 16), min_size=1, max_size=60))
def test_outputs_return_to_the_order_of_the_items(lengths: list[int]) -> None:
    batches = token_batches([row(n) for n in lengths], CONFIG, pad_id=PAD, emb_token_id=EMB)
    outputs = [batch.lengths[:, None].astype(np.float32) for batch in batches]
    assert restore_order(batches, outputs)[:, 0].tolist() == lengths


def test_shapes_keep_to_the_budget_and_are_few() -> None:
    assert CONFIG.shapes() == [(1, 4), (2, 4), (8, 4), (1, 8), (2, 8), (1, 16), (2, 16)]
    default = BucketConfig()
    assert len(default.shapes()) <= 4 * len(default.lengths)
    assert max(rows * length for rows, length in default.shapes()) <= default.max_batch_tokens


def test_free_slots_take_shorter_rows() -> None:
    lengths = [16, 3, 3, 3, 3, 3, 3, 3, 8]
    batches = token_batches([row(n) for n in lengths], CONFIG, pad_id=PAD, emb_token_id=EMB)
    shapes = [batch.tokens.shape for batch in batches]
    assert shapes == [(1, 16), (1, 8), (8, 4)]
    assert (batches[2].input_index >= 0).sum() == 7


def test_padding_is_small_on_realistic_lengths() -> None:
    lengths = np.random.default_rng(0).lognormal(5, 0.6, 1000).clip(20, 2048).astype(int)
    batches = token_batches(
        [row(int(n)) for n in lengths], BucketConfig(), pad_id=PAD, emb_token_id=EMB
    )
    slots = sum(batch.tokens.size for batch in batches)
    assert 1 - lengths.sum() / slots < 0.2


def test_no_rows_make_no_batches() -> None:
    assert token_batches([], CONFIG, pad_id=PAD, emb_token_id=EMB) == []


def test_a_row_longer_than_every_bucket_is_refused() -> None:
    with pytest.raises(DataError, match=r"17 tokens is longer than the longest bucket \(16\)"):
        token_batches([row(17)], CONFIG, pad_id=PAD, emb_token_id=EMB)


@pytest.mark.parametrize("ids", [[7, 7], [EMB, EMB]])
def test_a_row_needs_its_emb_token_once(ids: list[int]) -> None:
    rows = [row(2), PromptTokens(ids=np.array(ids, np.int32))]
    with pytest.raises(DataError, match="row 1 must have <emb_token> once"):
        token_batches(rows, CONFIG, pad_id=PAD, emb_token_id=EMB)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lengths=[8, 4]", "lengths must be ascending"),
        ("lengths=[]", "lengths must be ascending"),
        ("batch_sizes=[2, 4]", "batch_sizes must begin with 1"),
        ("max_batch_tokens=100", "cannot hold one row of the longest bucket"),
    ],
)
def test_buckets_that_cannot_work_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(BucketConfig, overrides=[override])


def test_every_field_is_documented() -> None:
    assert undocumented_fields(BucketConfig) == []


def test_a_short_context_ends_the_buckets() -> None:
    config = BucketConfig(lengths=(32, 64, 128), max_batch_tokens=256)
    assert config.within(100).lengths == (32, 64, 100)
    assert config.within(64).lengths == (32, 64)
    assert config.within(4096) == config
