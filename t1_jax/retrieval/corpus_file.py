"""A corpus that is checked once and then read as a stream, however large it is."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.retrieval.collection import Document
from t1_jax.retrieval.layouts import Entry, RecordFile
from t1_jax.retrieval.load import corpus_files, to_document
from t1_jax.retrieval.validation import DUPLICATE_DOCUMENT, ValidationReport


@dataclass(frozen=True, kw_only=True)
class CorpusFile:
    """Checked files of documents.

    Attributes:
        files: the files, in the order in which they are read.
        name: name of the corpus.
        count: number of documents.
        notes: as `Collection.notes`.
    """

    files: tuple[RecordFile[Entry], ...]
    name: str
    count: int
    notes: Mapping[str, int]

    def documents(self) -> Iterator[Document]:
        """Yields the documents in order, without those that the check counted as dropped."""
        has_duplicates = bool(self.notes.get(DUPLICATE_DOCUMENT))
        seen: set[str] = set()
        report = ValidationReport()
        for file in self.files:
            for entry in file.read(report, lenient=True):
                document = to_document(entry, report)
                if document is None or document.id in seen:
                    continue
                if has_duplicates:
                    seen.add(document.id)
                yield document


def check_corpus_file(path: Path, *, lenient: bool = False) -> CorpusFile:
    """Reads the documents of a folder or a file once; only ids and hashes are kept.

    It accepts and rejects what `load_documents` does, so that a long job does not fail at its end.

    Raises:
        DataError: a file is missing or malformed, or an id is duplicated; names file and line.
    """
    files = corpus_files(path)
    report = ValidationReport()
    contents: dict[str, bytes] = {}
    for entry in (entry for file in files for entry in file.read(report, lenient=lenient)):
        document = to_document(entry, report)
        if document is None:
            continue
        content = f"{document.title}\0{document.text}".encode(errors="surrogatepass")
        digest = hashlib.blake2b(content, digest_size=8).digest()
        first = contents.setdefault(document.id, digest)
        if first is digest:
            continue
        if first != digest:
            raise entry.location.error(f"id {document.id!r} occurred before with different content")
        report.ignore(DUPLICATE_DOCUMENT)
    if not contents:
        raise DataError(f"{files[0].path} has no entry with text")
    report.raise_unless(lenient)
    name = path.resolve().name if path.is_dir() else path.resolve().name.split(".")[0]
    return CorpusFile(files=files, name=name, count=len(contents), notes=report.notes())
