"""Rows fall into few shapes, and what fills a shape up weighs nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import ConfigError, DataError
from t1_jax.parallel import single_device_mesh_context
from t1_jax.train.batch import GlobalBatch, MicroBatchConfig, Row, micro_batches, place_rows
from tests.train.toy_steps import mesh_of

SMALL = MicroBatchConfig(rows=4, tokens=64, length_step=8)


def document(length: int, number: int = 0) -> Row:
    ids = np.arange(1, length + 1, dtype=np.int32)
    return Row(tokens=ids, emb_at=[length - 1], vectors=[number])


def imitated(length: int, actions: int, column: str = "sft_weight") -> Row:
    ids = np.arange(1, length + 1, dtype=np.int32)
    at = np.arange(length - 1 - actions, length - 1, dtype=np.int32)
    return Row(
        tokens=ids,
        read_at=at,
        targets=ids[at + 1],
        sequence=np.zeros(actions, np.int32),
        columns={column: np.full(actions, 0.5, np.float32)},
    )


def packed(*lengths: int) -> Row:
    sizes = np.array(lengths)
    return Row(
        tokens=np.arange(1, sizes.sum() + 1, dtype=np.int32),
        positions=np.concatenate([np.arange(size) for size in lengths]).astype(np.int32),
        segments=np.repeat(np.arange(len(lengths)), sizes).astype(np.int32),
        emb_at=(np.cumsum(sizes) - 1).tolist(),
        vectors=list(range(len(lengths))),
    )


def cut(rows: list[Row], config: MicroBatchConfig = SMALL) -> list[GlobalBatch]:
    return micro_batches(rows, config, single_device_mesh_context(), pad_id=99)


def test_a_micro_batch_holds_its_rows_and_padding_that_weighs_nothing() -> None:
    (batch,) = cut([imitated(5, 2), imitated(7, 3)])
    micro = batch.micro
    np.testing.assert_array_equal(batch.rows, [1, 0, -1, -1])
    assert micro.tokens.shape == (4, 8)
    np.testing.assert_array_equal(micro.tokens[0], [1, 2, 3, 4, 5, 6, 7, 99])
    np.testing.assert_array_equal(micro.tokens[1], [1, 2, 3, 4, 5, 99, 99, 99])
    assert (np.asarray(micro.tokens[2:]) == 99).all()
    assert micro.targets.shape == (4, 16)
    np.testing.assert_array_equal(micro.read_at[1, :2], [2, 3])
    np.testing.assert_array_equal(micro.targets[1, :2], [4, 5])
    assert float(micro.columns["sft_weight"].sum()) == 0.5 * 5
    np.testing.assert_array_equal(micro.columns["sft_weight"][1], [0.5, 0.5, *[0] * 14])
    assert micro.positions is None
    assert micro.segments is None
    assert batch.tokens == 12
    assert batch.vectors.shape == (4, 0)


def test_rows_of_several_texts_keep_their_positions_and_segments() -> None:
    (batch,) = cut([packed(2, 3), packed(2, 2, 2)])
    positions, segments = batch.micro.positions, batch.micro.segments
    assert positions is not None
    assert segments is not None
    np.testing.assert_array_equal(positions[0], [0, 1, 0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(segments[1], [0, 0, 1, 1, 1, -1, -1, -1])
    assert (np.asarray(segments[2:]) == -1).all()
    np.testing.assert_array_equal(batch.micro.emb_at[:2], [[1, 3, 5], [1, 4, 0]])
    np.testing.assert_array_equal(batch.vectors, [[0, 1, 2], [0, 1, -1], *[[-1] * 3] * 2])


def test_rows_of_one_kind_come_together_and_the_longest_first() -> None:
    rows = [document(9), imitated(30, 4), document(40), imitated(8, 4, "policy_weight"), packed(9)]
    found = cut([*rows, *(document(8) for _ in range(5))])
    assert [batch.rows.tolist() for batch in found] == [
        [2],
        [0, 5, 6, 7],
        [8, 9, -1, -1],
        [1, -1],
        [3, -1, -1, -1],
        [4, -1, -1, -1],
    ]
    assert [batch.micro.tokens.shape for batch in found] == [
        (1, 40),
        (4, 16),
        (4, 8),
        (2, 32),
        (4, 8),
        (4, 16),
    ]


@given(st.lists(st.integers(1, 64), min_size=1, max_size=40), st.sampled_from([1, 2, 4]))
def test_every_row_stands_in_exactly_one_micro_batch_that_fits(
    lengths: list[int], devices: int
) -> None:
    config = MicroBatchConfig(rows=8, tokens=256, length_step=8)
    rows = [document(length, number) for number, length in enumerate(lengths)]
    found = micro_batches(rows, config, mesh_of(devices, 1, 1), pad_id=0)
    stood = np.concatenate([batch.rows for batch in found])
    np.testing.assert_array_equal(np.sort(stood[stood >= 0]), np.arange(len(rows)))
    for batch in found:
        count, length = batch.micro.tokens.shape
        assert count % devices == 0
        assert count <= 8
        assert count * length <= 256
        np.testing.assert_array_equal(batch.vectors[:, 0], batch.rows)
        for row in np.flatnonzero(batch.rows >= 0):
            at = np.asarray(batch.micro.emb_at)[row, 0]
            assert at == lengths[batch.rows[row]] - 1


@given(st.integers(1, 10_000))
def test_lengths_round_up_by_an_eighth_at_most(tokens: int) -> None:
    config = MicroBatchConfig(length_step=32)
    length = config.padded_length(tokens)
    assert tokens <= length < tokens + max(32, tokens / 8)
    assert config.padded_length(length) == length


def test_shapes_are_few() -> None:
    config = MicroBatchConfig(length_step=32)
    lengths = {config.padded_length(tokens) for tokens in range(1, 4097)}
    assert len(lengths) == 16 + 3 * 8
    actions = {cut([imitated(60, n)])[0].micro.targets.shape[1] for n in range(1, 59)}
    assert actions == {16, 32, 64}


@given(st.integers(1, 600), st.integers(64, 10_000), st.sampled_from([1, 2, 8]))
def test_packed_rows_fit_into_a_micro_batch_of_every_device(
    longest: int, tokens: int, devices: int
) -> None:
    config = MicroBatchConfig(rows=16, tokens=tokens, length_step=32)
    length = config.packed_length(longest, devices)
    assert length >= config.padded_length(longest)
    assert config.padded_length(length) == length
    if config.padded_length(longest) * devices <= tokens:
        assert config.rows_of(length, devices) >= devices


def test_arrays_lie_over_the_devices_by_rows() -> None:
    mesh_context = mesh_of(2, 2, 2)
    table = np.arange(24, dtype=np.int32).reshape(8, 3)
    placed = place_rows(table, "bl", mesh_context)
    np.testing.assert_array_equal(placed, table)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}
    assert place_rows(table[:, :0], "bl", mesh_context).shape == (8, 0)


def test_what_does_not_fit_is_refused_with_the_way_out() -> None:
    rows = [document(40)]
    with pytest.raises(ConfigError, match="4 rows and 64 tokens cannot hold one row of 40") as one:
        micro_batches(rows, SMALL, mesh_of(2, 1, 1), pad_id=0)
    assert "micro_batch.tokens to at least 80" in str(one.value.hint)
    with pytest.raises(ConfigError, match="each of 8 devices") as other:
        micro_batches(rows, SMALL, mesh_of(8, 1, 1), pad_id=0)
    assert "micro_batch.rows to at least 8" in str(other.value.hint)
    with pytest.raises(DataError, match="row 1 has no tokens"):
        cut([document(3), document(0)])
    with pytest.raises(ConfigError, match="rows must be at least 1, got 0"):
        MicroBatchConfig(rows=0)
    with pytest.raises(ValueError, match="both positions and segments"):
        Row(tokens=np.ones(2, np.int32), positions=np.arange(2, dtype=np.int32))
