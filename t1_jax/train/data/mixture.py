"""Endless streams of draws, in Grain: the order of records, and how kinds and sets are mixed."""

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

_SHARES = 100  # Grain mixes in whole numbers, of which it makes the smallest this.


@dataclass(frozen=True, kw_only=True)
class StreamShare:
    """Records of a set that come up equally often.

    Attributes:
        set_name: of their set.
        records: in the set's order.
        rate: how many of them a step draws, on average over the steps of their stream.
        passes: by how much of itself a step of the run takes the portion on, on average.
    """

    set_name: str
    records: tuple[TrainingRecord, ...]
    rate: float
    passes: float


def stream_shares(sets: Mapping[str, TrainingSet], config: StageDataConfig) -> list[StreamShare]:
    """Every portion that is drawn from.

    Raises:
        ConfigError: the mixture names an unknown set or leaves one out.
        DataError: records of a kind are asked for that a set does not have.
    """
    shares = _set_shares(sets, config)
    total = sum(shares.values())
    found = []
    for name, item in sets.items():
        for share, records in _kinds(item, config):
            rate = (
                config.batch_size
                * share
                * (1 if config.homogeneous_batches else shares[name] / total)
            )
            passes = config.batch_size * share * shares[name] / total / len(records)
            found.append(StreamShare(set_name=name, records=records, rate=rate, passes=passes))
    return found


def draw_streams(
    sets: Mapping[str, TrainingSet], config: StageDataConfig
) -> tuple[dict[str, "MapDataset[Example]"], "MapDataset[str]"]:
    """Every draw there will ever be by its number, and the name of the stream that a step reads.

    There is a stream for each set where a step keeps to one, else a single one for all.
    """
    from grain import MapDataset

    shares = _set_shares(sets, config)
    parts = {name: _stream(item, config) for name, item in sets.items()}
    if not config.homogeneous_batches:
        mixed = MapDataset.mix(list(parts.values()), [shares[name] for name in parts])
        return {"": mixed}, MapDataset.source([""]).repeat()
    names = [MapDataset.source([name]).repeat() for name in parts]
    return parts, MapDataset.mix(names, [shares[name] for name in parts])


def _set_shares(sets: Mapping[str, TrainingSet], config: StageDataConfig) -> dict[str, int]:
    """Every set's share in whole numbers."""
    for name in config.mixture:
        if name not in sets:
            raise ConfigError(f"mixture.{name} is not a set", hint=suggestion(name, sets))
    if config.mixture and (excluded_rows := [name for name in sets if name not in config.mixture]):
        raise ConfigError(
            f"the mixture has no share for {', '.join(excluded_rows)}",
            hint="give every set a share, or take the set out of the data",
        )
    weights = config.mixture or {name: float(len(item.records)) for name, item in sets.items()}
    return dict(zip(weights, _whole(list(weights.values())), strict=True))


def _whole(weights: Sequence[float]) -> list[int]:
    """Weights as the whole numbers that Grain mixes by, the smallest being 100."""
    least = min(weights)
    return [round(_SHARES * weight / least) for weight in weights]


def _kinds(
    item: TrainingSet, config: StageDataConfig
) -> list[tuple[float, tuple[TrainingRecord, ...]]]:
    """A share of the set's draws, and the records that have it."""
    share = config.corpus_pair_fraction
    if share is None:
        return [(1.0, item.records)]
    of_corpus = tuple(record for record in item.records if record.is_of_corpus)
    asked = tuple(record for record in item.records if not record.is_of_corpus)
    if share > 0 and not of_corpus:
        raise DataError(
            f"data.corpus_pair_fraction={share:g} needs records made of the corpus of {item.name}, "
            "which has none",
            hint=f"set data.sources.{item.name}.documents=true, or leave corpus_pair_fraction out",
        )
    if share < 1 and not asked:
        raise DataError(
            f"data.corpus_pair_fraction={share:g} wants queries, and {item.name} holds none",
            hint="set data.corpus_pair_fraction=1",
        )
    kinds = [(1 - share, asked), (share, of_corpus)]
    return [(part, records) for part, records in kinds if part > 0]


def _stream(item: TrainingSet, config: StageDataConfig) -> "MapDataset[Example]":
    """The draws of one set."""
    from grain import MapDataset

    kinds = _kinds(item, config)
    ordered = [_ordered(item, records, config) for _, records in kinds]
    if len(ordered) == 1:
        return ordered[0]
    return MapDataset.mix(ordered, _whole([share for share, _ in kinds]))


def _ordered(
    item: TrainingSet, records: tuple[TrainingRecord, ...], config: StageDataConfig
) -> "MapDataset[Example]":
    """Pass after pass over the records, each in an order of its own."""
    from grain import MapDataset

    size = len(records)

    def example(number: int, record_number: int) -> Example:
        drawn = _drawn(item.name, records[record_number], number // size, config)
        return replace(drawn, task=item.task)

    order = MapDataset.source(range(size)).seed(stable_hash(config.seed, "order", item.name) >> 33)
    return order.shuffle().repeat().map_with_index(example)


def _drawn(set_name: str, record: TrainingRecord, epoch: int, config: StageDataConfig) -> Example:
    def rank(kind: str, choice: object) -> float:
        """Uniform over (0, 1), another number for each choice."""
        # Hashes rather than a generator: NumPy may change its streams from version to version.
        key = (config.seed, set_name, record.query_id, epoch, kind, choice)
        return (stable_hash(*key) + 1) / (2**64 + 1)

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
    return Example(
        set_name=set_name,
        record=record,
        positive=positive,
        negatives=tuple(negatives[: config.hard_negatives]),
        thought=None if thought is None else record.thoughts[thought],
    )
