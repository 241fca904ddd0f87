"""`t1 contamination`: which texts of test collections are in training data."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError
from t1_jax.progress import counted, shorten

if TYPE_CHECKING:
    from t1_jax.evaluate import Contamination, MatchKind, TextKind, TrainingText
    from t1_jax.train.data import Pairs

CONTAMINATED = 1
"""Exit code: a test query is in the training data."""

_EXAMPLES = 5


def scan_contamination(
    training: Annotated[
        list[Path],
        typer.Argument(
            metavar="TRAIN...",
            help="Files of training data, as for `t1 train --data`; or the folder of a collection, "
            "of which the split train is read.",
        ),
    ],
    collections: Annotated[
        list[str] | None,
        typer.Option(
            "--collection", "-c", help="cwe, ruff, or the folder of a collection; can be repeated."
        ),
    ] = None,
    split: options.Split = "test",
    corpus: Annotated[
        Path | None,
        typer.Option("--corpus", help="Documents, JSONL with _id and text, that TRAIN names."),
    ] = None,
    lenient: options.Lenient = False,
    as_json: options.AsJson = False,
) -> None:
    """Look for the queries and documents of test collections in training data.

    A test text matches exactly, as a near duplicate (similarity of 0.8), or by 13 consecutive words
    that a query, passage or thought of the training data has too. Ends with exit code 1 if a query
    matches. Documents do not change the exit code: training on the corpus of a collection is
    common, but declare it where results are published.

    Example: t1 contamination pairs.jsonl -c my-collection
    """
    from t1_jax.cli.inputs import open_split
    from t1_jax.evaluate import find_contamination

    out = Output(as_json)
    if not collections:
        raise ConfigError("no test collection was given", hint="add --collection cwe")
    tests = [open_split(name, split, out, lenient=lenient) for name in collections]
    pairs = _read_training(out, training, corpus, lenient=lenient)
    scans: dict[str, Contamination] = {}
    for name, test in zip(collections, tests, strict=True):
        title = f"{test.name}/{split}"
        out.log(f"{title}: comparing {counted(len(pairs.records), 'training queries')}")
        # Two folders may have one name.
        title = title if title not in scans else f"{name}/{split}"
        scans[title] = find_contamination(_texts(pairs), test)
        _print_scan(out, title, scans[title])
    out.result(
        collections={
            title: {
                "training_texts": scan.training_texts,
                "totals": scan.totals,
                "counts": _counts(scan),
                "matches": [asdict(match) for match in scan.matches],
            }
            for title, scan in scans.items()
        }
    )
    if any(scan.contaminated_queries for scan in scans.values()):
        raise typer.Exit(CONTAMINATED)


def _read_training(
    out: Output, paths: list[Path], corpus: Path | None, *, lenient: bool
) -> "Pairs":
    from t1_jax.cli.inputs import open_documents, open_split
    from t1_jax.train.data import pairs_of_collection, read_pairs

    if any(path.is_dir() for path in paths):
        if len(paths) > 1 or corpus is not None:
            raise ConfigError(
                "the folder of a collection is training data by itself",
                hint="leave out the other files and --corpus",
            )
        return pairs_of_collection(open_split(str(paths[0]), "train", out, lenient=lenient))
    documents = ()
    if corpus is not None:
        documents = open_documents(str(corpus), out, lenient=lenient).documents
    return read_pairs(paths, documents)


def _texts(pairs: "Pairs") -> "Iterator[TrainingText]":
    """Queries, thoughts, and each passage once, with the first record that has it."""
    from t1_jax.evaluate import TrainingText

    documents = {document.id: document for document in pairs.documents}
    for record in pairs.records:
        yield TrainingText(record=record.query_id, part="query", text=record.query)
        for thought in record.thoughts:
            yield TrainingText(record=record.query_id, part="thought", text=thought)
        for name in (*record.positives, *record.negatives):
            if (document := documents.pop(name, None)) is not None:
                part = "positive" if name in record.positives else "negative"
                yield TrainingText(record=record.query_id, part=part, text=document.full_text)


def _counts(scan: "Contamination") -> "dict[TextKind, dict[MatchKind, int]]":
    from t1_jax.evaluate import MatchKind

    return {
        text_kind: {kind: scan.count(text_kind, kind) for kind in get_args(MatchKind)}
        for text_kind in scan.totals
    }


def _print_scan(out: Output, title: str, scan: "Contamination") -> None:
    rows = []
    for text_kind, counts in _counts(scan).items():
        total = scan.totals[text_kind]
        share = f"{100 * sum(counts.values()) / total:.1f} %"
        cells = [f"{count:,}" for count in counts.values()]
        rows.append((f"{text_kind}s".replace("querys", "queries"), f"{total:,}", *cells, share))
    out.table((title, "texts>", "exact>", "near duplicates>", "13-gram>", "in all>"), rows)
    for match in scan.matches[:_EXAMPLES]:
        out.print(
            f"  {match.text_kind} {match.text_id!r}, {match.kind} ({match.overlap:.2f}): "
            f"{match.part} of record {match.record!r}: {shorten(match.shared, 100)}",
            style="dim",
        )
    if len(scan.matches) > _EXAMPLES:
        out.print(f"  and {len(scan.matches) - _EXAMPLES:,} more; --json has all", style="dim")
