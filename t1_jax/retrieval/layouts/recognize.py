"""Recognizes the format of a collection by the names of its files."""

from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.retrieval.layouts import beir, flag_embedding, tevatron, trec
from t1_jax.retrieval.layouts.layout import Layout

_HINT = (
    "a collection has corpus.jsonl, and qrels in one of four formats: BEIR (qrels/test.tsv), TREC "
    "(topics.txt, qrels.txt), Tevatron (test.jsonl with query_id and positive_passages) or "
    "FlagEmbedding (test_qrels.jsonl); see docs/collections.md"
)


def recognize_layout(folder: Path) -> Layout:
    """The layout of a collection.

    Raises:
        DataError: no format, or two, fit the files of the folder.
    """
    layout = find_layout(folder)
    if layout is None:
        raise DataError(f"{folder} is not a collection in a known format", hint=_HINT)
    return layout


def find_layout(folder: Path) -> Layout | None:
    """The layout of a collection; None if the folder is not one.

    Raises:
        DataError: two formats fit the files of the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return None
    with_qrels = [format.find(folder) for format in (beir, flag_embedding, trec)]
    found = [layout for layout in with_qrels if layout is not None]
    if len(found) > 1:
        raise DataError(
            f"{folder} has the files of two formats, {found[0].name} and {found[1].name}",
            hint="move those of one of them to another folder",
        )
    # A Tevatron file of queries may be the training data beside qrels of another format.
    return found[0] if found else tevatron.find(folder) or beir.documents_only(folder)
