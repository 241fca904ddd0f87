"""The stream of global batches: every process sees the same, and a stop leaves no trace in it."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, DataError
from t1_jax.train.data.records import TrainingRecord, TrainingSet, sets_by_name
from t1_jax.train.data.texts import normalised_text

if TYPE_CHECKING:
    from grain import MapDataset

_SHARES = 100  # Grain mixes in whole numbers, of which it makes the smallest this.


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """What a step draws.

    Attributes:
        batch_queries: queries of a step, over all processes and micro-batches.
        hard_negatives: most negatives drawn for a query; fewer where its record has fewer.
        thoughts: "required" refuses records without one, "optional" takes them as they are,
            "none" draws no thought.
        positives: "best" draws among the positives of the best grade, each as likely; "graded"
            among all, in proportion to their grades.
        mixture: name of a set -> its share of the queries, relative to the others and kept to one
            per cent; empty: in proportion to the numbers of records.
        part: which queries of each set may be drawn, as shares from and up to which: stages of
            [0, 0.6] and [0.6, 1] have no query text in common, and together have all.
        seed: of order and choice; parts do not depend on it.
    """

    batch_queries: int = 64
    hard_negatives: int = 7
    thoughts: Literal["required", "optional", "none"] = "optional"
    positives: Literal["best", "graded"] = "best"
    mixture: dict[str, float] = field(default_factory=dict)
    part: tuple[float, float] = (0.0, 1.0)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_queries < 1:
            raise ConfigError(f"batch_queries must be at least 1, got {self.batch_queries}")
        if self.hard_negatives < 0:
            raise ConfigError(f"hard_negatives must be at least 0, got {self.hard_negatives}")
        for name, weight in self.mixture.items():
            if not (weight > 0 and math.isfinite(weight)):
                raise ConfigError(f"mixture.{name} must be a number above 0, got {weight}")
        if not 0 <= self.part[0] < self.part[1] <= 1:
            raise ConfigError(
                f"part must be two rising shares, got {list(self.part)}",
                mend="write for example part: [0, 0.6]",
            )


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One query of a step with what was chosen for it; documents are ids in its set.

    Attributes:
        set_name: of the training set; documents of a step are keyed by it and their id.
        record: what was drawn from.
        positive: the chosen positive.
        negatives: the chosen negatives, none twice.
        thought: the chosen alternative; None where there is none.
    """

    set_name: str
    record: TrainingRecord
    positive: str
    negatives: tuple[str, ...]
    thought: str | None


class DrawIterator(Iterator[tuple[Draw, ...]]):
    """Global batches without end, from `draw_batches`.

    A batch holds no query text twice, thus no record either. A draw whose text the batch has
    already waits for the next one, so that every record comes up once in each pass over its set.
    The position is the number of draws read from the stream and which of them wait.
    """

    def __init__(self, sets: Sequence[TrainingSet], config: DrawConfig) -> None:
        self._sets = sets_by_name(_within(sets, config.part))
        self._config = config
        self._shares = _shares(self._sets, config)
        _check_thoughts(self._sets, config)
        _check_repeats(self._sets, self._shares, config)
        self._stream = _stream(self._sets, self._shares, config)
        self._fingerprint = _fingerprint(self._sets, config)
        self._next = 0
        self._waiting: tuple[int, ...] = ()

    def __next__(self) -> tuple[Draw, ...]:
        """The next `batch_queries` draws; the same whatever the number of processes."""
        chosen: list[Draw] = []
        texts: set[str] = set()
        waiting: list[int] = []
        earlier, position = list(self._waiting), self._next
        while len(chosen) < self._config.batch_queries:
            if earlier:
                number = earlier.pop(0)
            else:
                number, position = position, position + 1
            # Grain types an element that a filter may have dropped; there is no filter here.
            draw = cast("Draw", self._stream[number])
            text = normalised_text(draw.record.query)
            if text in texts:
                waiting.append(number)
                continue
            texts.add(text)
            chosen.append(draw)
        self._next, self._waiting = position, (*waiting, *earlier)
        return tuple(chosen)

    def get_state(self) -> dict[str, Any]:
        """The position, as JSON can hold it."""
        return {
            "next": self._next,
            "waiting": list(self._waiting),
            "fingerprint": self._fingerprint,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to a position that `get_state` returned: the batches after it come again.

        Raises:
            DataError: the position belongs to other data or another config.
        """
        if state["fingerprint"] != self._fingerprint:
            raise DataError(
                "the training data or its draw settings have changed since the checkpoint",
                mend="resume with the data and settings of the checkpoint, or start a new run",
            )
        self._next, self._waiting = int(state["next"]), tuple(int(i) for i in state["waiting"])


def draw_batches(sets: Sequence[TrainingSet], config: DrawConfig) -> DrawIterator:
    """The global batches of these sets, from the beginning.

    Order and mixture are Grain's. Which positive, negatives and thought a record gives derives
    from the seed, the record and the number of the pass over its set alone.

    Raises:
        ConfigError: the mixture names an unknown set or leaves one out, or asks for more queries
            of a text in a step than one.
        DataError: no set, two of one name, a part of a set that holds no query, or no thought where
            one is required.
    """
    return DrawIterator(sets, config)


def epoch_steps(sets: Sequence[TrainingSet], config: DrawConfig) -> int:
    """Steps after which every record has come up, as far as batches divide; at least 1.

    A set with more than its part in the mixture comes up more than once in that time.
    """
    named = sets_by_name(_within(sets, config.part))
    shares = _shares(named, config)
    total = sum(shares.values())
    draws = max(-(-len(item.records) * total // shares[name]) for name, item in named.items())
    return -(-draws // config.batch_queries)


def _within(sets: Sequence[TrainingSet], part: tuple[float, float]) -> list[TrainingSet]:
    """The sets with the queries of the part alone; the text of a query decides where it is."""
    start, end = part

    def has(record: TrainingRecord) -> bool:
        return start <= _number("part", normalised_text(record.query)) / 2**64 < end

    found = []
    for item in sets:
        records = tuple(record for record in item.records if has(record))
        if not records:
            raise DataError(
                f"no query of {item.name} is in part [{start}, {end}]; it has "
                f"{len(item.records)} queries in all",
                mend="widen draws.part",
            )
        found.append(replace(item, records=records))
    return found


def _shares(sets: Mapping[str, TrainingSet], config: DrawConfig) -> dict[str, int]:
    """Every set's share as the whole numbers that Grain mixes by, the smallest being 100."""
    for name in config.mixture:
        if name not in sets:
            raise ConfigError(f"mixture.{name} is not a set", mend=suggestion(name, sets))
    if config.mixture and (left_out := [name for name in sets if name not in config.mixture]):
        raise ConfigError(
            f"the mixture has no share for {', '.join(left_out)}",
            mend="give every set a share, or take the set out of the data",
        )
    weights = config.mixture or {name: float(len(item.records)) for name, item in sets.items()}
    least = min(weights.values())
    return {name: round(_SHARES * weights[name] / least) for name in sets}


def _check_thoughts(sets: Mapping[str, TrainingSet], config: DrawConfig) -> None:
    if config.thoughts != "required":
        return
    for name, item in sets.items():
        without = [record.query_id for record in item.records if not record.thoughts]
        if without:
            raise DataError(
                f"{name}: query {without[0]!r} has no thought, and {len(without)} of "
                f"{len(item.records)} records have none",
                mend='write thoughts with `t1 thoughts`, or set thoughts to "optional"',
            )


def _check_repeats(
    sets: Mapping[str, TrainingSet], shares: Mapping[str, int], config: DrawConfig
) -> None:
    """A text that comes up more than once a batch on average would make ever more draws wait."""
    total = sum(shares.values())
    rates: dict[str, float] = {}
    for name, item in sets.items():
        rate = config.batch_queries * shares[name] / total / len(item.records)
        for record in item.records:
            text = normalised_text(record.query)
            rates[text] = rates.get(text, 0.0) + rate
            # The slack is for the rounding of sums, far below what a wait could grow by.
            if rates[text] > 1 + 1e-9:
                raise ConfigError(
                    f"a batch of {config.batch_queries} queries would hold query "
                    f"{record.query_id!r} of {name} more than once: too few texts for it",
                    mend="lower batch_queries or the set's share in the mixture, or merge records "
                    "that repeat a query",
                )


def _stream(
    sets: Mapping[str, TrainingSet], shares: Mapping[str, int], config: DrawConfig
) -> "MapDataset[Draw]":
    """Every draw there will ever be, by its number."""
    from grain import MapDataset

    parts = [_part(item, config) for item in sets.values()]
    return MapDataset.mix(parts, [shares[name] for name in sets])


def _part(item: TrainingSet, config: DrawConfig) -> "MapDataset[Draw]":
    from grain import MapDataset

    size = len(item.records)

    def draw(number: int, record_number: int) -> Draw:
        return _drawn(item.name, item.records[record_number], number // size, config)

    order = MapDataset.source(range(size)).seed(_number(config.seed, "order", item.name) >> 33)
    return order.shuffle().repeat().map_with_index(draw)


def _drawn(set_name: str, record: TrainingRecord, epoch: int, config: DrawConfig) -> Draw:
    def rank(kind: str, choice: object) -> float:
        """Uniform over (0, 1), another number for each choice."""
        # Hashes rather than a generator: NumPy may change its streams from version to version.
        key = (config.seed, set_name, record.query_id, epoch, kind, choice)
        return (_number(*key) + 1) / (2**64 + 1)

    if config.positives == "best":
        positive = min(record.best_positives, key=lambda name: rank("positive", name))
    else:
        # The first of several exponential clocks to ring is each with odds in proportion to rate.
        clocks = {
            name: -math.log(rank("positive", name)) / grade
            for name, grade in record.positives.items()
        }
        positive = min(sorted(clocks), key=clocks.__getitem__)
    negatives = sorted(record.negatives, key=lambda name: rank("negative", name))
    thoughts = range(0 if config.thoughts == "none" else len(record.thoughts))
    thought = min(thoughts, key=lambda number: rank("thought", number), default=None)
    return Draw(
        set_name=set_name,
        record=record,
        positive=positive,
        negatives=tuple(negatives[: config.hard_negatives]),
        thought=None if thought is None else record.thoughts[thought],
    )


def _number(*key: object) -> int:
    """64 bits that depend on every part of the key."""
    content = json.dumps(key).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _fingerprint(sets: Mapping[str, TrainingSet], config: DrawConfig) -> str:
    content = {
        "config": asdict(config),
        "sets": [(name, item.data_hash) for name, item in sets.items()],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
