"""Rows of tokens to train on, and the few rectangular shapes they are computed in.

A row is a query with its thought, a document, a prompt with all G thoughts of its group, or several
packed texts. What is learnt from it stands beside it: action tokens, each with its weight in the
loss, and places whose hidden state is a vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from t1_jax.errors import ConfigError, DataError
from t1_jax.parallel import Placement

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
        sequence: which of the row's sequences (thoughts) an action token belongs to.
        columns: some of `COLUMNS`, a value for each action token.
        emb_at: slots of `<emb_token>` whose hidden states are vectors.
        vectors: the number of each of these vectors in the step.
        positions: where they do not simply count from 0.
        segments: for rows that hold several texts; 0 is a prefix that all of them see.
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

    tokens: Int[Array | np.ndarray, "B L"]
    positions: Int[Array | np.ndarray, "B L"] | None
    segments: Int[Array | np.ndarray, "B L"] | None
    read_at: Int[Array | np.ndarray, "B A"]
    targets: Int[Array | np.ndarray, "B A"]
    sequence: Int[Array | np.ndarray, "B A"]
    columns: dict[str, Float[Array | np.ndarray, "B A"]]
    emb_at: Int[Array | np.ndarray, "B M"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedBatch:
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
    """

    rows: int = 16
    tokens: int = 4096
    length_step: int = 32

    def __post_init__(self) -> None:
        for each in fields(self):
            if self.__dict__[each.name] < 1:
                raise ConfigError(f"{each.name} must be at least 1")

    def padded_length(self, tokens: int) -> int:
        """The length of the shape that holds a row of so many tokens."""
        step = self.length_step
        while step * 16 <= tokens:
            step *= 2
        return -(-tokens // step) * step

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
                mend=f"set micro_batch.rows to at least {multiple} and micro_batch.tokens to at "
                f"least {multiple * length}",
            )
        return fitting


def micro_batches(
    rows: Sequence[Row], config: MicroBatchConfig, placement: Placement, *, pad_id: int
) -> list[PlacedBatch]:
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
            count = config.rows_of(length, placement.row_multiple)
            numbers = order[start : start + count]
            batches.append(_placed(rows, numbers, (count, length), placement, pad_id))
            start += count
    return batches


def _kind(row: Row) -> tuple[bool, bool, bool, frozenset[str]]:
    """Rows of different kinds have different arrays and never share a shape."""
    return len(row.targets) > 0, len(row.emb_at) > 0, row.segments is None, frozenset(row.columns)


def _placed(
    rows: Sequence[Row],
    numbers: Sequence[int],
    shape: tuple[int, int],
    placement: Placement,
    pad_id: int,
) -> PlacedBatch:
    """The rows of these numbers as one micro-batch of `shape`."""
    chosen = [rows[number] for number in numbers]
    actions = _power_of_two(max(len(row.targets) for row in chosen))
    most_vectors = max(len(row.emb_at) for row in chosen)
    packed = chosen[0].segments is not None
    tokens = _table([row.tokens for row in chosen], shape, fill=pad_id)
    by_action = (shape[0], actions)
    micro = MicroBatch(
        tokens=tokens,
        positions=_table([_positions(row) for row in chosen], shape) if packed else None,
        segments=_table([_segments(row) for row in chosen], shape, fill=-1) if packed else None,
        read_at=_table([row.read_at for row in chosen], by_action),
        targets=_table([row.targets for row in chosen], by_action),
        sequence=_table([row.sequence for row in chosen], by_action),
        columns={
            name: _table([row.columns[name] for row in chosen], by_action, dtype=np.float32)
            for name in COLUMNS
            if name in chosen[0].columns
        },
        emb_at=_table([row.emb_at for row in chosen], (shape[0], most_vectors)),
    )
    return PlacedBatch(
        micro=jax.tree.map(lambda array: _put(array, placement), micro),
        rows=np.array([*numbers, *[-1] * (shape[0] - len(numbers))], np.int32),
        vectors=_table([row.vectors for row in chosen], (shape[0], most_vectors), fill=-1),
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


def _positions(row: Row) -> np.ndarray:
    return np.arange(len(row.tokens)) if row.positions is None else row.positions


def _segments(row: Row) -> np.ndarray:
    assert row.segments is not None
    return row.segments


def _power_of_two(size: int) -> int:
    """The next power of two from 16 up, or 0: so that action counts make few shapes."""
    return max(1 << (size - 1).bit_length(), 16) if size else 0


def _put(array: np.ndarray, placement: Placement) -> jax.Array:
    """Rows over the devices; with several processes each one gives its own share."""
    sharding = placement.activation("bl")
    if jax.process_count() == 1:
        return jax.device_put(array, sharding)
    share = len(array) // jax.process_count()
    own = array[jax.process_index() * share : (jax.process_index() + 1) * share]
    return jax.make_array_from_process_local_data(sharding, own, array.shape)
