"""Training records: options and checks that `t1 mine` and `t1 thoughts` share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t1_jax.cli.output import Output
from t1_jax.errors import DataError
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.retriever import OpenedModel
    from t1_jax.train.data import TrainingRecord, TrainingSet

RecordsFile = Annotated[
    Path | None,
    typer.Option(
        "--records", "-r", help="JSONL or Parquet file. Default: the queries of the split."
    ),
]
RecordsOutput = Annotated[
    Path, typer.Option("--output", "-o", help="File to write: .jsonl or .parquet.")
]
TrainingCollection = Annotated[
    str, typer.Option("--collection", "-c", help="cwe, ruff, or the folder of a collection.")
]
TrainingSplit = Annotated[str, typer.Option("--split", help="Split of the queries.")]


def check_records_output(file: Path, overwrite: bool) -> None:
    """Checks that a file of records can be written, before hours of work.

    Raises:
        T1Error: the file exists and may not be overwritten, or cannot be created.
        DataError: its suffix is neither .jsonl nor .parquet.
    """
    from t1_jax.files import check_new_file

    if file.suffix not in (".jsonl", ".parquet"):
        raise DataError(
            f"{file} has an unknown format",
            hint="give the file a name that ends in .jsonl or .parquet",
        )
    check_new_file(file, overwrite=overwrite)


def load_training_set(
    out: Output, collection: str, split: str, records: Path | None, *, lenient: bool
) -> "TrainingSet":
    """The records of a file, or else of the queries of a split, with the collection's documents.

    Queries of the training split that also occur in a held-out split are removed.

    Raises:
        DataError: the file or collection is missing or malformed, or names an unknown document.
    """
    from t1_jax.cli.inputs import open_split
    from t1_jax.train.data import TrainingSet, read_records, records_from_collection

    opened = open_split(collection, split, out, lenient=lenient)
    documents = opened.documents_by_id
    if records is None:
        loaded = records_from_collection(opened)
    else:
        loaded = read_records(records, documents=documents)
    data = TrainingSet(name=opened.name, records=loaded, documents=documents, task=opened.task)
    if records is not None or not split.startswith("train"):
        return data
    return without_leaks(out, collection, data, lenient=lenient)


def without_leaks(
    out: Output, collection: str, data: "TrainingSet", *, lenient: bool = False
) -> "TrainingSet":
    """The set without queries of held-out splits and without repeated queries, as in training.

    Raises:
        DataError: the collection is missing, or no record remains.
    """
    from t1_jax.train import held_out_splits
    from t1_jax.train.data import remove_leaks

    (clean,), report = remove_leaks([data], tuple(held_out_splits(collection, lenient).values()))
    if len(clean.records) < len(data.records):
        out.print(
            f"removed: {counted(report.exact, 'queries of held-out splits')}, "
            f"{counted(report.near, 'near duplicates of them')}, "
            f"{counted(report.merged, 'repeated queries')}"
        )
    return clean


def check_prompts(data: "TrainingSet", model: "OpenedModel", **thinking: Any) -> None:
    """Raises ConfigError for queries whose prompt and thought do not fit the model."""
    for instruction in dict.fromkeys(record.instruction for record in data.records):
        queries = [record.query for record in data.records if record.instruction == instruction]
        model.check_queries(queries, task=data.task, instruction=instruction, **thinking)


def thought_length(
    records: Sequence["TrainingRecord"], count_tokens: Callable[[str], int]
) -> float:
    """Mean tokens per thought; 0 without thoughts."""
    lengths = [count_tokens(thought) for record in records for thought in record.thoughts]
    return sum(lengths) / len(lengths) if lengths else 0.0
