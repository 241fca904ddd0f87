"""Training pairs from a corpus itself: a text, and the documents that it describes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from t1_jax.train.thoughts.wording import one_line

_MAX_PAIRS = 4


@dataclass(frozen=True, kw_only=True)
class TextPair:
    """A text that serves as a query.

    Attributes:
        id: `CORPUS_PREFIX`, the document's id, and a number.
        text: the text; not a query of any split.
        grades: document id -> grade, at least 1.
        thoughts: alternative thoughts.
    """

    id: str
    text: str
    grades: Mapping[str, int]
    thoughts: tuple[str, ...]


def merge_pairs(pairs: Iterable[TextPair], max_pairs: int = _MAX_PAIRS) -> list[TextPair]:
    """Merges pairs of equal text into the first of them, with the best grade of each document.

    A text with more than `max_pairs` pairs is too general and is dropped.
    """
    by_text: dict[str, list[TextPair]] = {}
    for pair in pairs:
        by_text.setdefault(one_line(pair.text).casefold(), []).append(pair)
    groups = [group for group in by_text.values() if len(group) <= max_pairs]
    return [
        replace(
            group[0],
            grades={
                document: max(pair.grades.get(document, 0) for pair in group)
                for document in sorted({document for pair in group for document in pair.grades})
            },
        )
        for group in groups
    ]
