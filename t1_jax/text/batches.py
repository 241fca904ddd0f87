"""Batches of rows in length buckets: few shapes, little padding, restorable input order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from t1_jax.errors import ConfigError, DataError
from t1_jax.text.tokenizer import PromptTokens


@dataclass(frozen=True, kw_only=True)
class BucketConfig:
    """Shapes of batches; each is compiled once.

    Attributes:
        lengths: row lengths in tokens, ascending; a row is padded to the smallest that fits.
        batch_sizes: numbers of rows, ascending, beginning with 1.
        max_batch_tokens: upper bound of rows x length, including padding.
    """

    lengths: tuple[int, ...] = (
        32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192,
    )  # fmt: skip
    batch_sizes: tuple[int, ...] = (1, 4, 16, 64)
    max_batch_tokens: int = 8192

    def __post_init__(self) -> None:
        for name, values in (("lengths", self.lengths), ("batch_sizes", self.batch_sizes)):
            if not values or sorted(set(values)) != list(values) or values[0] < 1:
                raise ConfigError(f"{name} must be ascending and at least 1, got {values}")
        if self.batch_sizes[0] != 1:
            raise ConfigError(f"batch_sizes must begin with 1, got {self.batch_sizes}")
        if self.max_batch_tokens < self.lengths[-1]:
            raise ConfigError(
                f"max_batch_tokens ({self.max_batch_tokens}) cannot hold one row of the longest "
                f"bucket ({self.lengths[-1]})"
            )

    def within(self, max_positions: int) -> "BucketConfig":
        """The config with all lengths limited to the context length of a model."""
        shorter = tuple(length for length in self.lengths if length < max_positions)
        if len(shorter) == len(self.lengths):
            return self
        return replace(self, lengths=(*shorter, max_positions))

    def with_batch_size(self, most: int) -> "BucketConfig":
        """The config with at most `most` rows in a batch.

        Raises:
            ConfigError: `most` is below 1.
        """
        if most < 1:
            raise ConfigError(f"batch_size must be at least 1, got {most}")
        smaller = tuple(size for size in self.batch_sizes if size < most)
        return replace(self, batch_sizes=(*smaller, most))

    def length_for(self, tokens: int) -> int:
        """Length of the bucket for a row of `tokens` tokens.

        Raises:
            DataError: the row is longer than every bucket.
        """
        for length in self.lengths:
            if tokens <= length:
                return length
        raise DataError(
            f"a row of {tokens} tokens is longer than the longest bucket ({self.lengths[-1]})",
            hint="truncate texts to fewer tokens, or add a longer bucket",
        )

    def batch_sizes_for(self, length: int) -> list[int]:
        """Possible numbers of rows for a length, ascending."""
        return [rows for rows in self.batch_sizes if rows * length <= self.max_batch_tokens]

    def shapes(self) -> list[tuple[int, int]]:
        """All shapes (rows, length) of batches; their number bounds that of compilations."""
        return [(rows, length) for length in self.lengths for rows in self.batch_sizes_for(length)]


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenBatch:
    """A batch with padding on the right; empty rows fill it up.

    Attributes:
        tokens: token ids, padded with the tokenizer's `pad_id`.
        lengths: number of tokens of each row; 1 for an empty row, which must attend to something.
        emb_position: position of `<emb_token>` in each row; 0 for an empty row.
        input_index: index of each row in the input; -1 for an empty row.
    """

    tokens: Int[np.ndarray, "B L"]
    lengths: Int[np.ndarray, " B"]
    emb_position: Int[np.ndarray, " B"]
    input_index: Int[np.ndarray, " B"]


def token_batches(
    rows: Sequence[PromptTokens], config: BucketConfig, *, pad_id: int, emb_token_id: int
) -> list[TokenBatch]:
    """Batches of all rows with shapes from `config.shapes()`, longest first (peak memory first).

    Raises:
        DataError: a row is longer than every bucket, or does not have `<emb_token>` exactly once.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids), reverse=True)
    buckets = [config.length_for(len(rows[index].ids)) for index in order]
    batches, start = [], 0
    while start < len(order):
        length = buckets[start]
        remaining = buckets[start : start + config.batch_sizes[-1]].count(length)
        count = _next_batch_size(remaining, config.batch_sizes_for(length))
        indices = order[start : start + count]
        batches.append(_batch(rows, indices, (count, length), pad_id, emb_token_id))
        start += count
    return batches


def restore_order(
    batches: Sequence[TokenBatch], outputs: Sequence[Float[np.ndarray, "_ E"]]
) -> Float[np.ndarray, "rows E"]:
    """Outputs of all batches (one or more) of a `token_batches` call, in the order of its rows."""
    indices = np.concatenate([batch.input_index for batch in batches])
    values = np.concatenate(outputs)
    return values[indices >= 0][np.argsort(indices[indices >= 0])]


def _next_batch_size(remaining: int, sizes: Sequence[int]) -> int:
    """Size of the next batch for `remaining` rows of its length; at most half of it is empty."""
    sufficient = [size for size in sizes if size >= remaining]
    if sufficient and sufficient[0] <= 2 * remaining:
        return sufficient[0]
    return max(size for size in sizes if size <= remaining)


def _batch(
    rows: Sequence[PromptTokens],
    indices: Sequence[int],
    shape: tuple[int, int],
    pad_id: int,
    emb_token_id: int,
) -> TokenBatch:
    """A batch of the given shape with the rows at `indices`; the remaining rows are empty."""
    tokens = np.full(shape, pad_id, np.int32)
    lengths = np.ones(shape[0], np.int32)
    emb_position = np.zeros(shape[0], np.int32)
    input_index = np.full(shape[0], -1, np.int32)
    for row, index in enumerate(indices):
        ids = rows[index].ids
        (positions,) = np.nonzero(ids == emb_token_id)
        if len(positions) != 1:
            raise DataError(f"row {index} must have <emb_token> once, not {len(positions)} times")
        tokens[row, : len(ids)] = ids
        lengths[row], emb_position[row], input_index[row] = len(ids), positions[0], index
    return TokenBatch(
        tokens=tokens, lengths=lengths, emb_position=emb_position, input_index=input_index
    )
