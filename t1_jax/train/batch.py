"""Rows of tokens to train on, and the few rectangular shapes they are computed in.

A row is a query with its thought, a document, a prompt with all G thoughts of its group, or several
packed texts. What is learnt from it stands beside it: action tokens, each with its weight in the
loss, and places whose hidden state is a vector.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from t1_jax.errors import ConfigError, DataError
from t1_jax.parallel import MeshContext, host_to_global

COLUMNS = ("sft_weight", "policy_weight", "advantage", "old", "sampler", "reference")
"""What an action token may carry.

Its weights in the two token losses (denominators included), its advantage, and its log-probability
under the policy before the update, under the sampler, and under the reference model.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One row before padding.

    Attributes:
        tokens: ids.
        read_at: for each action token the slot whose hidden state predicts it.
        targets: the action tokens themselves.
        sequence: which of the row's thoughts an action token belongs to, by number of its vector
            in the row where the row has vectors, else 0.
        columns: some of `COLUMNS`, a value for each action token.
        emb_at: slots of `<emb_token>` whose hidden states are vectors.
        vectors: the number of each of these vectors in the step.
        positions: of the tokens in their texts, for rows that hold several; else None.
        segments: the text of each token, for the same rows; 0 is a prefix that all of them see.
    """

    tokens: Int[np.ndarray, " L"]
    read_at: Int[np.ndarray, " A"] = field(default_factory=lambda: np.zeros(0, np.int32))
    targets: Int[np.ndarray, " A"] = field(default_factory=lambda: np.zeros(0, np.int32))
    sequence: Int[np.ndarray, " A"] = field(default_factory=lambda: np.zeros(0, np.int32))
    columns: Mapping[str, Float[np.ndarray, " A"]] = field(default_factory=dict)
    emb_at: Sequence[int] = ()
    vectors: Sequence[int] = ()
    positions: Int[np.ndarray, " L"] | None = None
    segments: Int[np.ndarray, " L"] | None = None

    def __post_init__(self) -> None:
        if (self.positions is None) != (self.segments is None):
            raise ValueError("a row of several texts needs both positions and segments")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, eq=False)
class MicroBatch:
    """Rows of one shape, as the compiled functions take them.

    Attributes:
        tokens: padded on the right.
        positions: None where rows hold one text each.
        segments: likewise; -1 in padding.
        read_at: padded with 0.
        targets: padded with 0.
        sequence: padded with 0.
        columns: padded with 0, so that padding weighs nothing.
        emb_at: padded with 0.
    """

    tokens: Int[Array, "B L"]
    positions: Int[Array, "B L"] | None
    segments: Int[Array, "B L"] | None
    read_at: Int[Array, "B A"]
    targets: Int[Array, "B A"]
    sequence: Int[Array, "B A"]
    columns: dict[str, Float[Array, "B A"]]
    emb_at: Int[Array, "B M"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GlobalBatch:
    """A micro-batch on the devices, and what the host remembers of it.

    Attributes:
        micro: sharded by rows.
        rows: numbers of the rows given to `micro_batches`; -1 for a row that only fills the shape.
        vectors: the number of each vector in the step; -1 for none.
        tokens: slots that hold a token.
    """

    micro: MicroBatch
    rows: Int[np.ndarray, " B"]
    vectors: Int[np.ndarray, "B M"]
    tokens: int


@dataclass(frozen=True, kw_only=True)
class MicroBatchConfig:
    """How much is computed at once; a step of any size is made of such pieces.

    Attributes:
        rows: most rows of a micro-batch.
        tokens: most slots (rows x length) of a micro-batch; long rows come fewer at a time.
        length_step: rows are padded to a multiple of this, or of an eighth of their length where
            that is more, so that the number of shapes stays small.
        hold: where vectors are compared, the pass that computes them keeps what the backward pass
            needs of all micro-batches, instead of running each of them again: faster, and memory
            grows with the step instead of with one micro-batch.
    """

    rows: int = 16
    tokens: int = 4096
    length_step: int = 32
    hold: bool = False

    def __post_init__(self) -> None:
        for name in ("rows", "tokens", "length_step"):
            if self.__dict__[name] < 1:
                raise ConfigError(f"{name} must be at least 1, got {self.__dict__[name]}")

    def padded_length(self, tokens: int) -> int:
        """The length of the shape that holds a row of so many tokens."""
        step = self._step(tokens)
        return -(-tokens // step) * step

    def packed_length(self, longest: int, multiple: int) -> int:
        """The length of rows that several texts are packed into.

        Four times that of the longest text leaves few slots empty; attention, which grows with the
        length, would waste more than longer rows save.

        Args:
            longest: tokens of the longest text.
            multiple: devices that share a batch; each gets a row at least.
        """
        least = self.padded_length(longest)
        most = min(4 * least, self.tokens // multiple)
        return max(most // self._step(most) * self._step(most), least)

    def rows_of(self, length: int, multiple: int) -> int:
        """Rows of a shape of this length, a multiple of the devices that share a batch.

        Raises:
            ConfigError: not even one row for each device fits.
        """
        fitting = min(self.rows, self.tokens // length) // multiple * multiple
        if fitting < 1:
            raise ConfigError(
                f"micro-batches of {self.rows} rows and {self.tokens} tokens cannot hold one row "
                f"of {length} tokens for each of {multiple} devices",
                hint=f"set micro_batch.rows to at least {multiple} and micro_batch.tokens to at "
                f"least {multiple * length}",
            )
        return fitting

    def _step(self, tokens: int) -> int:
        step = self.length_step
        while step * 16 <= tokens:
            step *= 2
        return step


def micro_batches(
    rows: Sequence[Row], config: MicroBatchConfig, mesh_context: MeshContext, *, pad_id: int
) -> list[GlobalBatch]:
    """All rows in micro-batches, longest first, rows of one kind together.

    Every process is given the same rows and puts its own share of each micro-batch on its devices.

    Raises:
        ConfigError: a row does not fit.
        DataError: a row is empty.
    """
    for number, row in enumerate(rows):
        if not len(row.tokens):
            raise DataError(f"row {number} has no tokens")
    kinds: dict[tuple[bool, bool, bool, frozenset[str]], list[int]] = {}
    for number, row in enumerate(rows):
        kinds.setdefault(_kind(row), []).append(number)
    batches = []
    for members in kinds.values():
        order = sorted(members, key=lambda number: len(rows[number].tokens), reverse=True)
        start = 0
        while start < len(order):
            length = config.padded_length(len(rows[order[start]].tokens))
            count = config.rows_of(length, mesh_context.batch_divisor)
            numbers = order[start : start + count]
            batches.append(_placed(rows, numbers, (count, length), mesh_context, pad_id))
            start += count
    return batches


def place_rows(array: np.ndarray, letters: str, mesh_context: MeshContext) -> jax.Array:
    """An array that every process holds whole, spread over all devices by its letters."""
    return host_to_global(array, mesh_context.activation(letters))


def _kind(row: Row) -> tuple[bool, bool, bool, frozenset[str]]:
    """Rows of different kinds have different arrays and never share a shape."""
    return len(row.targets) > 0, len(row.emb_at) > 0, row.segments is None, frozenset(row.columns)


def _placed(
    rows: Sequence[Row],
    numbers: Sequence[int],
    shape: tuple[int, int],
    mesh_context: MeshContext,
    pad_id: int,
) -> GlobalBatch:
    """The rows of these numbers as one micro-batch of `shape`."""
    chosen = [rows[number] for number in numbers]
    packed = chosen[0].segments is not None
    by_action = (shape[0], _power_of_two(max(len(row.targets) for row in chosen)))
    by_vector = (shape[0], max(len(row.emb_at) for row in chosen))
    place = functools.partial(place_rows, letters="bl", mesh_context=mesh_context)
    micro = MicroBatch(
        tokens=place(_table([row.tokens for row in chosen], shape, fill=pad_id)),
        positions=place(_table([_given(row.positions) for row in chosen], shape))
        if packed
        else None,
        segments=place(_table([_given(row.segments) for row in chosen], shape, fill=-1))
        if packed
        else None,
        read_at=place(_table([row.read_at for row in chosen], by_action)),
        targets=place(_table([row.targets for row in chosen], by_action)),
        sequence=place(_table([row.sequence for row in chosen], by_action)),
        columns={
            name: place(_table([row.columns[name] for row in chosen], by_action, dtype=np.float32))
            for name in COLUMNS
            if name in chosen[0].columns
        },
        emb_at=place(_table([row.emb_at for row in chosen], by_vector)),
    )
    return GlobalBatch(
        micro=micro,
        rows=np.array([*numbers, *[-1] * (shape[0] - len(numbers))], np.int32),
        vectors=_table([row.vectors for row in chosen], by_vector, fill=-1),
        tokens=sum(len(row.tokens) for row in chosen),
    )


def _table(
    values: Sequence[Sequence[int] | np.ndarray],
    shape: tuple[int, int],
    *,
    fill: int = 0,
    dtype: type = np.int32,
) -> np.ndarray:
    """One row of a table for each of `values`, filled up on the right and below."""
    table = np.full(shape, fill, dtype)
    for row, each in enumerate(values):
        table[row, : len(each)] = each
    return table


def _given(array: np.ndarray | None) -> np.ndarray:
    """What a row of several texts has."""
    assert array is not None
    return array


def _power_of_two(size: int) -> int:
    """The next power of two from 16 up, or 0: so that action counts make few shapes."""
    return max(1 << (size - 1).bit_length(), 16) if size else 0
