"""All results of a split side by side: means, intervals and paired differences."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.experiment.results import MEASURES, Measured, RowScores, read_measured
from t1_jax.errors import DataError
from t1_jax.evaluate import Interval, PairedDifference, intervals, paired_difference

_Key = tuple[str, str, str]
"""System, row, collection."""


@dataclass(frozen=True)
class Collected:
    """What was measured on one split.

    Attributes:
        found: every measurement.
        curves: validation during training, by run.
    """

    found: tuple[Measured, ...]
    curves: Mapping[str, Any]

    @cached_property
    def rows(self) -> Mapping[_Key, RowScores]:
        """Every row that was measured."""
        return {
            (measured.system, name, measured.collection): row
            for measured in self.found
            for name, row in measured.rows.items()
        }

    @cached_property
    def query_ids(self) -> Mapping[str, list[str]]:
        """Collection -> its queries, the same ones in the same order for every row.

        Raises:
            DataError: two measurements cannot stand side by side: other queries, qrels,
                documents or settings, or of other weights of one system.
        """
        seen: dict[tuple[str, ...], tuple[Any, Measured]] = {}
        for measured in self.found:
            for what, value in _must_agree(measured):
                known, other = seen.setdefault((measured.collection, *what), (value, measured))
                if known != value:
                    raise DataError(
                        f"{measured.system} ({measured.measurement}) and {other.system} "
                        f"({other.measurement}) were measured with different {what[0]} on "
                        f"{measured.collection}",
                        hint="run python -m benchmarks.experiment.measure, or remove what is old",
                    )
        return {measured.collection: measured.query_ids for measured in self.found if measured.rows}

    @cached_property
    def _intervals(self) -> Mapping[tuple[_Key, str], Interval]:
        """Every mean with its interval; all of a collection share their resamples."""
        found: dict[tuple[_Key, str], Interval] = {}
        for collection in self.query_ids:
            keys = [
                (key, measure) for key in self.rows if key[2] == collection for measure in MEASURES
            ]
            values = np.stack([self._values(key, measure) for key, measure in keys], axis=1)
            found |= zip(keys, intervals(values), strict=True)
        return found

    def interval(
        self, system: str, row: str, collection: str, measure: str = MEASURES[0]
    ) -> Interval | None:
        """A mean with its interval; None where it was not measured."""
        return self._intervals.get(((system, row, collection), measure))

    def difference(
        self, first: tuple[str, str], second: tuple[str, str], collection: str, measure: str
    ) -> PairedDifference | None:
        """First minus second, each a system and a row; None where one was not measured."""
        keys = [(*first, collection), (*second, collection)]
        if collection not in self.query_ids or any(key not in self.rows for key in keys):
            return None
        return paired_difference(*(self._values(key, measure) for key in keys))

    def _values(self, key: _Key, measure: str) -> Float[np.ndarray, " B"]:
        return np.array(self.rows[key].values[measure], np.float64)

    def measured(self, system: str, measurement: str, collection: str) -> Measured | None:
        """One measurement; None where there is none."""
        for each in self.found:
            if (each.system, each.measurement, each.collection) == (
                system,
                measurement,
                collection,
            ):
                return each
        return None

    def training_tokens(self, system: str) -> int | None:
        """What the system's weights cost; None where that is not known."""
        known = [each.training_tokens for each in self.found if each.system == system]
        return next((tokens for tokens in known if tokens is not None), None)


_SETTINGS = ("query_tokens", "document_tokens", "dtype", "max_queries")
"""Those that all measurements share."""


def _must_agree(measured: Measured) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What must be the same in all measurements of a collection: its name, and the value here."""
    provenance = measured.provenance
    yield ("documents",), provenance.data
    yield ("qrels",), provenance.qrels
    yield ("weights", measured.system), provenance.model
    if measured.rows:
        yield ("queries",), measured.query_ids
    shared = (*_SETTINGS, "max_thought_tokens") if measured.measurement == "controls" else _SETTINGS
    for name in shared:
        if name in provenance.settings:
            yield (name,), provenance.settings[name]


def collect(folder: Path, split: str) -> Collected:
    """Reads all results of a split.

    Raises:
        DataError: a file that is not a measurement.
    """
    files = sorted(folder.glob(f"*-{split}.json"))
    curves = {}
    for file in sorted((folder / "curves").glob("*.json")):
        try:
            curves[file.stem] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{file} is not JSON: {error}", hint="measure again") from error
    return Collected(found=tuple(read_measured(file) for file in files), curves=curves)
