"""Training records that commands read, write and describe."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli.output import Output
from t1_jax.errors import DataError

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
        T1Error: the file exists and may not be overwritten, or cannot be made there.
        DataError: its name says no known format.
    """
    from t1_jax.files import check_new_file

    if file.suffix not in (".jsonl", ".parquet"):
        raise DataError(
            f"{file} is of an unknown format",
            hint="give the file a name that ends in .jsonl or .parquet",
        )
    check_new_file(file, overwrite=overwrite)


def given_training_set(
    out: Output, collection: str, split: str, records: Path | None, *, lenient: bool
) -> "TrainingSet":
    """The records of a file, or else of the split's queries, with the collection's documents.

    Of the training split, queries that a held-out split has too are left out (`learnable_set`).

    Raises:
        DataError: neither is here, one is malformed, or a record names an unknown document.
    """
    from t1_jax.cli.inputs import open_split
    from t1_jax.train.data import TrainingSet, read_records, records_from_collection

    found = open_split(collection, split, out, lenient=lenient)
    documents = found.documents_by_id
    if records is None:
        items = records_from_collection(found)
    else:
        items = read_records(records, documents=documents)
    item = TrainingSet(name=found.name, records=items, documents=documents, task=found.task)
    if records is not None or not split.startswith("train"):
        return item
    return learnable_set(out, collection, item, lenient=lenient)


def learnable_set(
    out: Output, collection: str, item: "TrainingSet", *, lenient: bool = False
) -> "TrainingSet":
    """The set as training will use it: without held-out queries, each query once; told to `out`.

    Raises:
        DataError: the collection is not there, or nothing of the set is left.
    """
    from t1_jax.train import held_out_splits
    from t1_jax.train.data import remove_leaks

    (kept,), report = remove_leaks([item], tuple(held_out_splits(collection, lenient).values()))
    if len(kept.records) < len(item.records):
        out.say(
            f"left out: {report.exact} queries that a held-out split has too, {report.near} that "
            f"are nearly one, {report.merged} repeated"
        )
    return kept


def thought_length(
    records: Sequence["TrainingRecord"], count_tokens: Callable[[str], int]
) -> float:
    """Mean tokens of a thought; 0 where there is none."""
    lengths = [count_tokens(thought) for record in records for thought in record.thoughts]
    return sum(lengths) / len(lengths) if lengths else 0.0
