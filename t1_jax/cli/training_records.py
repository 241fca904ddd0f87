"""Training records that commands read, write and describe."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.errors import DataError, T1Error

if TYPE_CHECKING:
    from t1_jax.train.data import TrainingRecord, TrainingSet

RecordsFile = Annotated[
    Path | None,
    typer.Option("--records", "-r", help="JSONL or Parquet. Default: the split's own queries."),
]
RecordsOutput = Annotated[
    Path, typer.Option("--output", "-o", help="File to write: .jsonl or .parquet.")
]
TrainingCollection = Annotated[
    str,
    typer.Option("--collection", "-c", help="cwe, ruff, or a folder in the BEIR layout."),
]
TrainingSplit = Annotated[str, typer.Option("--split", help="Which split's queries.")]


def refuse_taken_file(file: Path, overwrite: bool) -> None:
    """Refuses a target that cannot be written before hours of work are done for it.

    Raises:
        T1Error: the file exists, and may not be overwritten.
        DataError: its name says no known format.
    """
    if file.suffix not in (".jsonl", ".parquet"):
        raise DataError(
            f"{file} is of an unknown format",
            mend="give the file a name that ends in .jsonl or .parquet",
        )
    if file.exists() and not overwrite:
        raise T1Error(f"{file} already exists", mend="choose another, or pass --overwrite")


def given_training_set(collection: str, split: str, records: Path | None) -> "TrainingSet":
    """The records of a file, or else of the split's queries, with the collection's documents.

    Raises:
        DataError: neither is here, one is malformed, or a record names an unknown document.
    """
    from t1_jax.hub import open_collection
    from t1_jax.train.data import TrainingSet, read_records, records_from_collection

    found = open_collection(collection, split)
    items = (
        records_from_collection(found)
        if records is None
        else read_records(records, documents=found.documents_by_id)
    )
    return TrainingSet(name=found.name, records=items, documents=found.documents_by_id)


def thought_length(
    records: Sequence["TrainingRecord"], count_tokens: Callable[[str], int]
) -> float:
    """Mean tokens of a thought; 0 where there is none."""
    lengths = [count_tokens(thought) for record in records for thought in record.thoughts]
    return sum(lengths) / len(lengths) if lengths else 0.0
