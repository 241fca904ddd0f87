"""One measurement on disk: a JSON file with every query's score, and what it was measured with."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from t1_jax.errors import DataError
from t1_jax.files import write_atomically

FORMAT = 1
"""Of the files; another one is not read."""

MEASURES = ("nDCG@10", "recall@10")
"""What is kept of every query."""

_DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class RowScores:
    """One way of retrieving.

    Attributes:
        values: measure -> value of each query, in the order of the measurement's `query_ids`.
        mean_tokens: of a thought that the model drew; None where it drew none.
        truncated_frac: of those, how many did not end by themselves.
        examples: the first few queries: id, text and thought.
    """

    values: Mapping[str, list[float]]
    mean_tokens: float | None = None
    truncated_frac: float | None = None
    examples: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a measurement depends on; a file with an equal one need not be measured again.

    Attributes:
        settings: of the evaluation or the timing.
        model: fingerprint of the weights, the run or the package.
        data: hash of the documents.
        qrels: hash of the queries' relevance labels.
    """

    settings: Mapping[str, Any]
    model: str
    data: str
    qrels: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found out about one system on one collection.

    Attributes:
        system: its name in the plan.
        measurement: `controls`, `samples-K`, `budget-N` or `cost`.
        collection: its name.
        split: of its queries.
        provenance: what it depends on.
        query_ids: that were scored; none for `cost`.
        rows: by name: controls, `run`, `samples-K` or `budget-N`.
        seconds: what was timed -> seconds for one query or one document.
        training_tokens: read to train the weights, where known.
        facts: the machine, versions, time.
    """

    system: str
    measurement: str
    collection: str
    split: str
    provenance: Provenance
    query_ids: list[str] = field(default_factory=list)
    rows: Mapping[str, RowScores] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    training_tokens: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def file_of(folder: Path, system: str, measurement: str, collection: str, split: str) -> Path:
    """Where a measurement lies."""
    return folder / f"{system}.{measurement}.{Path(collection).name}-{split}.json"


def write_measured(folder: Path, measured: Measured) -> Path:
    """Writes a measurement in one rename, numbers to five digits, and returns its file."""
    of = measured
    file = file_of(folder, of.system, of.measurement, of.collection, of.split)
    content = _rounded({"format": FORMAT} | asdict(measured))
    # Settings are compared with those of later runs, so they stay as they are.
    content["provenance"] = asdict(measured.provenance)
    write_atomically(file, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    return file


def read_measured(file: Path) -> Measured:
    """Reads a measurement.

    Raises:
        DataError: malformed, of another format, or with scores that do not match its queries.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise DataError(f"{file} has another format than {FORMAT}", hint="measure it again")
        rows = {name: RowScores(**row) for name, row in content.pop("rows").items()}
        provenance = Provenance(**content.pop("provenance"))
        measured = Measured(provenance=provenance, rows=rows, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} is not a measurement: {error}", hint="remove it, and measure again"
        ) from error
    for name, row in measured.rows.items():
        if any(len(row.values.get(key, ())) != len(measured.query_ids) for key in MEASURES):
            raise DataError(
                f"{file}: the row {name} does not have a score for each of its "
                f"{len(measured.query_ids)} queries",
                hint="remove it, and measure again",
            )
    return measured


def is_current(file: Path, provenance: Provenance) -> bool:
    """Whether a file holds what would be measured again with this provenance."""
    if not file.exists():
        return False
    return read_measured(file).provenance == Provenance(
        **json.loads(json.dumps(asdict(provenance)))
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return value
