"""Template thoughts for any texts: what the relevant document is called, and its rarest words."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from t1_jax.retrieval import Document
from t1_jax.train.data import TrainingRecord, TrainingSet
from t1_jax.train.thoughts.wording import (
    FUNCTION_WORDS,
    capitalized,
    count_pieces,
    one_line,
    plain_words,
    sentences,
    shortened,
)

_WORD = re.compile(r"[^\W\d_]{3,}")
_HEADING = re.compile(r"^#+\s*")
_PATH = " > "
"""Between the headings above a passage of a file."""

_HEAD_PIECES, _PIECES, _MAX_TERMS = 12, 18, 3
_NO_SPACES = 24
"""Characters of a head in a script that is written without spaces."""


def with_text_thoughts(data: TrainingSet) -> tuple[tuple[TrainingRecord, ...], int]:
    """The records, with a thought for each that has none, and how many were written.

    A thought is the title (else the first sentence) of the best positive, and up to three words
    with the highest TF-IDF in it that are in neither the query nor the title. Words of one document
    alone are left out: a model cannot learn to expect them. It sees the answer, so it is for
    training queries only.
    """
    counts = _document_counts(data.documents.values())
    records, written = [], 0
    for record in data.records:
        if not record.thoughts:
            document = data.documents[record.best_positives[0]]
            thought = text_thought(record.query, document, counts, len(data.documents))
            record = replace(record, thoughts=(thought,))
            written += 1
        records.append(record)
    return tuple(records), written


def text_thought(query: str, document: Document, counts: Mapping[str, int], total: int) -> str:
    """The thought about one document; `counts` are document frequencies among `total`."""
    head = _head(document)
    known = {*_words(query), *_words(head)}
    frequencies = Counter(word for word in _words(document.full_text) if word not in known)
    weights = {
        word: (1 + math.log(number)) * math.log((1 + total) / (1 + counts.get(word, 0)))
        for word, number in frequencies.items()
        if counts.get(word, 0) > 1
    }
    # Words of equal weight keep the order of the text.
    ranked = sorted((word for word in weights if weights[word] > 0), key=lambda w: -weights[w])
    terms: list[str] = []
    size = count_pieces(head) + 2
    for word in ranked[:_MAX_TERMS]:
        size += count_pieces(word) + 1
        if size > _PIECES:
            break
        terms.append(word)
    return f"{head}: {', '.join(terms)}." if terms else f"{head}."


def _head(document: Document) -> str:
    """The title or the first sentence, shortened."""
    lines = document.full_text.strip().splitlines()
    lines = [line for line in lines if _has_words(line)] or lines
    text = plain_words(_HEADING.sub("", lines[0])) or one_line(lines[0])
    first = text.split(_PATH)[-1] if document.title.strip() else sentences(text)[0]
    head = shortened(first, _HEAD_PIECES)
    return capitalized(head or one_line(first)[:_NO_SPACES])


def _has_words(line: str) -> bool:
    """Whether a line is more than markup, such as a fence of code."""
    return len(_WORD.findall(line)) > 1 or not line.strip().startswith(("```", "---", "<!--"))


def _words(text: str) -> list[str]:
    words = (word.casefold() for word in _WORD.findall(text))
    return [word for word in words if word not in FUNCTION_WORDS]


def _document_counts(documents: Iterable[Document]) -> Counter[str]:
    """Word -> number of documents with it."""
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(set(_words(document.full_text)))
    return counts
