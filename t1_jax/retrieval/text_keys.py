"""When two texts count as the same: what duplicates, leaks and masks are decided by."""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping

from t1_jax.retrieval.collection import Document


def normalized_text(text: str) -> str:
    """The text in Unicode's NFKC form, case folded, with single spaces and none at its ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_key(text: str) -> str:
    """Hex hash of 128 bits that texts share whose normalized forms are equal."""
    return hashlib.blake2b(normalized_text(text).encode(), digest_size=16).hexdigest()


def find_self_documents(
    queries: Iterable[tuple[str, str]], documents: Mapping[str, Document]
) -> list[set[str]]:
    """For each query (id, text) the ids of the documents that are this query itself.

    Such a document has the query's id, or its text with or without a title. Corpora of arguments
    and of community questions hold their queries (BEIR's ArguAna), and every ranking puts them
    first.
    """
    queries = list(queries)
    keys = [text_key(text) for _, text in queries]
    same_text: dict[str, set[str]] = {key: set() for key in keys}
    for document_id, document in documents.items():
        for text in {document.text, document.full_text}:
            if (key := text_key(text)) in same_text:
                same_text[key].add(document_id)
    return [
        same_text[key] | ({query_id} & documents.keys())
        for (query_id, _), key in zip(queries, keys, strict=True)
    ]
