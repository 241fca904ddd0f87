"""What must never be a negative of a query: itself as a document, and answers known elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from t1_jax.retrieval import Document, normalize_text
from t1_jax.train.data.records import TrainingRecord


def exclude_known_answers(
    records: Sequence[TrainingRecord], documents: Mapping[str, Document]
) -> tuple[tuple[TrainingRecord, ...], int]:
    """The records with two more kinds of exclusions, and how many of their negatives those removed.

    1. The query as a document: one with the query's id or text. Corpora of arguments and of
       community questions hold their queries (BEIR's ArguAna), and every ranking puts them first.
    2. The positives of other records of the same query text. A negative that a record itself names
       stays one if only a record with another instruction calls it positive.

    What is positive for a record is never excluded for it. Exclusions hold wherever negatives come
    from: mining, pools, the other documents of a batch, the corpus.

    Args:
        records: of one corpus.
        documents: the whole corpus, under their ids.
    """
    texts = [normalize_text(record.query) for record in records]
    same_text: dict[str, set[str]] = {text: set() for text in texts}
    for name, document in documents.items():
        for text in {document.text, document.full_text}:
            if (key := normalize_text(text)) in same_text:
                same_text[key].add(name)
    answers: dict[str, dict[str, set[str | None]]] = {text: {} for text in texts}
    for record, text in zip(records, texts, strict=True):
        for name in record.positives:
            answers[text].setdefault(name, set()).add(record.instruction)
    found, removed = [], 0
    for record, text in zip(records, texts, strict=True):
        itself = same_text[text] | ({record.query_id} & documents.keys())
        others = {
            name
            for name, instructions in answers[text].items()
            if record.instruction in instructions or name not in record.negatives
        }
        excluded = (record.excluded | itself | others).difference(record.positives)
        negatives = tuple(name for name in record.negatives if name not in excluded)
        removed += len(record.negatives) - len(negatives)
        found.append(replace(record, excluded=excluded, negatives=negatives))
    return tuple(found), removed
