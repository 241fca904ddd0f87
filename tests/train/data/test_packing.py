import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.train.data import PADDING_SEGMENT, TargetRow, pack_rows

PAD = -7


def row(*tokens: int, begin: int = 1) -> TargetRow:
    return TargetRow(tokens=tokens, target_begin=begin, target_end=len(tokens))


def test_an_example_by_hand():
    rows = [row(1, 2), row(3, 4, 5, 6, begin=3), row(7, 8, 9), row(10)]
    first, second = pack_rows(rows, 6, pad_id=PAD)
    assert first.sources == (1, 0)
    assert first.tokens.tolist() == [3, 4, 5, 6, 1, 2]
    assert first.segment_ids.tolist() == [1, 1, 1, 1, 2, 2]
    assert first.positions.tolist() == [0, 1, 2, 3, 0, 1]
    assert first.target_mask.tolist() == [False, False, False, True, False, True]
    assert second.sources == (2, 3)
    assert second.tokens.tolist() == [7, 8, 9, 10, PAD, PAD]
    assert second.segment_ids.tolist() == [1, 1, 1, 2, PADDING_SEGMENT, PADDING_SEGMENT]
    assert second.positions.tolist() == [0, 1, 2, 0, 0, 0]
    assert second.target_mask.tolist() == [False, True, True, False, False, False]


spans = st.integers(1, 12).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(1, size)).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(pair[1], pair[0]))
    )
)


@given(st.lists(spans, max_size=20), st.integers(12, 30))
def test_every_row_comes_back_whole(sizes: list[tuple[int, int, int]], length: int):
    rows = [
        TargetRow(tokens=tuple(range(100 * i, 100 * i + size)), target_begin=begin, target_end=end)
        for i, (size, begin, end) in enumerate(sizes)
    ]
    packed = pack_rows(rows, length, pad_id=PAD)
    assert sorted(n for item in packed for n in item.sources) == list(range(len(rows)))
    for item in packed:
        for segment, number in enumerate(item.sources, 1):
            mine = item.segment_ids == segment
            source, size = rows[number], len(rows[number].tokens)
            assert np.diff(np.flatnonzero(mine)).tolist() == [1] * (size - 1)
            assert tuple(item.tokens[mine].tolist()) == source.tokens
            assert item.positions[mine].tolist() == list(range(size))
            expected = [source.target_begin <= i < source.target_end for i in range(size)]
            assert item.target_mask[mine].tolist() == expected
        padding = item.segment_ids == PADDING_SEGMENT
        assert padding.sum() + sum(len(rows[n].tokens) for n in item.sources) == length
        assert (item.tokens[padding] == PAD).all()
        assert not item.target_mask[padding].any()
    # First fit leaves no two bins that would go into one.
    fill = sorted(int((item.segment_ids > 0).sum()) for item in packed)
    assert len(fill) < 2 or fill[0] + fill[1] > length


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="row 1 has 3 tokens, more than the 2 of a packed row"):
        pack_rows([row(1), row(1, 2, 3)], 2, pad_id=PAD)


@pytest.mark.parametrize(("begin", "end"), [(0, 1), (2, 1), (1, 4)])
def test_targets_lie_within_the_row(begin: int, end: int):
    with pytest.raises(DataError, match=f"targets {begin} to {end} of a row of 3 tokens"):
        TargetRow(tokens=(1, 2, 3), target_begin=begin, target_end=end)
