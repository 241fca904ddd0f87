"""Training pairs made of a corpus itself: a text, and the documents that it describes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from t1_jax.train.thoughts.wording import one_line

_MOST_OWNERS = 4


@dataclass(frozen=True, kw_only=True)
class TextPair:
    """A text that stands in for a query.

    Attributes:
        id: `CORPUS_PREFIX`, the document's id, and a number.
        text: not a query of any split.
        grades: document id -> grade from 1.
        thoughts: alternatives, as for a query of that document.
    """

    id: str
    text: str
    grades: Mapping[str, int]
    thoughts: tuple[str, ...]


def merged(pairs: Iterable[TextPair], most_owners: int = _MOST_OWNERS) -> list[TextPair]:
    """Each text once, with the grades of all documents it belongs to, under its first pair's name.

    A text that belongs to more than `most_owners` documents tells nothing and is dropped. Documents
    with a grade only through another's text (as parents have) do not count.
    """
    owners: dict[str, list[TextPair]] = {}
    for pair in pairs:
        owners.setdefault(one_line(pair.text).casefold(), []).append(pair)
    kept = [twins for twins in owners.values() if len(twins) <= most_owners]
    return [
        replace(
            twins[0],
            grades={
                document: max(pair.grades.get(document, 0) for pair in twins)
                for document in sorted({document for pair in twins for document in pair.grades})
            },
        )
        for twins in kept
    ]
