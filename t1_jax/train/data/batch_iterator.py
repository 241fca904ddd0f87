"""The stream of global batches: every process sees the same, and a stop leaves no trace in it."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import normalize_text
from t1_jax.seeds import stable_hash
from t1_jax.train.data.records import TrainingRecord, TrainingSet, sets_by_name
from t1_jax.train.data.stage_data_config import Example, StageDataConfig
from t1_jax.train.data.streams import StreamShare, draw_streams, stream_shares

if TYPE_CHECKING:
    from grain import MapDataset


class BatchIterator(Iterator[tuple[Example, ...]]):
    """Global batches without end, from `iterate_batches`.

    A batch holds no query text twice, thus no record either. A draw whose text the batch has
    already waits for the next one, so that every record comes up once in each pass over its set.
    The position is the number of steps, and of each stream the number of draws read and which of
    them wait.
    """

    def __init__(self, sets: Sequence[TrainingSet], config: StageDataConfig) -> None:
        within = sets_by_name(_within(sets, config.query_range))
        self._config = config
        _check_thoughts(within, config)
        _check_repeats(stream_shares(within, config), config)
        streams, self._turns = draw_streams(within, config)
        self._lanes = {name: _Lane(stream) for name, stream in streams.items()}
        self._fingerprint = _fingerprint(within, config)
        self._steps = 0
        self._patience = 2 * sum(len(item.records) for item in within.values())
        self._texts: set[str] = set()

    def __next__(self) -> tuple[Example, ...]:
        """The next `batch_size` draws; the same whatever the number of processes."""
        self._steps += 1
        self._texts = set()
        return self.more()

    def more(self) -> tuple[Example, ...]:
        """As many draws again for the step at hand: of its set, and none whose text it has.

        Fewer, or none, where the set has not that many other texts.
        """
        # Grain types an element that a filter may have dropped; there is no filter here.
        lane = self._lanes[cast("str", self._turns[max(self._steps - 1, 0)])]
        return lane.take(self._config.batch_size, self._texts, self._patience)

    def get_state(self) -> dict[str, Any]:
        """The position, as JSON can hold it."""
        return {
            "steps": self._steps,
            "lanes": {name: lane.position() for name, lane in self._lanes.items()},
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
                hint="resume with the data and settings of the checkpoint, or start a new run",
            )
        self._steps = int(state["steps"])
        for name, position in state["lanes"].items():
            self._lanes[name].go_to(position)


class _Lane:
    """A stream, how far it has been read, and which of its draws wait."""

    def __init__(self, stream: "MapDataset[Example]") -> None:
        self._stream = stream
        self._next = 0
        self._waiting: tuple[int, ...] = ()

    def take(self, count: int, texts: set[str], patience: int) -> tuple[Example, ...]:
        """Draws whose texts are not in `texts`, which they join; looks at so many for nothing."""
        chosen: list[Example] = []
        waiting: list[int] = []
        earlier, position = list(self._waiting), self._next
        while len(chosen) < count and len(waiting) < patience:
            if earlier:
                number = earlier.pop(0)
            else:
                number, position = position, position + 1
            example = cast("Example", self._stream[number])
            text = normalize_text(example.record.query)
            if text in texts:
                waiting.append(number)
                continue
            texts.add(text)
            chosen.append(example)
        self._next, self._waiting = position, (*waiting, *earlier)
        return tuple(chosen)

    def position(self) -> dict[str, Any]:
        return {"next": self._next, "waiting": list(self._waiting)}

    def go_to(self, position: Mapping[str, Any]) -> None:
        self._next = int(position["next"])
        self._waiting = tuple(int(number) for number in position["waiting"])


def iterate_batches(sets: Sequence[TrainingSet], config: StageDataConfig) -> BatchIterator:
    """The global batches of these sets, from the beginning.

    Order and mixture are Grain's. Which positive, negatives and thought a record gives derives
    from the seed, the record and the number of the pass over its set alone.

    Raises:
        ConfigError: the mixture names an unknown set or leaves one out, or asks for more queries
            of a text in a step than one.
        DataError: no set, two of one name, a part of a set that holds no query, records of a kind
            that a set does not have, or no thought where one is required.
    """
    return BatchIterator(sets, config)


def epoch_steps(sets: Sequence[TrainingSet], config: StageDataConfig) -> int:
    """Steps after which every record has come up, as far as batches divide; at least 1.

    A set with more than its part in the mixture comes up more than once in that time.
    """
    portions = stream_shares(sets_by_name(_within(sets, config.query_range)), config)
    # A whole number of steps may come out of the division as a little more.
    return max(math.ceil(1 / portion.passes - 1e-9) for portion in portions)


def _within(sets: Sequence[TrainingSet], part: tuple[float, float]) -> list[TrainingSet]:
    """The sets with the queries of the part alone; the text of a query decides where it is."""
    start, end = part

    def has(record: TrainingRecord) -> bool:
        return start <= stable_hash("part", normalize_text(record.query)) / 2**64 < end

    found = []
    for item in sets:
        records = tuple(record for record in item.records if has(record))
        if not records:
            raise DataError(
                f"no query of {item.name} is in part [{start}, {end}]; it has "
                f"{len(item.records)} queries in all",
                hint="widen data.query_range",
            )
        found.append(replace(item, records=records))
    return found


def _check_thoughts(sets: Mapping[str, TrainingSet], config: StageDataConfig) -> None:
    if config.thoughts != "required":
        return
    for name, item in sets.items():
        without = [record.query_id for record in item.records if not record.thoughts]
        if without:
            raise DataError(
                f"{name}: query {without[0]!r} has no thought, and {len(without)} of "
                f"{len(item.records)} records have none",
                hint='write thoughts with `t1 thoughts`, or set thoughts to "optional"',
            )


def _check_repeats(portions: Sequence[StreamShare], config: StageDataConfig) -> None:
    """A text that comes up more than once a batch on average would make ever more draws wait."""
    rates: dict[tuple[str, str], float] = {}
    for portion in portions:
        lane = portion.set_name if config.homogeneous_batches else ""
        for record in portion.records:
            key = (lane, normalize_text(record.query))
            rates[key] = rates.get(key, 0.0) + portion.rate / len(portion.records)
            # The slack is for the rounding of sums, far below what a wait could grow by.
            if rates[key] > 1 + 1e-9:
                raise ConfigError(
                    f"a batch of {config.batch_size} queries would hold query "
                    f"{record.query_id!r} of {portion.set_name} more than once: too few texts",
                    hint="lower batch_size or the share of its kind or set, or merge records "
                    "that repeat a query",
                )


def _fingerprint(sets: Mapping[str, TrainingSet], config: StageDataConfig) -> str:
    content = {
        "config": asdict(config),
        "sets": [(name, item.data_hash) for name, item in sets.items()],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
