"""Rows of tokens to rectangular batches: few shapes, little padding, order restored at the end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from t1_jax.errors import ConfigError, DataError
from t1_jax.text.tokenizer import PromptTokens


@dataclass(frozen=True, kw_only=True)
class BucketConfig:
    """The shapes that batches may have; each is compiled once.

    Attributes:
        lengths: row lengths in tokens, ascending; a row is padded to the smallest that holds it.
        row_counts: numbers of rows, ascending, beginning with 1.
        max_batch_tokens: rows x length never exceeds this, padding included.
    """

    lengths: tuple[int, ...] = (
        32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192,
    )  # fmt: skip
    row_counts: tuple[int, ...] = (1, 4, 16, 64)
    max_batch_tokens: int = 8192

    def __post_init__(self) -> None:
        for name, values in (("lengths", self.lengths), ("row_counts", self.row_counts)):
            if not values or sorted(set(values)) != list(values) or values[0] < 1:
                raise ConfigError(f"{name} must ascend from at least 1, got {values}")
        if self.row_counts[0] != 1:
            raise ConfigError(f"row_counts must begin with 1, got {self.row_counts}")
        if self.max_batch_tokens < self.lengths[-1]:
            raise ConfigError(
                f"max_batch_tokens ({self.max_batch_tokens}) cannot hold one row of the longest "
                f"bucket ({self.lengths[-1]})"
            )

    def within(self, max_positions: int) -> "BucketConfig":
        """The same for a model whose context ends there: no row is padded beyond it."""
        kept = tuple(length for length in self.lengths if length < max_positions)
        if len(kept) == len(self.lengths):
            return self
        return replace(self, lengths=(*kept, max_positions))

    def length_for(self, tokens: int) -> int:
        """The bucket of a row of `tokens` tokens.

        Raises:
            DataError: no bucket is long enough.
        """
        for length in self.lengths:
            if tokens <= length:
                return length
        raise DataError(
            f"a row of {tokens} tokens is longer than the longest bucket ({self.lengths[-1]})",
            hint="cut texts at fewer tokens, or add a longer bucket",
        )

    def rows_allowed(self, length: int) -> list[int]:
        """Numbers of rows that a batch of this length may have, ascending."""
        return [rows for rows in self.row_counts if rows * length <= self.max_batch_tokens]

    def shapes(self) -> list[tuple[int, int]]:
        """Every shape (rows, length) a batch can have: the bound on compilations."""
        return [(rows, length) for length in self.lengths for rows in self.rows_allowed(length)]


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenBatch:
    """Rows padded on the right; rows that hold no item fill up the shape.

    Attributes:
        tokens: ids, padded with the tokenizer's `pad_id`.
        lengths: tokens of each row; 1 for a row without an item, so that it attends to something.
        emb_position: where `<emb_token>` stands in each row; 0 for a row without an item.
        item_index: which of the given rows this is; -1 for a row without an item.
    """

    tokens: Int[np.ndarray, "B L"]
    lengths: Int[np.ndarray, " B"]
    emb_position: Int[np.ndarray, " B"]
    item_index: Int[np.ndarray, " B"]


def token_batches(
    rows: Sequence[PromptTokens], config: BucketConfig, *, pad_id: int, emb_token_id: int
) -> list[TokenBatch]:
    """All rows in batches of `config.shapes()`, longest first, so that memory peaks at once.

    Raises:
        DataError: a row is longer than every bucket, or does not hold `<emb_token>` exactly once.
    """
    order = sorted(range(len(rows)), key=lambda item: len(rows[item].ids), reverse=True)
    buckets = [config.length_for(len(rows[item].ids)) for item in order]
    batches, start = [], 0
    while start < len(order):
        length = buckets[start]
        waiting = buckets[start : start + config.row_counts[-1]].count(length)
        count = _rows_for(waiting, config.rows_allowed(length))
        items = order[start : start + count]
        batches.append(_batch(rows, items, (count, length), pad_id, emb_token_id))
        start += count
    return batches


def padding_share(batches: Iterable[TokenBatch]) -> float:
    """The share of token slots, from 0 to 1, that hold no token of an item."""
    real = slots = 0
    for batch in batches:
        real += int(batch.lengths[batch.item_index >= 0].sum())
        slots += batch.tokens.size
    return 1 - real / slots if slots else 0.0


def in_item_order(
    batches: Sequence[TokenBatch], outputs: Sequence[Float[np.ndarray, "_ E"]]
) -> Float[np.ndarray, "items E"]:
    """One row of output for each item, in the order in which the items were given.

    Args:
        batches: all batches of one `token_batches` call, at least one.
        outputs: what was computed for each batch, row by row.
    """
    items = np.concatenate([batch.item_index for batch in batches])
    values = np.concatenate(outputs)
    return values[items >= 0][np.argsort(items[items >= 0])]


def _rows_for(waiting: int, allowed: Sequence[int]) -> int:
    """Rows of the next batch when `waiting` rows need its length: at most half of them idle."""
    enough = [count for count in allowed if count >= waiting]
    if enough and enough[0] <= 2 * waiting:
        return enough[0]
    return max(count for count in allowed if count <= waiting)


def _batch(
    rows: Sequence[PromptTokens],
    items: Sequence[int],
    shape: tuple[int, int],
    pad_id: int,
    emb_token_id: int,
) -> TokenBatch:
    """A batch of `shape` that holds `items`; rows beyond them stay empty."""
    tokens = np.full(shape, pad_id, np.int32)
    lengths = np.ones(shape[0], np.int32)
    emb_position = np.zeros(shape[0], np.int32)
    item_index = np.full(shape[0], -1, np.int32)
    for row, item in enumerate(items):
        ids = rows[item].ids
        (found,) = np.nonzero(ids == emb_token_id)
        if len(found) != 1:
            raise DataError(f"row {item} holds <emb_token> {len(found)} times; once is needed")
        tokens[row, : len(ids)] = ids
        lengths[row], emb_position[row], item_index[row] = len(ids), found[0], item
    return TokenBatch(
        tokens=tokens, lengths=lengths, emb_position=emb_position, item_index=item_index
    )
