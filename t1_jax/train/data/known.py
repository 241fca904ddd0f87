"""What must never be a negative of a query: itself as a document, and answers known elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from t1_jax.retrieval import Document, find_self_documents, normalize_text
from t1_jax.train.data.records import TrainingRecord


def exclude_known_answers(
    records: Sequence[TrainingRecord], documents: Mapping[str, Document]
) -> tuple[tuple[TrainingRecord, ...], int]:
    """The records with two more kinds of exclusions, and how many of their negatives those removed.

    1. The query itself as a document, see `t1_jax.retrieval.find_self_documents`.
    2. The positives of other records of the same query text. A negative that a record itself names
       stays one if only a record with another instruction calls it positive.

    What is positive for a record is never excluded for it. Exclusions hold wherever negatives come
    from: mining, pools, the other documents of a batch, the corpus.

    Args:
        records: of one corpus.
        documents: the whole corpus, under their ids.
    """
    texts = [normalize_text(record.query) for record in records]
    selves = find_self_documents(((r.query_id, r.query) for r in records), documents)
    answers: dict[str, dict[str, set[str | None]]] = {text: {} for text in texts}
    for record, text in zip(records, texts, strict=True):
        for name in record.positives:
            answers[text].setdefault(name, set()).add(record.instruction)
    found, removed = [], 0
    for record, text, itself in zip(records, texts, selves, strict=True):
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
