"""What may be a negative of what: the documents of a batch, each once, and the mask over them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from t1_jax.errors import DataError
from t1_jax.retrieval import text_hash
from t1_jax.train.data.records import TrainingSet, sets_by_name
from t1_jax.train.data.stage_data_config import Example

NO_NEGATIVE = -1
"""Fills the rows of queries that drew fewer negatives than others."""


class Candidates(NamedTuple):
    """The documents of a batch and who drew them.

    Attributes:
        keys: (set name, document id) of each candidate, every document once: the positives in
            the order of the draws, then the other negatives.
        positive_index: candidate that is each query's positive.
        negative_index: candidates that are its hard negatives, then `NO_NEGATIVE`.
    """

    keys: tuple[tuple[str, str], ...]
    positive_index: Int[np.ndarray, " N"]
    negative_index: Int[np.ndarray, "N K"]


def collect_candidates(
    examples: Sequence[Example], hard_negatives: int | None = None
) -> Candidates:
    """The documents of `draws`; one that is drawn twice is one candidate.

    Args:
        examples: of a step.
        hard_negatives: columns K of `negative_index`; default: the most that a query drew.

    Raises:
        DataError: a query drew more than `hard_negatives`.
    """
    most = max((len(example.negatives) for example in examples), default=0)
    width = most if hard_negatives is None else hard_negatives
    if most > width:
        raise DataError(f"a query drew {most} hard negatives, more than {width}")
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
    """Which candidates stand in the denominator of which query's contrastive loss.

    False where a candidate is, by id or by equal text, the query's positive, another positive of
    it, or excluded for it, and where its text is that of the query itself. The one exception is
    the column of the drawn positive itself, which is True: the denominator holds it once, and a
    copy of it under another id does not add to it. All else is True, documents of other sets too.

    Args:
        examples: the queries.
        candidates: (set name, document id) of each column.
        sets: at least those that the draws and candidates come from.
    """
    named = sets_by_name(sets)
    # Equal ids of a set have equal texts, so that texts alone decide.
    columns: dict[str, list[int]] = {}
    for column, (set_name, document_id) in enumerate(candidates):
        columns.setdefault(named[set_name].text_hash(document_id), []).append(column)
    own = {key: column for column, key in enumerate(candidates)}
    mask = np.ones((len(examples), len(candidates)), dtype=bool)
    for row, example in enumerate(examples):
        for name in (*example.record.positives, *example.record.excluded):
            mask[row, columns.get(named[example.set_name].text_hash(name), [])] = False
        mask[row, columns.get(text_hash(example.record.query), [])] = False
        if (column := own.get((example.set_name, example.positive))) is not None:
            mask[row, column] = True
    return mask
