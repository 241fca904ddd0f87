"""What approximate back ends share: exact scores for their candidates, and measured recall.

A back end only proposes candidates. They are scored here, so that scores, ties and exclusions are
those of exact search. A query with too few candidates is answered by exact search.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int

from t1_jax.retrieval.index.embedding_table import EmbeddingTable, RowLists
from t1_jax.retrieval.index.numpy_index import NumpyIndex
from t1_jax.retrieval.index.protocol import SearchResult
from t1_jax.retrieval.index.recall import SCORE_TOLERANCE, RecallSample
from t1_jax.retrieval.index.store import CorruptIndexError, Manifest
from t1_jax.retrieval.index.top_k import TopK
from t1_jax.retrieval.index.tuning import Trial, best_trial, check_recall, choose_settings

_MARGIN = 16
"""Candidates beyond k: a back end's scores differ from ours in the last bits."""

_BLOCK_BYTES = 1 << 26


class ApproximateIndex(NumpyIndex):
    """Approximate search over an exact table; `rank_of` is exact, at the cost of exact search.

    Attributes:
        settings: of the back end; those of searches may change between searches.
        recall_at_10: see `RecallSample.recall_at_10`.
        measured: with what recall was measured, and queries per second, for the manifest.
    """

    settings_type: ClassVar[type[Any]]
    name: ClassVar[str]

    def __init__(
        self,
        table: EmbeddingTable,
        trained: Any,
        settings: Any,
        recall_at_10: float = 0.0,
        measured: Mapping[str, Any] | None = None,
    ) -> None:
        """Use `build` or `load`; `trained` is an object of the back end."""
        super().__init__(table)
        self.settings = settings
        self.recall_at_10 = recall_at_10
        self.measured = dict(measured or {})
        self._trained = trained

    @classmethod
    def build(
        cls,
        table: EmbeddingTable,
        settings: Any = None,
        *,
        sample_queries: Float[np.ndarray, "B E"] | None = None,
        reject_low_recall: bool = True,
    ) -> "ApproximateIndex":
        """Trains the back end, and chooses the settings of searches by measuring.

        Training is random and speed varies, so settings and recall may vary slightly.

        Args:
            table: ids and vectors.
            settings: of the back end; None means its defaults.
            sample_queries: queries that recall is measured with; None means documents, see
                `RecallSample`.
            reject_low_recall: whether a recall below the minimum of the settings is an error. If it
                is not, the settings with the highest recall are taken.

        Raises:
            ConfigError: the settings do not fit the table.
            UnsupportedError: the back end is not installed.
            IndexContractError: no settings reach the minimum.
        """
        settings = (settings or cls.settings_type()).resolved(len(table.ids), table.width)
        sample = RecallSample(table, sample_queries)
        minimum = settings.minimum_recall
        tried: list[tuple[Trial[Any], ApproximateIndex]] = []
        for layout in settings.layouts():
            index = cls(table, cls.train(table, layout), layout)
            trial = choose_settings(index, layout.ladders(), sample, minimum)
            tried.append((trial, index))
            if trial.recall_at_10 >= minimum and trial.settings.is_cheap:
                break
        trial = best_trial([trial for trial, _ in tried], minimum)
        index = next(index for each, index in tried if each is trial)
        if reject_low_recall:
            check_recall(cls.name, trial, minimum)
        index.recall_at_10 = trial.recall_at_10
        index.measured = {
            "recall_with": sample.source,
            "queries_per_second": round(trial.queries_per_second),
        }
        return index

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, table: EmbeddingTable) -> "ApproximateIndex":
        """Restores a saved index from a folder that `read_index` has checked.

        Raises:
            UnsupportedError: the back end is not installed.
            CorruptIndexError: it cannot read its files.
        """
        try:
            settings = cls.settings_type(**manifest.settings)
            trained = cls.read_trained(folder / cls.kind, settings)
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            raise CorruptIndexError(
                f"{cls.name} cannot load {folder}: {error}", hint="index the collection again"
            ) from error
        return cls(table, trained, settings, manifest.recall_at_10, manifest.measured)

    @staticmethod
    @abstractmethod
    def train(table: EmbeddingTable, settings: Any) -> Any:
        """What the back end makes of the vectors; UnsupportedError if it is not installed."""

    @staticmethod
    @abstractmethod
    def read_trained(folder: Path, settings: Any) -> Any:
        """Reads what `write_trained` wrote."""

    @abstractmethod
    def write_trained(self, folder: Path) -> None:
        """Writes what was trained to an empty folder."""

    @abstractmethod
    def propose(self, units: Float32[np.ndarray, "B E"], count: int) -> Int[np.ndarray, "B M"]:
        """The rows that a back end finds nearest to each query, −1 beyond the last.

        Args:
            units: normalized queries, at least one.
            count: rows that are wanted; M may be smaller or larger.
        """

    def search(
        self, queries: Float[np.ndarray, "B E"], k: int, excluded: RowLists | None = None
    ) -> SearchResult:
        """See `Index.search`."""
        units = self.table.normalize_queries(queries)
        excluded_rows = self.table.pad_row_lists(excluded, len(units), "excluded")
        best = TopK(len(units), k, self.table.tie_break_order)
        if not len(units):
            return SearchResult(scores=best.scores, rows=best.rows)
        wanted = best.rows.shape[1] + excluded_rows.shape[1] + _MARGIN
        proposed = self.propose(units, min(wanted, len(self.ids)))
        unsettled = np.zeros(len(units), bool)
        size = max(1, _BLOCK_BYTES // (4 * self.table.width * proposed.shape[1]))
        for start in range(0, len(units), size):
            block = slice(start, start + size)
            scores = self._exact_scores(units[block], proposed[block])
            lowest = np.where(proposed[block] >= 0, scores, np.inf).min(axis=1, initial=np.inf)
            for query in np.flatnonzero((excluded_rows[block] >= 0).any(axis=1)):
                is_excluded = np.isin(proposed[start + query], excluded_rows[start + query])
                scores[query, is_excluded] = -np.inf
            best.add_candidates(start, scores, proposed[block])
            # Rows that were not proposed may be as good as the last one of the result.
            unsettled[block] = lowest >= best.scores[block, -1] - SCORE_TOLERANCE
        removed = np.zeros(len(units), np.int64)
        for query in np.flatnonzero((excluded_rows >= 0).any(axis=1)):
            removed[query] = len(np.setdiff1d(excluded_rows[query], [-1]))
        available = np.minimum(best.rows.shape[1], len(self.ids) - removed)
        unsettled &= (proposed >= 0).sum(axis=1) < len(self.ids)
        unsettled |= (best.rows >= 0).sum(axis=1) < available
        again = np.flatnonzero(unsettled)
        if len(again):
            exact = super().search(units[again], k, [row[row >= 0] for row in excluded_rows[again]])
            best.scores[again], best.rows[again] = exact.scores, exact.rows
        return SearchResult(scores=best.scores, rows=best.rows)

    def _backend_files(self) -> dict[str, Any]:
        return {
            "recall_at_10": self.recall_at_10,
            "measured": self.measured,
            "settings": asdict(self.settings),
            "write_backend_files": self._write_backend_files,
        }

    def _write_backend_files(self, folder: Path) -> None:
        (folder / self.kind).mkdir()
        self.write_trained(folder / self.kind)

    def _exact_scores(
        self, units: Float32[np.ndarray, "b E"], rows: Int[np.ndarray, "b M"]
    ) -> Float32[np.ndarray, "b M"]:
        """Cosines with the given rows; −inf for −1 and for a row that was listed before."""
        vectors = self.table.take(rows.ravel()).reshape(*rows.shape, -1)
        scores = np.matmul(vectors, units[:, :, None])[:, :, 0]
        in_order = np.argsort(rows, axis=1, kind="stable")
        ordered = np.take_along_axis(rows, in_order, axis=1)
        repeated = np.zeros(rows.shape, bool)
        np.put_along_axis(repeated, in_order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        return np.where((rows < 0) | repeated, -np.inf, scores)
