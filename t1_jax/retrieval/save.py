"""Collections written in the BEIR layout, and the manifest `collection.json`."""

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.files import atomic_folder
from t1_jax.retrieval.collection import Collection
from t1_jax.retrieval.layouts import QRELS_HEADER

_SPLIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def save_collection(
    splits: Mapping[str, Collection], folder: Path, *, overwrite: bool = False
) -> None:
    """Writes collections that share their documents as the splits of one folder, atomically.

    Raises:
        DataError: there is no split, a split's name is not a plain file name, the splits have
            different documents, or a query has different texts in two splits.
        T1Error: the folder exists (without `overwrite`), or the write failed.
    """
    first = _checked_splits(splits)
    queries = {query.id: query for collection in splits.values() for query in collection.queries}
    excluded = {
        key: sorted(ids)
        for collection in splits.values()
        for key, ids in collection.excluded.items()
    }
    with atomic_folder(Path(folder), overwrite=overwrite) as scratch:
        _write_jsonl(
            scratch / "corpus.jsonl",
            ({"_id": item.id, "title": item.title, "text": item.text} for item in first.documents),
        )
        _write_jsonl(
            scratch / "queries.jsonl",
            ({"_id": item.id, "text": item.text} for item in queries.values()),
        )
        if excluded:
            _write_jsonl(
                scratch / "excluded.jsonl",
                ({"_id": key, "excluded": ids} for key, ids in excluded.items()),
            )
        (scratch / "qrels").mkdir()
        for split, collection in splits.items():
            _write_qrels(scratch / "qrels" / f"{split}.tsv", collection)
        manifest = CollectionManifest(
            name=first.name,
            metadata=dict(first.metadata),
            data_hash=first.data_hash,
            qrels_hashes={split: collection.qrels_hash for split, collection in splits.items()},
        )
        text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n"
        (scratch / "collection.json").write_text(text, encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class CollectionManifest:
    """The content of `collection.json`."""

    name: str
    metadata: Mapping[str, str]
    data_hash: str
    qrels_hashes: Mapping[str, str]


def read_manifest(folder: Path) -> CollectionManifest | None:
    """The manifest of a collection; None if it has none.

    Raises:
        DataError: the file is malformed.
    """
    path = folder / "collection.json"
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_bytes())
        if "judgement_hashes" in fields:  # the key in collections built before qrels had this name
            fields["qrels_hashes"] = fields.pop("judgement_hashes")
        manifest = CollectionManifest(**fields)
        strings = [manifest.name, manifest.data_hash]
        for table in (manifest.metadata, manifest.qrels_hashes):
            strings += [*table.keys(), *table.values()]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is malformed: {error}", hint="build the collection again"
        ) from error
    if not all(isinstance(value, str) for value in strings):
        raise DataError(f"{path} is malformed: every value must be a string")
    return manifest


def check_hashes(
    folder: Path, split: str, collection: Collection, manifest: CollectionManifest
) -> None:
    """Raises DataError if documents or qrels are not those that the manifest was written for."""
    pairs = [("corpus.jsonl", manifest.data_hash, collection.data_hash)]
    if split in manifest.qrels_hashes:
        pairs.append((f"split {split}", manifest.qrels_hashes[split], collection.qrels_hash))
    for what, recorded, actual in pairs:
        if recorded != actual:
            raise DataError(
                f"{folder}: {what} changed since it was built: collection.json has the hash "
                f"{recorded}, the content has {actual}",
                hint="build the collection again, or delete collection.json to use it as it is",
            )


def _checked_splits(splits: Mapping[str, Collection]) -> Collection:
    if not splits:
        raise DataError("a collection needs at least one split")
    first = next(iter(splits.values()))
    texts: dict[str, str] = {}
    for split, collection in splits.items():
        if not _SPLIT.fullmatch(split):
            raise DataError(f"{split!r} cannot name a split: letters, digits, '.', '_', '-' only")
        if collection.data_hash != first.data_hash or collection.metadata != first.metadata:
            raise DataError(f"{collection.name}: split {split!r} has other documents or metadata")
        for query in collection.queries:
            if texts.setdefault(query.id, query.text) != query.text:
                raise DataError(f"{collection.name}: query {query.id!r} differs between splits")
    return first


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_qrels(path: Path, collection: Collection) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(QRELS_HEADER)
        for query_id, labels in collection.all_qrels.items():
            writer.writerows(
                (query_id, document_id, label) for document_id, label in labels.items()
            )
