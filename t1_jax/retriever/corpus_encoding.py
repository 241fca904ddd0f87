"""Encodes a corpus of any size shard by shard, and goes on after an interruption."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from t1_jax.errors import DataError
from t1_jax.progress import Advance, track
from t1_jax.retrieval import (
    Document,
    Fingerprint,
    PrecisionLoss,
    StoredPrecision,
    check_truncation,
    measure_precision_loss,
    write_exact_index,
)
from t1_jax.retriever.encoding import document_fingerprint
from t1_jax.retriever.encoding_speed import EncodingMeter, EncodingSpeed
from t1_jax.retriever.shards import Processes, ShardFolder
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
        speed: of this run and process; None if all shards were finished before.
        loss: of the number format and truncation; None for all dimensions in float32.
    """

    fingerprint: Fingerprint
    count: int
    width: int
    resumed: int
    truncated: int
    duplicates: int
    tokens: int
    padding: float
    speed: EncodingSpeed | None
    loss: PrecisionLoss | None


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
    precision: StoredPrecision = "float32",
    truncate_dim: int | None = None,
    overwrite: bool = False,
    shard_documents: int = SHARD_DOCUMENTS,
    processes: Processes | None = None,
    show_progress_bar: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> EncodedCorpus | None:
    """Writes an exact index of the documents; memory does not grow with their number.

    What is done is kept beside `output` until the index is complete. The same call goes on from
    there and ends in the same bits as one that was not interrupted. While the device encodes a
    shard, the next one is read and tokenized, and the last one is written.

    Args:
        model: encodes the documents.
        documents: in order; ids are unique.
        output: folder of the index.
        count: number of documents, for the progress bar.
        encoding: settings for the manifest, see `encoding_record`.
        precision: number format of the index. Shards are in float32 until it is made, so another
            format needs no other encoding, and its loss is measured.
        truncate_dim: dimensions of the index (Matryoshka); None keeps all.
        overwrite: replace an index at `output`, and parts that were begun with other settings.
        shard_documents: documents of a shard.
        processes: this process and how many there are; all make the same call and see the same
            files. Process 0 makes the index.
        show_progress_bar: whether to show a bar with the time left.
        log: gets a line on what an earlier run had done.

    Returns:
        What was encoded; None on a process other than 0, after process 0 has made the index.

    Raises:
        T1Error: see `ShardFolder.opened`; the documents changed since the parts were begun; the
            index could not be written.
        ConfigError: more dimensions to keep than there are.
        DataError: no documents, an empty one, or an embedding that is not finite.
        Interrupted: the interrupt of the model was requested.
    """
    check_truncation(truncate_dim, model.embed_dim)
    processes = processes or Processes()
    prompt = document_fingerprint(model, "0").prompt
    settings = {
        "encoder": model.fingerprint,
        "prompt": prompt,
        "max_document_tokens": model.options.max_document_tokens,
        "shard_documents": shard_documents,
    }
    with ShardFolder.opened(output, settings, start_again=overwrite, processes=processes) as parts:
        before = {entry.shard for entry in parts.entries}
        if before:
            done = sum(entry.count for entry in parts.entries)
            log(f"resuming: {done:,} of {count:,} documents are encoded")
        meter = EncodingMeter(model)
        shown = show_progress_bar and processes.index == 0
        with track("encoding", count, "documents", shown=shown) as advance:
            resumed = _encode_shards(
                model, documents, parts, shard_documents, processes, meter, advance
            )
        if processes.index > 0:
            parts.wait_until_joined()
            return None
        entries = parts.entries
        if not entries:
            raise DataError("there are no documents to encode")
        fingerprint = document_fingerprint(model, parts.data_hash())
        loss = None
        if precision != "float32" or truncate_dim not in (None, model.embed_dim):
            loss = measure_precision_loss(parts.vectors, precision, truncate_dim)
        write_exact_index(
            output,
            parts.ids(),
            parts.vectors(),
            model.embed_dim,
            fingerprint,
            precision=precision,
            truncate_dim=truncate_dim,
            measured={} if loss is None else asdict(loss),
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
        width=truncate_dim or model.embed_dim,
        resumed=resumed,
        truncated=sum(entry.truncated for entry in entries),
        duplicates=sum(entry.duplicates for entry in entries),
        tokens=tokens,
        padding=1 - tokens / slots,
        speed=meter.speed(),
        loss=loss,
    )


def _encode_shards(
    model: T1,
    documents: Iterable[Document],
    parts: ShardFolder,
    size: int,
    processes: Processes,
    meter: EncodingMeter,
    advance: Advance,
) -> int:
    """Encodes the missing shards of this process; returns the number of documents of the others.

    One thread reads ahead and tokenizes, another one writes.
    """
    resumed, count = 0, 0
    writing: Future[None] | None = None
    with ThreadPoolExecutor(1) as tokenizing, ThreadPoolExecutor(1) as writer:

        def submitted() -> Iterator[Future[_Shard] | int]:
            nonlocal count
            for number, shard in enumerate(_chunks(documents, size)):
                count = number + 1
                if not processes.has_turn(number):
                    if processes.index == 0:
                        parts.expect(number, shard)
                    yield len(shard)
                elif parts.has(number, shard):
                    yield len(shard)
                else:
                    yield tokenizing.submit(_tokenized, model, number, shard)

        for item in _one_ahead(submitted()):
            if isinstance(item, int):
                resumed += item
                advance(item)
                continue
            with meter.waiting():
                shard = item.result()
            vectors, slots = _encode_shard(model, shard, meter, advance)
            if writing is not None:
                writing.result()  # one shard at a time is in memory beside the one being encoded
            writing = writer.submit(_write_shard, parts, shard, vectors, slots)
        if writing is not None:
            writing.result()
    parts.end(count)
    return resumed


def _encode_shard(
    model: T1, shard: _Shard, meter: EncodingMeter, advance: Advance
) -> tuple[Float32[np.ndarray, "rows E"], int]:
    """Embeddings of the distinct texts, and the tokens that were computed with padding."""
    before = model.encoder.slots
    documents_of = np.bincount(shard.place, minlength=len(shard.rows))
    lengths = np.array([len(row.ids) for row in shard.rows])

    def on_batch(rows: Int[np.ndarray, "B"]) -> None:
        advance(int(documents_of[rows].sum()), meter.add(lengths[rows], model.encoder.slots))

    with meter.computing():
        vectors = model.encoder.encode(
            shard.rows, names=shard.names, description="documents", on_batch=on_batch
        )
    return vectors, model.encoder.slots - before


def _write_shard(
    parts: ShardFolder, shard: _Shard, vectors: Float32[np.ndarray, "rows E"], slots: int
) -> None:
    truncated = [row.truncated for row in shard.rows]
    parts.write(
        shard.number,
        shard.documents,
        vectors[np.asarray(shard.place)],
        tokens=sum(len(row.ids) for row in shard.rows),
        slots=slots,
        truncated=sum(truncated[row] for row in shard.place),
        duplicates=len(shard.documents) - len(shard.rows),
    )


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
