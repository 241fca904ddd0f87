"""What a reader must know beside the numbers: flaws of the collection, queries without result."""

from collections.abc import Iterator

from t1_jax.evaluate.results import Evaluation
from t1_jax.retrieval import Collection, text_hash


def evaluation_notes(evaluation: Evaluation) -> tuple[str, ...]:
    """Sentences for under the table, the report and results.json; none where all is in order."""
    return tuple(f"{evaluation.title}: {note}." for note in _notes(evaluation))


def _notes(evaluation: Evaluation) -> Iterator[str]:
    collection = evaluation.collection
    total = len(evaluation.query_ids)
    for what, count in collection.notes.items():
        yield f"{count:,} {what}"
    yield from _queries_in_corpus(collection)
    for row in evaluation.rows:
        if row.missing:
            yield (
                f"{row.label} found nothing for {len(row.missing):,} of {total:,} queries, which "
                "count 0"
            )
        if row.unknown:
            yield (
                f"{row.label} ranks {len(row.unknown):,} queries that the split does not have, "
                f"such as {row.unknown[0]!r}"
            )


def _queries_in_corpus(collection: Collection) -> Iterator[str]:
    """Warns of documents that are a query itself: they rank first and count as wrong."""
    by_text: dict[str, set[str]] = {text_hash(query.text): set() for query in collection.queries}
    for document in collection.documents:
        for text in {document.text, document.full_text}:
            if (key := text_hash(text)) in by_text:
                by_text[key].add(document.id)
    same_id = same_text = 0
    for query in collection.queries:
        judged = collection.qrels.get(query.id, {})
        excluded = collection.excluded.get(query.id, frozenset())
        itself = {
            name
            for name in by_text[text_hash(query.text)] | {query.id}
            if name in collection.documents_by_id
            and name not in excluded
            and judged.get(name, 0) <= 0
        }
        same_id += query.id in itself
        same_text += query.id not in itself and bool(itself)
    if same_id:
        yield (
            f"{same_id:,} queries have the id of a document that is not judged relevant. If these "
            "are the queries themselves they rank first and count as wrong: exclude_same_id=true "
            "takes them out"
        )
    if same_text:
        yield (
            f"{same_text:,} queries have the text of a document of another id that is not judged "
            "relevant: it ranks first and counts as wrong (excluded.jsonl can take it out)"
        )
