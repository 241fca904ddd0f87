"""Negatives: candidates of a batch, the mask over them, and documents that are never one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from t1_jax.errors import DataError
from t1_jax.retrieval import Document, find_self_documents, normalize_text, text_hash
from t1_jax.train.data.records import Example, TrainingRecord, TrainingSet, sets_by_name

NO_NEGATIVE = -1
"""Padding of `Candidates.negative_index`."""


class Candidates(NamedTuple):
    """The documents of a batch.

    Attributes:
        keys: (set name, document id) of each candidate, without repetition: first the positives
            in the order of the examples, then the negatives.
        positive_index: index of each query's positive.
        negative_index: indices of each query's hard negatives, padded with `NO_NEGATIVE`.
    """

    keys: tuple[tuple[str, str], ...]
    positive_index: Int[np.ndarray, " N"]
    negative_index: Int[np.ndarray, "N K"]


def collect_candidates(
    examples: Sequence[Example], hard_negatives: int | None = None
) -> Candidates:
    """The documents of a step's examples, without repetition.

    `hard_negatives` are the columns K of `negative_index`; default: the maximum of the examples.

    Raises:
        DataError: an example has more negatives than `hard_negatives`.
    """
    most = max((len(example.negatives) for example in examples), default=0)
    width = most if hard_negatives is None else hard_negatives
    if most > width:
        raise DataError(f"an example has {most} hard negatives, more than {width}")
    positives = [(example.set_name, example.positive) for example in examples]
    negatives = [[(example.set_name, name) for name in example.negatives] for example in examples]
    keys = tuple(dict.fromkeys([*positives, *(key for row in negatives for key in row)]))
    column = {key: number for number, key in enumerate(keys)}
    negative_index = np.full((len(examples), width), NO_NEGATIVE, dtype=np.int32)
    for number, row in enumerate(negatives):
        negative_index[number, : len(row)] = [column[key] for key in row]
    return Candidates(
        keys=keys,
        positive_index=np.array([column[key] for key in positives], dtype=np.int32),
        negative_index=negative_index,
    )


def candidate_mask(
    examples: Sequence[Example], candidates: Sequence[tuple[str, str]], sets: Sequence[TrainingSet]
) -> Bool[np.ndarray, "N C"]:
    """Which candidates are in the denominator of each query's contrastive loss.

    False for positives of the query and documents excluded for it, for other documents with their
    texts, and for documents with the query's own text. The exception is the example's positive:
    its own column is True, so that the denominator has it exactly once. All other candidates are
    True, also those of other sets. A candidate is (set name, document id).
    """
    by_name = sets_by_name(sets)
    # Equal ids of a set have equal texts, so it is enough to compare texts.
    columns: dict[str, list[int]] = {}
    for column, (set_name, document_id) in enumerate(candidates):
        columns.setdefault(by_name[set_name].text_hash(document_id), []).append(column)
    column_of = {key: column for column, key in enumerate(candidates)}
    mask = np.ones((len(examples), len(candidates)), dtype=bool)
    for row, example in enumerate(examples):
        for name in (*example.record.positives, *example.record.excluded):
            mask[row, columns.get(by_name[example.set_name].text_hash(name), [])] = False
        mask[row, columns.get(text_hash(example.record.query), [])] = False
        if (column := column_of.get((example.set_name, example.positive))) is not None:
            mask[row, column] = True
    return mask


def exclude_known_answers(
    records: Sequence[TrainingRecord], documents: Mapping[str, Document]
) -> tuple[tuple[TrainingRecord, ...], int]:
    """Excludes two kinds of documents that must never be negatives of a query.

    1. The query itself as a document, see `t1_jax.retrieval.find_self_documents`.
    2. Positives of other records with the same query text. A record's own negative stays one if
       only records with another instruction have it as a positive.

    A record's positives are never excluded. Exclusions apply to all negatives: mined, in-batch, of
    pools and of the corpus. `documents` are the whole corpus.

    Returns:
        The records with their exclusions, and how many of their negatives were removed.
    """
    texts = [normalize_text(record.query) for record in records]
    selves = find_self_documents(((r.query_id, r.query) for r in records), documents)
    answers: dict[str, dict[str, set[str | None]]] = {text: {} for text in texts}
    for record, text in zip(records, texts, strict=True):
        for name in record.positives:
            answers[text].setdefault(name, set()).add(record.instruction)
    updated, removed = [], 0
    for record, text, itself in zip(records, texts, selves, strict=True):
        others = {
            name
            for name, instructions in answers[text].items()
            if record.instruction in instructions or name not in record.negatives
        }
        excluded = (record.excluded | itself | others).difference(record.positives)
        negatives = tuple(name for name in record.negatives if name not in excluded)
        removed += len(record.negatives) - len(negatives)
        updated.append(replace(record, excluded=excluded, negatives=negatives))
    return tuple(updated), removed
