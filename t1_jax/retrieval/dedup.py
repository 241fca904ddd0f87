"""Text normalization for deduplication, leakage checks and false-negative masks."""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping

from t1_jax.retrieval.collection import Document


def normalize_text(text: str) -> str:
    """The text in NFKC form, case-folded, with white space collapsed and stripped."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_hash(text: str) -> str:
    """Hex BLAKE2b hash (128 bits) of the normalized text; equal for duplicates."""
    return hashlib.blake2b(normalize_text(text).encode(), digest_size=16).hexdigest()


def find_self_documents(
    queries: Iterable[tuple[str, str]], documents: Mapping[str, Document]
) -> list[set[str]]:
    """Ids of the documents that are the query itself, for each query.

    Such a document has the query's id, or its text with or without a title. Some corpora contain
    their queries (BEIR's ArguAna), and every ranking puts them first.

    Queries are pairs of id and text.
    """
    queries = list(queries)
    hashes = [text_hash(text) for _, text in queries]
    same_text: dict[str, set[str]] = {key: set() for key in hashes}
    for document_id, document in documents.items():
        for text in {document.text, document.full_text}:
            if (key := text_hash(text)) in same_text:
                same_text[key].add(document_id)
    return [
        same_text[key] | ({query_id} & documents.keys())
        for (query_id, _), key in zip(queries, hashes, strict=True)
    ]
