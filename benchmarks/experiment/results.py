"""Results on disk: one JSON file per measurement with every query's scores and the provenance."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from t1_jax.errors import DataError
from t1_jax.files import write_atomically

FORMAT = 1
"""Format version of the files."""

METRICS = ("nDCG@10", "recall@10")
"""Metrics stored for every query."""

_DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class RowScores:
    """The scores of one row.

    Attributes:
        values: metric -> value of each query, in the order of the result's `query_ids`.
        mean_tokens: mean tokens of a sampled thought; None without.
        truncated_frac: fraction of thoughts without a sampled `<emb_token>`; None without.
        examples: the first queries: id, text and thought.
    """

    values: Mapping[str, list[float]]
    mean_tokens: float | None = None
    truncated_frac: float | None = None
    examples: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a result depends on; a result with equal provenance is not measured again.

    Attributes:
        settings: settings of the evaluation or of the timing.
        model: fingerprint of the weights, the run or the package.
        data: hash of the documents.
        qrels: hash of the queries' relevance labels.
    """

    settings: Mapping[str, Any]
    model: str
    data: str
    qrels: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one measurement of one system on one collection.

    Attributes:
        system: name in the plan.
        measurement: `controls`, `samples-K`, `budget-N` or `cost`.
        collection: name of the collection.
        split: split of the queries.
        provenance: what the result depends on.
        query_ids: ids of the scored queries; none for `cost`.
        rows: scores by row: a control, `run`, `samples-K` or `budget-N`.
        seconds: row or `document` -> seconds for one query or document.
        training_tokens: tokens read to train the weights, or None.
        facts: machine, versions, time.
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
    """The file of a result."""
    return folder / f"{system}.{measurement}.{Path(collection).name}-{split}.json"


def write_result(folder: Path, result: Result) -> Path:
    """Writes a result atomically, numbers to five digits, and returns its file."""
    key = (result.system, result.measurement, result.collection, result.split)
    file = file_of(folder, *key)
    content = _rounded({"format": FORMAT} | asdict(result))
    # Settings are compared with those of later runs, so they are not rounded.
    content["provenance"] = asdict(result.provenance)
    write_atomically(file, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    return file


def read_result(file: Path) -> Result:
    """Reads a result.

    Raises:
        DataError: malformed, of another format, or with scores that do not match its queries.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise DataError(f"{file} has another format than {FORMAT}", hint="measure it again")
        rows = {name: RowScores(**row) for name, row in content.pop("rows").items()}
        provenance = Provenance(**content.pop("provenance"))
        result = Result(provenance=provenance, rows=rows, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} is not a result: {error}", hint="remove it, and measure again"
        ) from error
    for name, row in result.rows.items():
        if any(len(row.values.get(key, ())) != len(result.query_ids) for key in METRICS):
            raise DataError(
                f"{file}: the row {name} does not have a score for each of its "
                f"{len(result.query_ids)} queries",
                hint="remove it, and measure again",
            )
    return result


def is_current(file: Path, provenance: Provenance) -> bool:
    """Whether the file holds a result with this provenance."""
    if not file.exists():
        return False
    return read_result(file).provenance == Provenance(**json.loads(json.dumps(asdict(provenance))))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return value
