"""A JSONL corpus that is checked once and then read as a stream, however large it is."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.retrieval.beir import corpus_path, parse_document
from t1_jax.retrieval.collection import Document
from t1_jax.retrieval.jsonl import read_records
from t1_jax.retrieval.validation import DUPLICATE_DOCUMENT, ValidationReport


@dataclass(frozen=True, kw_only=True)
class CorpusFile:
    """A checked file of documents.

    Attributes:
        path: the file, gzipped or not.
        name: name of the corpus.
        count: number of documents.
        notes: as `Collection.notes`.
    """

    path: Path
    name: str
    count: int
    notes: Mapping[str, int]

    def documents(self) -> Iterator[Document]:
        """Yields the documents in the order of the file; documents without text are left out."""
        has_duplicates = bool(self.notes.get(DUPLICATE_DOCUMENT))
        seen: set[str] = set()
        for record in read_records(self.path):
            document = parse_document(record, ValidationReport())
            if document is None or document.id in seen:
                continue
            if has_duplicates:
                seen.add(document.id)
            yield document


def check_corpus_file(path: Path, *, lenient: bool = False) -> CorpusFile:
    """Reads a folder with `corpus.jsonl`, or a JSONL file, once; only ids and hashes are kept.

    It accepts and rejects what `load_documents` does, so that a long job does not fail at its end.

    Raises:
        DataError: the file is missing or malformed, or an id is duplicated; names file and line.
    """
    file = corpus_path(path)
    report = ValidationReport()
    contents: dict[str, bytes] = {}
    for record in read_records(file):
        document = parse_document(record, report)
        if document is None:
            continue
        content = f"{document.title}\0{document.text}".encode(errors="surrogatepass")
        digest = hashlib.blake2b(content, digest_size=8).digest()
        first = contents.setdefault(document.id, digest)
        if first is digest:
            continue
        if first != digest:
            raise record.location.error(
                f"id {document.id!r} occurred before with different content"
            )
        report.ignore(DUPLICATE_DOCUMENT)
    if not contents:
        raise DataError(f"{file} has no entry with text")
    report.raise_unless(lenient)
    name = path.resolve().name if path.is_dir() else file.resolve().name.split(".")[0]
    return CorpusFile(path=file, name=name, count=len(contents), notes=report.notes())
