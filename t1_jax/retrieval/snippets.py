"""The sentence of a document that matches a query best, for lists of results."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from t1_jax.retrieval.collection import Document, SourceLocation
from t1_jax.retrieval.stemming import stem

# Sentences end at punctuation and at blank lines; list items and table rows at their line.
_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n\s*|\n(?=\s*(?:[-*+|>#]|\d+[.)])\s)")


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """A sentence of a document.

    Attributes:
        text: the sentence on one line.
        location: its file and line; None for a document without location.
    """

    text: str
    location: SourceLocation | None


def best_sentence(document: Document, query: str, thoughts: Sequence[str] = ()) -> Snippet:
    """The sentence with most of the query's terms; a term of a thought counts half.

    Without a common term it is the first sentence.
    """
    sentences, start = [], 0
    for match in [*_END.finditer(document.text), None]:
        end = len(document.text) if match is None else match.start()
        if document.text[start:end].strip():
            sentences.append((start, document.text[start:end]))
        start = end if match is None else match.end()
    if not sentences:  # a document with a title only
        return Snippet(text=document.title, location=document.location)
    asked, *thought = map(set, stem([query, *thoughts]))
    supporting = set().union(*thought) - asked
    scores = [
        len(terms & asked) + 0.5 * len(terms & supporting)
        for terms in map(set, stem([text for _, text in sentences]))
    ]
    start, text = sentences[scores.index(max(scores))]
    location = document.location
    if location is not None:
        skipped = document.text.count("\n", 0, start + len(text) - len(text.lstrip()))
        location = SourceLocation(path=location.path, line=location.line + skipped)
    return Snippet(text=" ".join(text.split()), location=location)


def first_sentence(text: str) -> str:
    """The first sentence on one line; empty if there is none."""
    return " ".join(_END.split(text.strip(), maxsplit=1)[0].split())
