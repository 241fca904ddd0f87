"""Rows of tokens, and the few rectangular shapes in which they are computed.

A row is a query with its thought, a document, a prompt with all G sampled thoughts, or several
packed texts. Beside its tokens it says what is learned from them: target tokens with their weights
in the losses, and the positions of `<emb_token>` whose hidden states become embeddings.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from t1_jax.errors import ConfigError, DataError
from t1_jax.parallel import MeshContext, host_to_global

PADDING_SEGMENT = -1
"""Segment of padding. Segment 0 is the prefix that every other segment of a row sees."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RowTargets:
    """The target tokens of a row, and what the losses read of them.

    A field is None where rows of this kind do not have it.

    Attributes:
        token_ids: the target tokens.
        continuation: index of the continuation that a target belongs to, among those of its row.
        sft_weights: weight in the SFT loss, denominator included.
        policy_weights: weight in the policy loss, denominator included.
        advantages: advantage of the continuation.
        sampler_logps: log-probability under the sampler, in nats.
    """

    token_ids: Int[np.ndarray, " A"] = field(default_factory=lambda: np.zeros(0, np.int32))
    continuation: Int[np.ndarray, " A"] = field(default_factory=lambda: np.zeros(0, np.int32))
    sft_weights: Float[np.ndarray, " A"] | None = None
    policy_weights: Float[np.ndarray, " A"] | None = None
    advantages: Float[np.ndarray, " A"] | None = None
    sampler_logps: Float[np.ndarray, " A"] | None = None

    def __len__(self) -> int:
        return len(self.token_ids)


_LOSS_COLUMNS = ("sft_weights", "policy_weights", "advantages", "sampler_logps")


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One row before padding.

    Attributes:
        tokens: token ids.
        logit_positions: for each target the position whose hidden state predicts it.
        targets: the target tokens and what the losses read of them.
        emb_positions: positions of `<emb_token>` whose hidden states become embeddings.
        embedding_ids: id of each of these embeddings in the step, see `EmbeddingIds`.
        positions: position of each token in its text, for rows of several texts; else None.
        segment_ids: text of each token, for the same rows; 0 is a prefix that all texts see.
    """

    tokens: Int[np.ndarray, " L"]
    logit_positions: Int[np.ndarray, " A"] = field(default_factory=lambda: np.zeros(0, np.int32))
    targets: RowTargets = RowTargets()
    emb_positions: Sequence[int] = ()
    embedding_ids: Sequence[int] = ()
    positions: Int[np.ndarray, " L"] | None = None
    segment_ids: Int[np.ndarray, " L"] | None = None

    def __post_init__(self) -> None:
        if (self.positions is None) != (self.segment_ids is None):
            raise ValueError("a row of several texts needs both positions and segment_ids")


class EmbeddingIds:
    """Numbers the embeddings of one step: 0, 1, 2, ... in the order in which they are taken.

    Attributes:
        count: ids handed out so far.
    """

    def __init__(self) -> None:
        self.count = 0

    def take(self, count: int) -> range:
        """The next `count` ids."""
        ids = range(self.count, self.count + count)
        self.count = ids.stop
        return ids


@dataclass(frozen=True, kw_only=True, eq=False)
class Continuation:
    """A thought after its prompt, alone in a row or beside others.

    Attributes:
        tokens: token ids, `<emb_token>` last.
        num_targets: number of its first tokens that a loss reads.
        embedding_id: id of the embedding read at `<emb_token>`; None reads none.
        sft_weights: weight of each target in the SFT loss; None where it is not an SFT target.
        policy_weights: weight of each target in the policy loss; None outside it.
        advantages: advantage of the thought.
        sampler_logps: log-probability of each target under the sampler.
    """

    tokens: Int[np.ndarray, " L"]
    num_targets: int = 0
    embedding_id: int | None = None
    sft_weights: float | None = None
    policy_weights: float | None = None
    advantages: float | None = None
    sampler_logps: Float[np.ndarray, " A"] | None = None


def shared_prefix_row(prompt: Int[np.ndarray, " L"], continuations: Sequence[Continuation]) -> Row:
    """A prompt and several continuations in one row, so that the prompt is computed once.

    The prompt is segment 0, the continuations are those from 1 up, those with an embedding first.
    """
    tokens, positions, segment_ids = [prompt], [np.arange(len(prompt))], [np.zeros(len(prompt))]
    logit_positions, token_ids, owners = [], [], []
    emb_positions, embedding_ids = [], []
    end = len(prompt)
    for number, continuation in enumerate(continuations):
        length, targets = len(continuation.tokens), continuation.num_targets
        tokens.append(continuation.tokens)
        positions.append(len(prompt) + np.arange(length))
        segment_ids.append(np.full(length, number + 1))
        # The first token of a continuation follows the prompt, wherever the continuation stands.
        predictors = np.concatenate([[len(prompt) - 1], end + np.arange(targets - 1)])
        logit_positions.append(predictors[:targets])
        token_ids.append(continuation.tokens[:targets])
        owners.append(np.full(targets, 0 if continuation.embedding_id is None else number))
        if continuation.embedding_id is not None:
            emb_positions.append(end + length - 1)
            embedding_ids.append(continuation.embedding_id)
        end += length

    def per_target(name: str) -> Float[np.ndarray, " A"] | None:
        values = [getattr(continuation, name) for continuation in continuations]
        if all(value is None for value in values):
            return None
        return np.concatenate(
            [
                np.broadcast_to(0.0 if value is None else value, continuation.num_targets)
                for value, continuation in zip(values, continuations, strict=True)
            ]
        ).astype(np.float32)

    return Row(
        tokens=_int32(tokens),
        positions=_int32(positions),
        segment_ids=_int32(segment_ids),
        logit_positions=_int32(logit_positions),
        targets=RowTargets(
            token_ids=_int32(token_ids),
            continuation=_int32(owners),
            sft_weights=per_target("sft_weights"),
            policy_weights=per_target("policy_weights"),
            advantages=per_target("advantages"),
            sampler_logps=per_target("sampler_logps"),
        ),
        emb_positions=emb_positions,
        embedding_ids=embedding_ids,
    )


def separate_rows(
    prompt: Int[np.ndarray, " L"], continuations: Sequence[Continuation]
) -> list[Row]:
    """The same as `shared_prefix_row` with a row, and the prompt again, for each continuation."""
    rows = [shared_prefix_row(prompt, [continuation]) for continuation in continuations]
    return [replace(row, positions=None, segment_ids=None) for row in rows]


def pack_rows(rows: Sequence[Row], length: int) -> list[Row]:
    """Packs rows of one text each, first fit by falling length: at most 11/9 of the best + 1.

    Grain's packers are not used. They read on until a batch of bins is full, so that a packed
    batch ends between two steps, its position joins the state that resuming must restore, and a
    step has no fixed set of queries; and their padding is segment 0. Packing the examples of one
    step needs no state, and its result depends on its arguments alone. The rows have SFT targets
    and no embeddings.

    Raises:
        DataError: a row is longer than `length`.
    """
    bins: list[list[Row]] = []
    free: list[int] = []
    for row in sorted(rows, key=lambda row: -len(row.tokens)):
        size = len(row.tokens)
        if size > length:
            raise DataError(
                f"a row has {size} tokens, more than the {length} of a packed row",
                hint="pack to a greater length, or truncate queries and thoughts earlier",
            )
        place = next((i for i, space in enumerate(free) if space >= size), len(bins))
        if place == len(bins):
            bins.append([])
            free.append(length)
        bins[place].append(row)
        free[place] -= size
    return [_packed_row(members) for members in bins]


def _packed_row(rows: Sequence[Row]) -> Row:
    """The rows one after the other; each is a segment that sees only itself."""
    sizes = [len(row.tokens) for row in rows]
    starts = np.cumsum([0, *sizes[:-1]])
    token_ids = _int32([row.targets.token_ids for row in rows])
    weights = [row.targets.sft_weights for row in rows if row.targets.sft_weights is not None]
    return Row(
        tokens=_int32([row.tokens for row in rows]),
        positions=_int32([np.arange(size) for size in sizes]),
        segment_ids=_int32([np.full(size, n) for n, size in enumerate(sizes, 1)]),
        logit_positions=_int32(
            [row.logit_positions + start for row, start in zip(rows, starts, strict=True)]
        ),
        targets=RowTargets(
            token_ids=token_ids,
            continuation=np.zeros_like(token_ids),
            sft_weights=np.concatenate(weights),
        ),
    )


def _int32(parts: Sequence[np.ndarray]) -> Int[np.ndarray, " _"]:
    return np.concatenate(parts).astype(np.int32)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, eq=False)
class TokenTargets:
    """The targets of a micro-batch; fields as in `RowTargets`, padded with 0 to have no weight.

    Attributes:
        old_logps: log-probability under the policy before the first update of a rollout.
        ref_logps: log-probability under the reference policy.
    """

    token_ids: Int[Array, "B A"]
    continuation: Int[Array, "B A"]
    sft_weights: Float[Array, "B A"] | None
    policy_weights: Float[Array, "B A"] | None
    advantages: Float[Array, "B A"] | None
    sampler_logps: Float[Array, "B A"] | None
    old_logps: Float[Array, "B A"] | None = None
    ref_logps: Float[Array, "B A"] | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, eq=False)
class MicroBatch:
    """Rows of one shape, as the compiled functions take them; fields as in `Row`.

    Attributes:
        tokens: padded on the right.
        positions: None where rows hold one text each.
        segment_ids: likewise; `PADDING_SEGMENT` in padding.
        logit_positions: padded with 0.
        targets: see there.
        emb_positions: padded with 0.
    """

    tokens: Int[Array, "B L"]
    positions: Int[Array, "B L"] | None
    segment_ids: Int[Array, "B L"] | None
    logit_positions: Int[Array, "B A"]
    targets: TokenTargets
    emb_positions: Int[Array, "B M"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedMicroBatch:
    """A micro-batch on the devices, and what the host knows of it.

    Attributes:
        arrays: the arrays, sharded by rows.
        row_indices: index of each row among those given to `micro_batches`; -1 for padding.
        embedding_ids: id of each embedding in the step; -1 for none.
        num_tokens: number of tokens, padding not counted.
    """

    arrays: MicroBatch
    row_indices: Int[np.ndarray, " B"]
    embedding_ids: Int[np.ndarray, "B M"]
    num_tokens: int

    def with_logps(
        self,
        *,
        old: Float[Array, "B A"] | None = None,
        reference: Float[Array, "B A"] | None = None,
    ) -> "PlacedMicroBatch":
        """The same with log-probabilities of its targets, if it has rows of a policy loss."""
        targets = self.arrays.targets
        if targets.policy_weights is None:
            return self
        targets = replace(
            targets,
            old_logps=targets.old_logps if old is None else old,
            ref_logps=targets.ref_logps if reference is None else reference,
        )
        return replace(self, arrays=replace(self.arrays, targets=targets))


@dataclass(frozen=True, kw_only=True)
class MicroBatchConfig:
    """How much is computed at once; a step of any size is split into such micro-batches.

    Attributes:
        rows: most rows of a micro-batch.
        tokens: most tokens (rows x padded length) of a micro-batch; longer rows come fewer at a
            time.
        length_step: rows are padded to a multiple of this, or of an eighth of their length where
            that is more, so that the number of shapes stays small.
        keep_residuals: with a contrastive loss, the forward pass keeps the residuals of all
            micro-batches for the backward pass instead of running each micro-batch twice: faster,
            and memory grows with the step instead of with one micro-batch.
    """

    rows: int = 16
    tokens: int = 4096
    length_step: int = 32
    keep_residuals: bool = False

    def __post_init__(self) -> None:
        for name in ("rows", "tokens", "length_step"):
            if self.__dict__[name] < 1:
                raise ConfigError(f"{name} must be at least 1, got {self.__dict__[name]}")

    def padded_length(self, tokens: int) -> int:
        """The padded length of a row of so many tokens."""
        step = self._step(tokens)
        return -(-tokens // step) * step

    def packed_length(self, longest: int, multiple: int) -> int:
        """The length of packed rows.

        Four times the longest text leaves few positions empty; beyond that, attention, which grows
        with the square of the length, would cost more than longer rows save. Each of the `multiple`
        devices that share a batch gets at least one row.
        """
        least = self.padded_length(longest)
        most = min(4 * least, self.tokens // multiple)
        return max(most // self._step(most) * self._step(most), least)

    def rows_of(self, length: int, multiple: int) -> int:
        """Number of rows of this padded length, a multiple of the devices that share a batch.

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
) -> list[PlacedMicroBatch]:
    """All rows in micro-batches, longest first, rows of one kind together.

    Every process is given the same rows and puts its own share of each micro-batch on its devices.

    Raises:
        ConfigError: a row does not fit.
        DataError: a row is empty.
    """
    for number, row in enumerate(rows):
        if not len(row.tokens):
            raise DataError(f"row {number} has no tokens")
    by_kind: dict[tuple[bool, ...], list[int]] = {}
    for number, row in enumerate(rows):
        by_kind.setdefault(_kind(row), []).append(number)
    batches = []
    for members in by_kind.values():
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
    """An array that every process holds whole, sharded over all devices by its letters."""
    return host_to_global(array, mesh_context.activation(letters))


def _kind(row: Row) -> tuple[bool, ...]:
    """Rows of different kinds have different arrays and never share a micro-batch."""
    present = [getattr(row.targets, name) is not None for name in _LOSS_COLUMNS]
    return len(row.targets) > 0, len(row.emb_positions) > 0, row.segment_ids is None, *present


def _placed(
    rows: Sequence[Row],
    numbers: Sequence[int],
    shape: tuple[int, int],
    mesh_context: MeshContext,
    pad_id: int,
) -> PlacedMicroBatch:
    """The rows of these numbers as one micro-batch of `shape`."""
    chosen = [rows[number] for number in numbers]
    by_target = (shape[0], _target_slots(max(len(row.targets) for row in chosen)))
    by_embedding = (shape[0], max(len(row.emb_positions) for row in chosen))
    place = functools.partial(place_rows, letters="bl", mesh_context=mesh_context)

    def placed(name: str, fill: int = 0) -> jax.Array | None:
        arrays = [getattr(row, name) for row in chosen]
        return None if arrays[0] is None else place(_padded(arrays, shape, fill=fill))

    def placed_column(name: str) -> jax.Array | None:
        columns = [getattr(row.targets, name) for row in chosen]
        return None if columns[0] is None else place(_padded(columns, by_target, dtype=np.float32))

    arrays = MicroBatch(
        tokens=place(_padded([row.tokens for row in chosen], shape, fill=pad_id)),
        positions=placed("positions"),
        segment_ids=placed("segment_ids", PADDING_SEGMENT),
        logit_positions=place(_padded([row.logit_positions for row in chosen], by_target)),
        targets=TokenTargets(
            token_ids=place(_padded([row.targets.token_ids for row in chosen], by_target)),
            continuation=place(_padded([row.targets.continuation for row in chosen], by_target)),
            **{name: placed_column(name) for name in _LOSS_COLUMNS},
        ),
        emb_positions=place(_padded([row.emb_positions for row in chosen], by_embedding)),
    )
    return PlacedMicroBatch(
        arrays=arrays,
        row_indices=np.array([*numbers, *[-1] * (shape[0] - len(numbers))], np.int32),
        embedding_ids=_padded([row.embedding_ids for row in chosen], by_embedding, fill=-1),
        num_tokens=sum(len(row.tokens) for row in chosen),
    )


def _padded(
    rows: Sequence[Sequence[int] | np.ndarray],
    shape: tuple[int, int],
    *,
    fill: int = 0,
    dtype: type = np.int32,
) -> np.ndarray:
    """A table with one row for each of `rows`, filled up on the right and below."""
    table = np.full(shape, fill, dtype)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _target_slots(count: int) -> int:
    """Slots for so many targets: few sizes, so that they make few shapes, and few of them empty.

    Powers of two from 16 to 64 (0 stays 0), then multiples of a quarter of the power of two below.
    A thought of 256 tokens with its `<emb_token>` has 257 targets, for which 512 slots would double
    the work of the head.
    """
    if not count:
        return 0
    if count <= 64:
        return max(1 << (count - 1).bit_length(), 16)
    step = 1 << ((count - 1).bit_length() - 3)
    return -(-count // step) * step
