"""Iterates over global batches of examples, equal on all processes, with a resumable position."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import normalize_text
from t1_jax.seeds import stable_hash
from t1_jax.train.data.config import StageDataConfig
from t1_jax.train.data.mixture import StreamShare, example_streams, stream_shares
from t1_jax.train.data.records import Example, TrainingRecord, TrainingSet, sets_by_name

if TYPE_CHECKING:
    from grain import MapDataset


class BatchIterator(Iterator[tuple[Example, ...]]):
    """Endless global batches of training sets, from the beginning.

    Grain does the shuffling and the mixture. The positive, negatives and thought of an example
    depend only on the seed, the record and the number of the pass over its set.

    A batch has no query text twice. An example whose text is already in the batch is deferred to
    the next one, so that every record comes up once in each pass over its set. The position is the
    number of steps, and for each stream the number of examples read and the deferred ones.

    Raises:
        ConfigError: the mixture names an unknown set or leaves one out, or a batch needs a query
            text more than once.
        DataError: no set, two of one name, no query in `query_range`, no records of a kind that is
            asked for, or no thought where one is required.
    """

    def __init__(self, sets: Sequence[TrainingSet], config: StageDataConfig) -> None:
        in_range = sets_by_name(_in_query_range(sets, config.query_range))
        self._config = config
        _check_thoughts(in_range, config)
        _check_repeats(stream_shares(in_range, config), config)
        streams, self._stream_names = example_streams(in_range, config)
        self._streams = {name: _DedupStream(stream) for name, stream in streams.items()}
        self._fingerprint = _fingerprint(in_range, config)
        self._steps = 0
        self._patience = 2 * sum(len(item.records) for item in in_range.values())
        self._texts: set[str] = set()

    def __next__(self) -> tuple[Example, ...]:
        """The `batch_size` examples of the next step, for any number of processes."""
        self._steps += 1
        self._texts = set()
        return self.more()

    def more(self) -> tuple[Example, ...]:
        """Up to `batch_size` further examples for the same step, with texts that it does not have.

        Fewer, or none, if the set has too few other texts.
        """
        # Grain types elements as optional because of filters, which are not used here.
        stream = self._streams[cast("str", self._stream_names[max(self._steps - 1, 0)])]
        return stream.take(self._config.batch_size, self._texts, self._patience)

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON."""
        return {
            "steps": self._steps,
            "lanes": {name: stream.state_dict() for name, stream in self._streams.items()},
            "fingerprint": self._fingerprint,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from a position that `state_dict` returned.

        Raises:
            DataError: the position belongs to other data or another config.
        """
        if state["fingerprint"] != self._fingerprint:
            raise DataError(
                "the training data or the stage's data config have changed since the checkpoint",
                hint="resume with the data and settings of the checkpoint, or start a new run",
            )
        self._steps = int(state["steps"])
        for name, stream_state in state["lanes"].items():
            self._streams[name].load_state_dict(stream_state)


class _DedupStream:
    """A stream of examples that defers those whose text is already in the batch."""

    def __init__(self, stream: "MapDataset[Example]") -> None:
        self._stream = stream
        self._next = 0
        self._deferred: tuple[int, ...] = ()

    def take(self, count: int, texts: set[str], patience: int) -> tuple[Example, ...]:
        """Up to `count` examples with new texts, which are added to `texts`.

        Gives up after `patience` deferred examples.
        """
        chosen: list[Example] = []
        deferred: list[int] = []
        earlier, position = list(self._deferred), self._next
        while len(chosen) < count and len(deferred) < patience:
            if earlier:
                number = earlier.pop(0)
            else:
                number, position = position, position + 1
            example = cast("Example", self._stream[number])
            text = normalize_text(example.record.query)
            if text in texts:
                deferred.append(number)
                continue
            texts.add(text)
            chosen.append(example)
        self._next, self._deferred = position, (*deferred, *earlier)
        return tuple(chosen)

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next, "waiting": list(self._deferred)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._next = int(state["next"])
        self._deferred = tuple(int(number) for number in state["waiting"])


def epoch_steps(sets: Sequence[TrainingSet], config: StageDataConfig) -> int:
    """Steps after which every record has come up; at least 1.

    A set with a larger share in the mixture comes up more than once in that time.
    """
    shares = stream_shares(sets_by_name(_in_query_range(sets, config.query_range)), config)
    # Rounding may turn a whole number of steps into slightly more.
    return max(math.ceil(1 / share.passes - 1e-9) for share in shares)


def _in_query_range(
    sets: Sequence[TrainingSet], query_range: tuple[float, float]
) -> list[TrainingSet]:
    """The sets with only the queries of the range; their place depends only on their text."""
    start, end = query_range

    def is_in_range(record: TrainingRecord) -> bool:
        return start <= stable_hash("part", normalize_text(record.query)) / 2**64 < end

    result = []
    for item in sets:
        records = tuple(record for record in item.records if is_in_range(record))
        if not records:
            raise DataError(
                f"no query of {item.name} is in query_range [{start}, {end}]; it has "
                f"{len(item.records)} queries in all",
                hint="widen data.query_range",
            )
        result.append(replace(item, records=records))
    return result


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


def _check_repeats(shares: Sequence[StreamShare], config: StageDataConfig) -> None:
    """A text that comes up more than once per batch on average would defer ever more examples."""
    rates: dict[tuple[str, str], float] = {}
    for share in shares:
        stream = share.set_name if config.homogeneous_batches else ""
        for record in share.records:
            key = (stream, normalize_text(record.query))
            rates[key] = rates.get(key, 0.0) + share.rate / len(share.records)
            # The tolerance covers rounding.
            if rates[key] > 1 + 1e-9:
                raise ConfigError(
                    f"a batch of {config.batch_size} queries would contain query "
                    f"{record.query_id!r} of {share.set_name} more than once: too few texts",
                    hint="lower batch_size or the share of its set in the mixture, or merge "
                    "records of the same query",
                )


def _fingerprint(sets: Mapping[str, TrainingSet], config: StageDataConfig) -> str:
    content = {
        "config": asdict(config),
        "sets": [(name, item.data_hash) for name, item in sets.items()],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
