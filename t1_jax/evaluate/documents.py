"""Document embeddings of a collection: in memory, or in a folder where a killed run goes on."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t1_jax.errors import UnsupportedError
from t1_jax.evaluate.encoders import Encoder
from t1_jax.files import read_text, write_atomically
from t1_jax.retrieval import (
    Collection,
    Document,
    Fingerprint,
    Index,
    build_from_table,
    build_index,
    load_index,
)
from t1_jax.retriever import SHARD_DOCUMENTS, T1, digest, document_fingerprint, encode_corpus

_EXACT = ("numpy", "jax")
"""Back ends that search an exact index as it is; others are built from its embeddings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedDocuments:
    """The document embeddings of a collection.

    Attributes:
        build: the index of a kind, such as "numpy"; the second argument are query embeddings
            [B, E], with which the recall of an approximate index is measured. A low one is
            reported, it is no error.
        distinct: number of distinct texts that were encoded.
        truncated: number of documents that were truncated.
        seconds: wall time of encoding, including compilation.
    """

    build: Callable[[str, np.ndarray], Index]
    distinct: int
    truncated: int
    seconds: float


def encode_in_memory(
    model: Encoder, collection: Collection, *, show_progress_bar: bool = False
) -> EncodedDocuments:
    """Encodes each distinct text once.

    Raises:
        DataError: an embedding is not finite.
    """
    ids = [document.id for document in collection.documents]
    texts = [document.full_text for document in collection.documents]
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    first_id = {text: name for name, text in reversed(list(zip(ids, texts, strict=True)))}
    truncated = model.count_truncated(texts)
    start = time.perf_counter()
    vectors = model.encode_document(
        list(row_of),
        document_ids=[first_id[text] for text in row_of],
        show_progress_bar=show_progress_bar,
    )
    seconds = time.perf_counter() - start
    if len(row_of) < len(texts):
        vectors = vectors[[row_of[text] for text in texts]]
    return EncodedDocuments(
        build=lambda kind, queries: build_index(
            kind, ids, vectors, sample_queries=queries, reject_low_recall=False
        ),
        distinct=len(row_of),
        truncated=truncated,
        seconds=seconds,
    )


def encode_in_folder(
    model: T1,
    collection: Collection,
    folder: Path,
    *,
    name: str,
    encoding: Mapping[str, Any],
    show_progress_bar: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> EncodedDocuments:
    """Encodes documents shard by shard into an exact index, or opens the one of an earlier run.

    A killed run loses the shard in progress. The embeddings are mapped from their file. The folder
    of the index is named by encoder, prompt and documents, so another model never finds them.

    Args:
        model: encodes the documents.
        collection: its documents are encoded.
        folder: holds the index, and those of other collections and models.
        name: start of the index's name.
        encoding: settings for the manifest of the index, see `encoding_record`.
        show_progress_bar: whether to show a bar with the time left.
        log: gets a line on what an earlier run had done.

    Raises:
        T1Error: see `encode_corpus`.
        UnsupportedError: several processes.
        CorruptIndexError: the index of an earlier run is damaged.
        DataError: an embedding is not finite.
    """
    fingerprint = document_fingerprint(model, collection.data_hash)
    index = folder / f"{name}-{digest(dataclasses.asdict(fingerprint))[:12]}"
    facts = index.with_name(f"{index.name}.json")
    documents = collection.documents
    if not index.exists():
        start = time.perf_counter()
        encoded = encode_corpus(
            model,
            grouped_by_text(documents, SHARD_DOCUMENTS),
            index,
            count=len(documents),
            encoding=encoding,
            shard_documents=SHARD_DOCUMENTS,
            show_progress_bar=show_progress_bar,
            log=log,
        )
        if encoded is None:
            raise UnsupportedError(
                "an evaluation runs in one process", hint="start it without jax.distributed"
            )
        counted = {"truncated": encoded.truncated, "seconds": time.perf_counter() - start}
        write_atomically(facts, json.dumps(counted) + "\n")
    else:
        log(f"{name}: the documents were encoded before, in {index}")
    if not facts.exists():  # a kill between the index and this file
        truncated = model.count_truncated([document.full_text for document in documents])
        write_atomically(facts, json.dumps({"truncated": truncated, "seconds": 0.0}) + "\n")
    counts = json.loads(read_text(facts))
    return EncodedDocuments(
        build=lambda kind, queries: _open(index, fingerprint, kind, queries),
        distinct=len({document.full_text for document in documents}),
        truncated=counts["truncated"],
        seconds=counts["seconds"],
    )


def _open(folder: Path, fingerprint: Fingerprint, kind: str, queries: np.ndarray) -> Index:
    if kind in _EXACT:
        return load_index(folder, fingerprint, kind=kind)
    exact = load_index(folder, fingerprint)
    return build_from_table(kind, exact.table, sample_queries=queries, reject_low_recall=False)


def grouped_by_text(documents: Sequence[Document], shard: int) -> Iterator[Document]:
    """The documents in an order in which equal texts share a shard of `shard` documents.

    `encode_corpus` encodes each distinct text of a shard once, so each is then encoded once. Texts
    that do not repeat fill the shards. Texts share two shards only if the others run out.
    """
    groups: dict[str, list[Document]] = {}
    for document in documents:
        groups.setdefault(document.full_text, []).append(document)
    single = iter([group[0] for group in groups.values() if len(group) == 1])
    used = 0
    for group in groups.values():
        if len(group) == 1:
            continue
        while used % shard and used % shard + len(group) > shard:
            filler = next(single, None)
            if filler is None:
                break
            yield filler
            used += 1
        yield from group
        used += len(group)
    yield from single
