"""Splits a collection into training, validation and test queries without leaks."""

from collections.abc import Mapping
from dataclasses import dataclass

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import Collection, text_hash
from t1_jax.retrieval.datasets import group_keys
from t1_jax.seeds import stable_hash
from t1_jax.train.data.leakage import Leak, LeakConfig, find_leaks
from t1_jax.train.data.records import TrainingSet, records_from_collection


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Sizes of the splits; the remaining queries are for training.

    Attributes:
        validation: fraction of the queries, at least 0.
        test: fraction of the queries, at least 0.
        near_duplicates: queries of at least this similarity stay together, see `LeakConfig.near`.
        seed: seed of the order in which groups of queries are assigned.

    Raises:
        ConfigError: a fraction below 0, or fractions that leave nothing to train on.
    """

    validation: float = 0.1
    test: float = 0.2
    near_duplicates: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise ConfigError(
                f"validation={self.validation} and test={self.test} must not be below 0, and must "
                "leave queries to train on"
            )
        LeakConfig(near=self.near_duplicates)  # checks its range


def split_queries(
    collection: Collection,
    config: SplitConfig | None = None,
    groups: Mapping[str, str] | None = None,
) -> dict[str, Collection]:
    """Splits the labeled queries of a collection; all splits share its documents.

    Duplicates and near duplicates stay together, so that no split contains a query of another;
    `groups`, query id -> group, names further queries that stay together.

    Groups are assigned in an order that depends on the seed and their query ids.

    Raises:
        DataError: too few different queries for one of the splits.
    """
    config = config or SplitConfig()
    shares = {"test": config.test, "validation": config.validation}
    links = {(_node(query.id), f"text {text_hash(query.text)}") for query in collection.queries}
    links |= {(_node(query_id), f"group {name}") for query_id, name in (groups or {}).items()}
    while True:
        splits = _assigned(collection, group_keys(sorted(links)), shares, config.seed)
        near = _links_between(splits, LeakConfig(near=config.near_duplicates))
        if not near:
            break
        links |= near
    for split, share in {**shares, "train": 1.0}.items():
        if share and split not in splits:
            raise DataError(
                f"{collection.name}: {len(collection.queries)} queries in too few groups of "
                f"different texts leave none for {split}",
                hint="label more queries, or set the fraction of a split to 0",
            )
    return splits


def _assigned(
    collection: Collection, group_of: Mapping[str, str], shares: Mapping[str, float], seed: int
) -> dict[str, Collection]:
    """Fills one split after the other with whole groups; the others are for training."""
    groups: dict[str, list[str]] = {}
    for query in collection.queries:
        groups.setdefault(group_of[_node(query.id)], []).append(query.id)
    order = sorted(groups, key=lambda name: stable_hash(seed, "split", *sorted(groups[name])))
    total, chosen, waiting = len(collection.queries), {}, list(order)
    for split, share in shares.items():
        ids = chosen[split] = set[str]()
        while waiting and share and len(ids) < max(1, round(share * total)):
            ids.update(groups[waiting.pop(0)])
    chosen["train"] = {query_id for name in waiting for query_id in groups[name]}
    return {
        split: collection.with_queries(chosen[split])
        for split in ("train", "validation", "test")
        if chosen[split]
    }


def _links_between(splits: Mapping[str, Collection], config: LeakConfig) -> set[tuple[str, str]]:
    """Pairs of near duplicates in different splits."""
    links: set[tuple[str, str]] = set()
    names = list(splits)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            leaks = overlap(splits[name], splits[other], config)
            links |= {(_node(leak.query_id), _node(leak.held_out_query)) for leak in leaks}
    return links


def overlap(split: Collection, other: Collection, config: LeakConfig) -> tuple[Leak, ...]:
    """Queries of one split that duplicate, or nearly duplicate, a query of another."""
    records = records_from_collection(split)
    if not records:
        return ()
    queries = TrainingSet(name=split.name, records=records, documents=split.documents_by_id)
    return find_leaks([queries], [other], config)


def _node(query_id: str) -> str:
    return f"query {query_id}"
