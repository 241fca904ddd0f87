"""All results of a split side by side: means, intervals and paired differences."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.experiment.results import METRICS, Result, RowScores, read_result
from t1_jax.errors import DataError
from t1_jax.evaluate import Interval, PairedDifference, intervals, paired_difference

_Key = tuple[str, str, str]
"""System, row, collection."""


@dataclass(frozen=True)
class Collected:
    """All results on one split.

    Attributes:
        results: one for each measurement.
        curves: validation curves by run.
    """

    results: tuple[Result, ...]
    curves: Mapping[str, Any]

    @cached_property
    def rows(self) -> Mapping[_Key, RowScores]:
        """All rows."""
        return {
            (result.system, name, result.collection): row
            for result in self.results
            for name, row in result.rows.items()
        }

    @cached_property
    def query_ids(self) -> Mapping[str, list[str]]:
        """Collection -> its query ids, in the order of every row's values.

        Raises:
            DataError: two results are not comparable: other queries, qrels, documents or settings,
                or other weights of one system.
        """
        seen: dict[tuple[str, ...], tuple[Any, Result]] = {}
        for result in self.results:
            for key, value in _shared_values(result):
                known, other = seen.setdefault((result.collection, *key), (value, result))
                if known != value:
                    raise DataError(
                        f"{result.system} ({result.measurement}) and {other.system} "
                        f"({other.measurement}) were measured with different {key[0]} on "
                        f"{result.collection}",
                        hint="run python -m benchmarks.experiment.measure, or remove old results",
                    )
        return {result.collection: result.query_ids for result in self.results if result.rows}

    @cached_property
    def _intervals(self) -> Mapping[tuple[_Key, str], Interval]:
        """Means and intervals; all of a collection share their resamples."""
        table: dict[tuple[_Key, str], Interval] = {}
        for collection in self.query_ids:
            keys = [
                (key, metric) for key in self.rows if key[2] == collection for metric in METRICS
            ]
            values = np.stack([self._values(key, metric) for key, metric in keys], axis=1)
            table |= zip(keys, intervals(values), strict=True)
        return table

    def interval(
        self, system: str, row: str, collection: str, metric: str = METRICS[0]
    ) -> Interval | None:
        """Mean and interval of a row; None if it was not measured."""
        return self._intervals.get(((system, row, collection), metric))

    def difference(
        self, first: tuple[str, str], second: tuple[str, str], collection: str, metric: str
    ) -> PairedDifference | None:
        """First minus second, each (system, row); None if one was not measured."""
        keys = [(*first, collection), (*second, collection)]
        if collection not in self.query_ids or any(key not in self.rows for key in keys):
            return None
        return paired_difference(*(self._values(key, metric) for key in keys))

    def _values(self, key: _Key, metric: str) -> Float[np.ndarray, " B"]:
        return np.array(self.rows[key].values[metric], np.float64)

    def result(self, system: str, measurement: str, collection: str) -> Result | None:
        """The result of one measurement, or None."""
        wanted = (system, measurement, collection)
        for result in self.results:
            if (result.system, result.measurement, result.collection) == wanted:
                return result
        return None

    def training_tokens(self, system: str) -> int | None:
        """Tokens read to train the system's weights; None if unknown."""
        known = [result.training_tokens for result in self.results if result.system == system]
        return next((tokens for tokens in known if tokens is not None), None)


_SETTINGS = ("query_tokens", "document_tokens", "dtype", "max_queries")
"""Settings that all results share."""


def _shared_values(result: Result) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Key and value of all that must be equal in all results on a collection."""
    provenance = result.provenance
    yield ("documents",), provenance.data
    yield ("qrels",), provenance.qrels
    yield ("weights", result.system), provenance.model
    if result.rows:
        yield ("queries",), result.query_ids
    shared = (*_SETTINGS, "max_thought_tokens") if result.measurement == "controls" else _SETTINGS
    for name in shared:
        if name in provenance.settings:
            yield (name,), provenance.settings[name]


def collect(folder: Path, split: str) -> Collected:
    """Reads all results of a split.

    Raises:
        DataError: a file that is not a result.
    """
    files = sorted(folder.glob(f"*-{split}.json"))
    curves = {}
    for file in sorted((folder / "curves").glob("*.json")):
        try:
            curves[file.stem] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{file} is not JSON: {error}", hint="measure again") from error
    return Collected(results=tuple(read_result(file) for file in files), curves=curves)
