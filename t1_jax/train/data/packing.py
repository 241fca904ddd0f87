"""Several short rows in one long one, for the cold start: less padding, the same loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from t1_jax.errors import DataError

PADDING_SEGMENT = -1
"""Segment of padding. 0 is the model's, for a prefix that every segment sees."""


@dataclass(frozen=True, kw_only=True)
class TargetRow:
    """Tokens, and the span of them that the loss is about.

    Attributes:
        tokens: prompt, thought and `<emb_token>`.
        target_begin: first position whose token is a target, at least 1.
        target_end: the position after the last such.

    Raises:
        DataError: the span does not lie within the tokens, or starts at a token that has none
            before it to be predicted from.
    """

    tokens: tuple[int, ...]
    target_begin: int
    target_end: int

    def __post_init__(self) -> None:
        if not 1 <= self.target_begin <= self.target_end <= len(self.tokens):
            raise DataError(
                f"targets {self.target_begin} to {self.target_end} of a row of "
                f"{len(self.tokens)} tokens; they must lie within 1 and its length"
            )


@dataclass(frozen=True, kw_only=True)
class PackedRow:
    """Rows one behind the other, and padding after them.

    Attributes:
        tokens: of the rows, then the padding token.
        segment_ids: 1, 2, ... for the rows, `PADDING_SEGMENT` for padding.
        positions: from 0 in each segment, and 0 on padding.
        target_mask: True where the token is a target, predicted from the position before it.
        sources: numbers of the rows in the input, in the order of the segments.
    """

    tokens: Int[np.ndarray, " L"]
    segment_ids: Int[np.ndarray, " L"]
    positions: Int[np.ndarray, " L"]
    target_mask: Bool[np.ndarray, " L"]
    sources: tuple[int, ...]


def pack_rows(rows: Sequence[TargetRow], length: int, *, pad_id: int) -> tuple[PackedRow, ...]:
    """Packs the rows of one step, first fit by falling length: at most 11/9 of the best + 1.

    Grain's packers are not used. They read on until a batch of bins is full, so that a packed
    batch ends between two steps, its position joins the state that a resume must restore, and a
    step has no fixed set of queries; and their padding is segment 0. Packing what a step has drawn
    needs no state, and its result depends on nothing but its arguments.

    Args:
        rows: of a step.
        length: tokens of a packed row.
        pad_id: the token of padding.

    Raises:
        DataError: a row is longer than `length`.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: -len(rows[number].tokens)):
        size = len(rows[number].tokens)
        if size > length:
            raise DataError(
                f"row {number} has {size} tokens, more than the {length} of a packed row",
                hint="pack to a greater length, or cut queries and thoughts shorter",
            )
        place = next((place for place, free in enumerate(room) if free >= size), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(length)
        bins[place].append(number)
        room[place] -= size
    return tuple(_packed(rows, sources, length, pad_id) for sources in bins)


def _packed(
    rows: Sequence[TargetRow], sources: Sequence[int], length: int, pad_id: int
) -> PackedRow:
    tokens = np.full(length, pad_id, dtype=np.int32)
    segment_ids = np.full(length, PADDING_SEGMENT, dtype=np.int32)
    positions = np.zeros(length, dtype=np.int32)
    target_mask = np.zeros(length, dtype=bool)
    begin = 0
    for segment, number in enumerate(sources, 1):
        row = rows[number]
        end = begin + len(row.tokens)
        tokens[begin:end] = row.tokens
        segment_ids[begin:end] = segment
        positions[begin:end] = np.arange(len(row.tokens))
        target_mask[begin + row.target_begin : begin + row.target_end] = True
        begin = end
    return PackedRow(
        tokens=tokens,
        segment_ids=segment_ids,
        positions=positions,
        target_mask=target_mask,
        sources=tuple(sources),
    )
