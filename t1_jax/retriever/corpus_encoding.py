"""Encodes a corpus of any size shard by shard, and goes on after an interruption."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from t1_jax.errors import DataError
from t1_jax.progress import track
from t1_jax.retrieval import Document, Fingerprint, write_exact_index
from t1_jax.retriever.encoding import document_fingerprint
from t1_jax.retriever.shards import ShardFolder
from t1_jax.retriever.t1 import T1
from t1_jax.text import PromptTokens

SHARD_DOCUMENTS = 4096
"""Documents of a shard. A kill costs the one in progress. Rows of a shard share batches, so the
last bits of embeddings depend on it."""


@dataclass(frozen=True, kw_only=True)
class EncodedCorpus:
    """What was encoded.

    Attributes:
        fingerprint: of the index.
        count: documents.
        width: dimensions.
        resumed: documents that an interrupted run had encoded.
        truncated: documents that were truncated.
        duplicates: documents whose text occurs earlier in the same shard.
        tokens: tokens that were encoded, without padding.
        padding: part of the computed slots that was padding.
    """

    fingerprint: Fingerprint
    count: int
    width: int
    resumed: int
    truncated: int
    duplicates: int
    tokens: int
    padding: float


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """Documents on their way to the device.

    Attributes:
        number: of the shard.
        documents: its documents.
        place: for each document, the row of its text among the distinct ones.
        names: of the distinct texts, for errors.
        rows: their tokens.
    """

    number: int
    documents: Sequence[Document]
    place: Sequence[int]
    names: Sequence[str]
    rows: Sequence[PromptTokens]


def encode_corpus(
    model: T1,
    documents: Iterable[Document],
    output: Path,
    *,
    count: int,
    encoding: Mapping[str, Any],
    overwrite: bool = False,
    shard_documents: int = SHARD_DOCUMENTS,
    show_progress_bar: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> EncodedCorpus:
    """Writes an exact index of the documents; memory does not grow with their number.

    What is done is kept beside `output` until the index is complete. The same call goes on from
    there and ends in the same bits as one that was not interrupted. While the device encodes a
    shard, the next one is read and tokenized.

    Args:
        model: encodes the documents.
        documents: in order; ids are unique.
        output: folder of the index.
        count: number of documents, for the progress bar.
        encoding: settings for the manifest, see `encoding_record`.
        overwrite: replace an index at `output`, and parts that were begun with other settings.
        shard_documents: documents of a shard.
        show_progress_bar: whether to show a bar with the time left.
        log: gets a line on what an earlier run had done.

    Raises:
        T1Error: see `ShardFolder.opened`; the documents changed since the parts were begun; the
            index could not be written.
        DataError: no documents, an empty one, or an embedding that is not finite.
        Interrupted: the interrupt of the model was requested.
    """
    prompt = document_fingerprint(model, "0").prompt
    settings = {
        "encoder": model.fingerprint,
        "prompt": prompt,
        "max_document_tokens": model.options.max_document_tokens,
        "shard_documents": shard_documents,
    }
    with ShardFolder.opened(output, settings, start_again=overwrite) as parts:
        before = {entry.shard for entry in parts.entries}
        if before:
            done = sum(entry.count for entry in parts.entries)
            log(f"resuming: {done:,} of {count:,} documents are encoded")
        with track("encoding", count, "documents", shown=show_progress_bar) as advance:
            resumed = _encode_shards(model, documents, parts, shard_documents, advance)
        entries = parts.entries
        if not entries:
            raise DataError("there are no documents to encode")
        fingerprint = document_fingerprint(model, parts.data_hash())
        width = next(parts.vectors()).shape[1]
        write_exact_index(
            output,
            parts.ids(),
            parts.vectors(),
            width,
            fingerprint,
            encoding=encoding,
            document_files=parts.document_files(),
            overwrite=overwrite,
        )
        parts.remove()
    slots = sum(entry.slots for entry in entries)
    tokens = sum(entry.tokens for entry in entries)
    return EncodedCorpus(
        fingerprint=fingerprint,
        count=sum(entry.count for entry in entries),
        width=width,
        resumed=resumed,
        truncated=sum(entry.truncated for entry in entries),
        duplicates=sum(entry.duplicates for entry in entries),
        tokens=tokens,
        padding=1 - tokens / slots,
    )


def _encode_shards(
    model: T1,
    documents: Iterable[Document],
    parts: ShardFolder,
    size: int,
    advance: Callable[[int], None],
) -> int:
    """Encodes the shards that are missing; returns the number of documents of the others."""
    resumed = 0
    with ThreadPoolExecutor(1) as pool:

        def submitted() -> Iterator[Future[_Shard] | int]:
            count = 0
            for number, shard in enumerate(_chunks(documents, size)):
                count = number + 1
                if parts.has(number, shard):
                    yield len(shard)
                else:
                    yield pool.submit(_tokenized, model, number, shard)
            parts.end(count)

        for item in _one_ahead(submitted()):
            if isinstance(item, int):
                resumed += item
                advance(item)
                continue
            shard = item.result()
            before = model.encoder.slots
            vectors = model.encoder.encode(shard.rows, names=shard.names, description="documents")
            truncated = [row.truncated for row in shard.rows]
            parts.write(
                shard.number,
                shard.documents,
                vectors[np.asarray(shard.place)],
                tokens=sum(len(row.ids) for row in shard.rows),
                slots=model.encoder.slots - before,
                truncated=sum(truncated[row] for row in shard.place),
                duplicates=len(shard.documents) - len(shard.rows),
            )
            advance(len(shard.documents))
    return resumed


def _tokenized(model: T1, number: int, documents: Sequence[Document]) -> _Shard:
    """Each distinct text of a shard is tokenized and encoded once."""
    rows: dict[str, int] = {}
    place = [rows.setdefault(item.full_text, len(rows)) for item in documents]
    first = {row: item.id for item, row in reversed(list(zip(documents, place, strict=True)))}
    names = [f"document {first[row]!r}" for row in range(len(rows))]
    return _Shard(
        number=number,
        documents=documents,
        place=place,
        names=names,
        rows=model.tokenize_documents(list(rows), names),
    )


def _chunks(items: Iterable[Document], size: int) -> Iterator[list[Document]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _one_ahead(items: Iterator[Any]) -> Iterator[Any]:
    """Yields items, the next of which has been taken from the iterator already."""
    ahead = next(items, None)
    while ahead is not None:
        current, ahead = ahead, next(items, None)
        yield current
