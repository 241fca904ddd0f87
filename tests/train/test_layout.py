"""Rows fall into few shapes, and what fills a shape up weighs nothing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import ConfigError, DataError
from t1_jax.parallel import single_device_mesh_context
from t1_jax.train.layout import (
    PADDING_SEGMENT,
    EmbeddingIds,
    MicroBatchConfig,
    PlacedMicroBatch,
    Row,
    RowTargets,
    micro_batches,
    pack_rows,
    place_rows,
)
from tests.train.toy_steps import mesh_of

SMALL = MicroBatchConfig(rows=4, tokens=64, length_step=8)


def document(length: int, number: int = 0) -> Row:
    ids = np.arange(1, length + 1, dtype=np.int32)
    return Row(tokens=ids, emb_positions=[length - 1], embedding_ids=[number])


def with_targets(length: int, count: int, weights: str = "sft_weights") -> Row:
    ids = np.arange(1, length + 1, dtype=np.int32)
    at = np.arange(length - 1 - count, length - 1, dtype=np.int32)
    targets = RowTargets(token_ids=ids[at + 1], continuation=np.zeros(count, np.int32))
    return Row(
        tokens=ids,
        logit_positions=at,
        targets=replace(targets, **{weights: np.full(count, 0.5, np.float32)}),
    )


def packed(*lengths: int) -> Row:
    sizes = np.array(lengths)
    return Row(
        tokens=np.arange(1, sizes.sum() + 1, dtype=np.int32),
        positions=np.concatenate([np.arange(size) for size in lengths]).astype(np.int32),
        segment_ids=np.repeat(np.arange(len(lengths)), sizes).astype(np.int32),
        emb_positions=(np.cumsum(sizes) - 1).tolist(),
        embedding_ids=list(range(len(lengths))),
    )


def cut(rows: list[Row], config: MicroBatchConfig = SMALL) -> list[PlacedMicroBatch]:
    return micro_batches(rows, config, single_device_mesh_context(), pad_id=99)


def test_a_micro_batch_holds_its_rows_and_padding_that_weighs_nothing() -> None:
    (batch,) = cut([with_targets(5, 2), with_targets(7, 3)])
    arrays = batch.arrays
    np.testing.assert_array_equal(batch.row_indices, [1, 0, -1, -1])
    assert arrays.tokens.shape == (4, 8)
    np.testing.assert_array_equal(arrays.tokens[0], [1, 2, 3, 4, 5, 6, 7, 99])
    np.testing.assert_array_equal(arrays.tokens[1], [1, 2, 3, 4, 5, 99, 99, 99])
    assert (np.asarray(arrays.tokens[2:]) == 99).all()
    assert arrays.targets.token_ids.shape == (4, 16)
    np.testing.assert_array_equal(arrays.logit_positions[1, :2], [2, 3])
    np.testing.assert_array_equal(arrays.targets.token_ids[1, :2], [4, 5])
    weights = arrays.targets.sft_weights
    assert weights is not None
    assert float(weights.sum()) == 0.5 * 5
    np.testing.assert_array_equal(weights[1], [0.5, 0.5, *[0] * 14])
    assert arrays.positions is None
    assert arrays.segment_ids is None
    assert batch.num_tokens == 12
    assert batch.embedding_ids.shape == (4, 0)


def test_rows_of_several_texts_keep_their_positions_and_segments() -> None:
    (batch,) = cut([packed(2, 3), packed(2, 2, 2)])
    positions, segments = batch.arrays.positions, batch.arrays.segment_ids
    assert positions is not None
    assert segments is not None
    np.testing.assert_array_equal(positions[0], [0, 1, 0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(segments[1], [0, 0, 1, 1, 1, -1, -1, -1])
    assert (np.asarray(segments[2:]) == -1).all()
    np.testing.assert_array_equal(batch.arrays.emb_positions[:2], [[1, 3, 5], [1, 4, 0]])
    np.testing.assert_array_equal(batch.embedding_ids, [[0, 1, 2], [0, 1, -1], *[[-1] * 3] * 2])


def test_rows_of_one_kind_come_together_and_the_longest_first() -> None:
    rows = [
        document(9),
        with_targets(30, 4),
        document(40),
        with_targets(8, 4, "policy_weights"),
        packed(9),
    ]
    found = cut([*rows, *(document(8) for _ in range(5))])
    assert [batch.row_indices.tolist() for batch in found] == [
        [2],
        [0, 5, 6, 7],
        [8, 9, -1, -1],
        [1, -1],
        [3, -1, -1, -1],
        [4, -1, -1, -1],
    ]
    assert [batch.arrays.tokens.shape for batch in found] == [
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
    stood = np.concatenate([batch.row_indices for batch in found])
    np.testing.assert_array_equal(np.sort(stood[stood >= 0]), np.arange(len(rows)))
    for batch in found:
        count, length = batch.arrays.tokens.shape
        assert count % devices == 0
        assert count <= 8
        assert count * length <= 256
        np.testing.assert_array_equal(batch.embedding_ids[:, 0], batch.row_indices)
        for row in np.flatnonzero(batch.row_indices >= 0):
            at = np.asarray(batch.arrays.emb_positions)[row, 0]
            assert at == lengths[batch.row_indices[row]] - 1


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
    counts = {cut([with_targets(60, n)])[0].arrays.targets.token_ids.shape[1] for n in range(1, 59)}
    assert counts == {16, 32, 64}


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
    with pytest.raises(ValueError, match="both positions and segment_ids"):
        Row(tokens=np.ones(2, np.int32), positions=np.arange(2, dtype=np.int32))


def test_embedding_ids_are_taken_in_order() -> None:
    ids = EmbeddingIds()
    assert (list(ids.take(2)), list(ids.take(0)), list(ids.take(3))) == ([0, 1], [], [2, 3, 4])
    assert ids.count == 5


def sft_row(*tokens: int, begin: int = 1) -> Row:
    """A row whose tokens from `begin` on are targets."""
    ids = np.array(tokens, np.int32)
    return Row(
        tokens=ids,
        logit_positions=np.arange(begin - 1, len(ids) - 1, dtype=np.int32),
        targets=RowTargets(
            token_ids=ids[begin:],
            continuation=np.zeros(len(ids) - begin, np.int32),
            sft_weights=ids[begin:].astype(np.float32),
        ),
    )


def test_packed_rows_by_hand() -> None:
    rows = [sft_row(1, 2), sft_row(3, 4, 5, 6, begin=3), sft_row(7, 8, 9), sft_row(10, 11)]
    first, second = pack_rows(rows, 6)
    assert first.tokens.tolist() == [3, 4, 5, 6, 1, 2]
    assert first.segment_ids is not None
    assert first.segment_ids.tolist() == [1, 1, 1, 1, 2, 2]
    assert first.positions is not None
    assert first.positions.tolist() == [0, 1, 2, 3, 0, 1]
    assert first.logit_positions.tolist() == [2, 4]
    assert first.targets.token_ids.tolist() == [6, 2]
    assert second.tokens.tolist() == [7, 8, 9, 10, 11]
    assert second.logit_positions.tolist() == [0, 1, 3]
    (batch,) = cut([first, second])
    assert batch.arrays.segment_ids is not None
    padding = np.asarray(batch.arrays.tokens) == 99
    assert (np.asarray(batch.arrays.segment_ids)[padding] == PADDING_SEGMENT).all()


spans = st.integers(2, 12).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1)))


@given(st.lists(spans, max_size=20), st.integers(12, 30))
def test_packing_keeps_every_row_whole(sizes: list[tuple[int, int]], length: int) -> None:
    rows = [
        sft_row(*range(100 * i, 100 * i + size), begin=begin)
        for i, (size, begin) in enumerate(sizes)
    ]
    packed = pack_rows(rows, length)
    texts = []
    for row in packed:
        assert row.segment_ids is not None
        assert row.positions is not None
        assert row.targets.sft_weights is not None
        for segment in range(1, row.segment_ids.max() + 1):
            within = row.segment_ids == segment
            assert row.positions[within].tolist() == list(range(within.sum()))
            texts.append(row.tokens[within].tolist())
        targets = row.targets.token_ids
        np.testing.assert_array_equal(row.tokens[row.logit_positions + 1], targets)
        np.testing.assert_array_equal(row.targets.sft_weights, targets)
    assert sorted(texts) == [row.tokens.tolist() for row in rows]
    assert sum(len(row.targets) for row in packed) == sum(len(row.targets) for row in rows)
    # First fit leaves no two bins that would go into one.
    fill = sorted(len(row.tokens) for row in packed)
    assert all(size <= length for size in fill)
    assert len(fill) < 2 or fill[0] + fill[1] > length


def test_a_row_that_does_not_fit_into_a_packed_one_is_rejected() -> None:
    with pytest.raises(DataError, match="a row has 3 tokens, more than the 2 of a packed row"):
        pack_rows([sft_row(1, 2), sft_row(1, 2, 3)], 2)
