"""Endless streams of examples, in Grain: shuffling, and the mixture of sets and corpus pairs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, DataError
from t1_jax.seeds import stable_hash
from t1_jax.train.data.config import StageDataConfig
from t1_jax.train.data.records import Example, TrainingRecord, TrainingSet

if TYPE_CHECKING:
    from grain import MapDataset

_SMALLEST_WEIGHT = 100  # Grain mixes by integers


@dataclass(frozen=True, kw_only=True)
class StreamShare:
    """Records of a set that come up equally often.

    Attributes:
        set_name: name of the set.
        records: in the set's order.
        rate: mean number of them in a step of their stream.
        passes: mean fraction of a pass over them in a step of the run.
    """

    set_name: str
    records: tuple[TrainingRecord, ...]
    rate: float
    passes: float


def stream_shares(sets: Mapping[str, TrainingSet], config: StageDataConfig) -> list[StreamShare]:
    """The shares of all sets, of their queries and of their corpus pairs.

    Raises:
        ConfigError: the mixture names an unknown set or leaves one out.
        DataError: a set lacks records of a kind that is asked for.
    """
    shares = _set_shares(sets, config)
    total = sum(shares.values())
    result = []
    for name, item in sets.items():
        for share, records in _kinds(item, config):
            of_step = 1 if config.homogeneous_batches else shares[name] / total
            rate = config.batch_size * share * of_step
            passes = config.batch_size * share * shares[name] / total / len(records)
            result.append(StreamShare(set_name=name, records=records, rate=rate, passes=passes))
    return result


def example_streams(
    sets: Mapping[str, TrainingSet], config: StageDataConfig
) -> tuple[dict[str, "MapDataset[Example]"], "MapDataset[str]"]:
    """Streams of examples by name, and for each step the name of the stream that it reads.

    With homogeneous batches there is one stream per set, else a single one.
    """
    from grain import MapDataset

    shares = _set_shares(sets, config)
    streams = {name: _stream(item, config) for name, item in sets.items()}
    if not config.homogeneous_batches:
        mixed = MapDataset.mix(list(streams.values()), [shares[name] for name in streams])
        return {"": mixed}, MapDataset.source([""]).repeat()
    names = [MapDataset.source([name]).repeat() for name in streams]
    return streams, MapDataset.mix(names, [shares[name] for name in streams])


def _set_shares(sets: Mapping[str, TrainingSet], config: StageDataConfig) -> dict[str, int]:
    """The share of each set in the mixture, as integers."""
    for name in config.mixture:
        if name not in sets:
            raise ConfigError(f"mixture.{name} is not a set", hint=suggestion(name, sets))
    if config.mixture and (missing := [name for name in sets if name not in config.mixture]):
        raise ConfigError(
            f"the mixture has no share for {', '.join(missing)}",
            hint="give every set a share, or remove the source from data.sources",
        )
    weights = config.mixture or {name: float(len(item.records)) for name, item in sets.items()}
    return dict(zip(weights, _integers(list(weights.values())), strict=True))


def _integers(weights: Sequence[float]) -> list[int]:
    """Weights as integers for Grain, the smallest being 100."""
    least = min(weights)
    return [round(_SMALLEST_WEIGHT * weight / least) for weight in weights]


def _kinds(
    item: TrainingSet, config: StageDataConfig
) -> list[tuple[float, tuple[TrainingRecord, ...]]]:
    """(share of the set's examples, records) of its queries and of its corpus pairs."""
    share = config.corpus_pair_fraction
    if share is None:
        return [(1.0, item.records)]
    of_corpus = tuple(record for record in item.records if record.is_of_corpus)
    queries = tuple(record for record in item.records if not record.is_of_corpus)
    if share > 0 and not of_corpus:
        raise DataError(
            f"data.corpus_pair_fraction={share:g} needs corpus pairs of {item.name}; it has none",
            hint=f"set data.sources.{item.name}.documents=true, or data.corpus_pair_fraction=null",
        )
    if share < 1 and not queries:
        raise DataError(
            f"data.corpus_pair_fraction={share:g} needs queries of {item.name}, which has none",
            hint="set data.corpus_pair_fraction=1",
        )
    kinds = [(1 - share, queries), (share, of_corpus)]
    return [(part, records) for part, records in kinds if part > 0]


def _stream(item: TrainingSet, config: StageDataConfig) -> "MapDataset[Example]":
    """The examples of one set."""
    from grain import MapDataset

    kinds = _kinds(item, config)
    ordered = [_ordered(item, records, config) for _, records in kinds]
    if len(ordered) == 1:
        return ordered[0]
    return MapDataset.mix(ordered, _integers([share for share, _ in kinds]))


def _ordered(
    item: TrainingSet, records: tuple[TrainingRecord, ...], config: StageDataConfig
) -> "MapDataset[Example]":
    """Endless passes over the records, each in its own order."""
    from grain import MapDataset

    size = len(records)

    def example(number: int, record_number: int) -> Example:
        return replace(
            _example(item.name, records[record_number], number // size, config), task=item.task
        )

    order = MapDataset.source(range(size)).seed(stable_hash(config.seed, "order", item.name) >> 33)
    return order.shuffle().repeat().map_with_index(example)


def _example(set_name: str, record: TrainingRecord, epoch: int, config: StageDataConfig) -> Example:
    def rank(kind: str, choice: object) -> float:
        """Uniform over (0, 1), a different number for each choice."""
        # Hashes instead of a generator: NumPy may change its streams between versions.
        key = (config.seed, set_name, record.query_id, epoch, kind, choice)
        return (stable_hash(*key) + 1) / (2**64 + 1)

    if config.positives == "best":
        positive = min(record.best_positives, key=lambda name: rank("positive", name))
    else:
        # The smallest of several exponential variables: each with probability proportional to rate.
        clocks = {
            name: -math.log(rank("positive", name)) / grade
            for name, grade in record.positives.items()
        }
        positive = min(sorted(clocks), key=clocks.__getitem__)
    negatives = sorted(record.negatives, key=lambda name: rank("negative", name))
    thoughts = range(0 if config.thoughts == "none" else len(record.thoughts))
    thought = min(thoughts, key=lambda number: rank("thought", number), default=None)
    return Example(
        set_name=set_name,
        record=record,
        positive=positive,
        negatives=tuple(negatives[: config.hard_negatives]),
        thought=None if thought is None else record.thoughts[thought],
    )
