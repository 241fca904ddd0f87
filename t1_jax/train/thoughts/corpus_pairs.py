"""Training pairs from a corpus itself: a text, and the documents that it describes.

They teach the model what the documents are called and say, which a thought needs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from t1_jax.retrieval import Collection, Document, normalize_text
from t1_jax.train.data import CORPUS_PREFIX, TrainingRecord, TrainingSet, find_leaks
from t1_jax.train.thoughts.wording import capitalized, count_pieces, one_line, sentences, shortened

_MAX_PAIRS = 4
_SENTENCES, _LEAST_PIECES, _MOST_PIECES = 3, 6, 90
_TITLE_PIECES, _SENTENCE_PIECES = 16, 24


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


def title_pairs(documents: Iterable[Document]) -> list[TextPair]:
    """Pairs of any corpus whose documents have titles; a document without one gives none.

    The thought about a sentence of a document is the document's title; the thought about a title
    is the document's first sentence. Up to three sentences are taken, evenly over the text.
    """
    return merge_pairs(
        pair for document in documents if document.title for pair in _pairs_of(document)
    )


def _pairs_of(document: Document) -> Iterable[TextPair]:
    usable = [
        sentence
        for sentence in dict.fromkeys(sentences(document.text))
        if _LEAST_PIECES <= count_pieces(sentence) <= _MOST_PIECES
    ]
    step = max(-(-len(usable) // _SENTENCES), 1)
    title = one_line(document.title)
    texts = [(sentence, shortened(title, _TITLE_PIECES)) for sentence in usable[::step]]
    texts += [(title, shortened(sentence, _SENTENCE_PIECES)) for sentence in usable[:1]]
    for number, (text, thought) in enumerate(texts):
        yield TextPair(
            id=f"{CORPUS_PREFIX}{document.id}:{number}",
            text=text,
            grades={document.id: 1},
            thoughts=(f"{capitalized(thought)}.",),
        )


def corpus_records(
    pairs: Iterable[TextPair],
    name: str,
    documents: Mapping[str, Document],
    train: Collection | None,
    held_out: Sequence[Collection],
) -> tuple[TrainingRecord, ...]:
    """The pairs as records of the collection `name`, without what would leak held-out queries.

    Left out are texts that contain or nearly duplicate a held-out query, and documents that are
    relevant only to held-out queries, not to one of `train`.
    """
    records = [
        TrainingRecord(
            query_id=pair.id, query=pair.text, positives=pair.grades, thoughts=pair.thoughts
        )
        for pair in pairs
    ]
    known = _relevant([] if train is None else [train])
    held_out_documents = _relevant(held_out) - known
    training_set = TrainingSet(name=name, records=tuple(records), documents=documents)
    leaked = {leak.query_id for leak in find_leaks([training_set], held_out)}
    held_out_queries = {
        normalize_text(query.text) for collection in held_out for query in collection.queries
    }
    return tuple(
        record
        for record in records
        if record.query_id not in leaked
        and held_out_documents.isdisjoint(record.positives)
        and not any(query in normalize_text(record.query) for query in held_out_queries)
    )


def _relevant(collections: Iterable[Collection]) -> set[str]:
    """Documents that are relevant to some query."""
    return {
        name
        for collection in collections
        for grades in collection.qrels.values()
        for name, grade in grades.items()
        if grade > 0
    }
