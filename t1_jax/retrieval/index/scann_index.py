"""Approximate search with ScaNN: a tree of clusters, quantized scores, exact re-scoring.

ScaNN answers with candidates only: it knows no ids (with ids it would write a pickle), fills short
answers with row 0 and NaN, and its scores differ from numpy's in the last bits. So candidates are
cleaned and scored here, and a query whose candidates run short is answered exactly.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Float32, Int

from t1_jax.errors import ConfigError, IndexContractError, UnsupportedError
from t1_jax.retrieval.index.embedding_table import EmbeddingTable, RowLists
from t1_jax.retrieval.index.numpy_index import (
    empty_result,
    exact_ranks,
    exact_search,
    fill_result,
)
from t1_jax.retrieval.index.protocol import Index, SearchResult
from t1_jax.retrieval.index.store import CorruptIndexError, Manifest

_FOLDER = "scann"
_BRUTE_FORCE_BELOW = 20_000
_QUANTIZER_ROWS = 16
"""ScaNN's quantized scores have 16 centres, which it cannot train with fewer rows."""

_SAMPLE = 256


@dataclass(frozen=True, kw_only=True)
class ScannSettings:
    """How ScaNN searches, and how well it has to.

    Attributes:
        method: "tree" (clusters, then quantized scores), "brute_force", or "auto": brute force
            below 20,000 rows, where ScaNN's own guide advises it.
        leaves: clusters of the tree; None means the square root of the number of rows.
        leaves_to_search: clusters that a query visits; None means a fifth of them.
        candidates: rows that are scored exactly for each query; more where k asks for more.
        minimum_recall: share of the exact ten best that must be found at build, from 0 to 1. On
            clustered vectors a tree finds nearly all, on isotropic ones half.

    Raises:
        ConfigError: a value out of its range.
    """

    method: Literal["auto", "tree", "brute_force"] = "auto"
    leaves: int | None = None
    leaves_to_search: int | None = None
    candidates: int = 200
    minimum_recall: float = 0.95

    def __post_init__(self) -> None:
        if self.method not in ("auto", "tree", "brute_force"):
            raise ConfigError(f"scann: unknown method {self.method!r}")
        counts = (self.leaves, self.leaves_to_search, self.candidates)
        if any(count is not None and count < 1 for count in counts):
            raise ConfigError("scann: leaves, leaves_to_search and candidates must be at least 1")
        if not 0 <= self.minimum_recall <= 1:
            raise ConfigError(f"scann: minimum_recall {self.minimum_recall} is not in [0, 1]")

    def resolved(self, n_rows: int) -> "ScannSettings":
        """The same with nothing left open, for an index of `n_rows` rows.

        Raises:
            ConfigError: too few rows for a tree, more leaves than rows, or more leaves to search
                than leaves.
        """
        method = self.method
        if method == "auto":
            method = "brute_force" if n_rows < _BRUTE_FORCE_BELOW else "tree"
        if method == "tree" and n_rows < _QUANTIZER_ROWS:
            raise ConfigError(
                f"scann: a tree needs at least {_QUANTIZER_ROWS} rows, there are {n_rows}",
                hint="use the method 'auto' or 'brute_force'",
            )
        leaves = self.leaves or max(1, round(n_rows**0.5))
        searched = self.leaves_to_search or -(-leaves // 5)
        if not searched <= leaves <= n_rows:
            raise ConfigError(
                f"scann: {searched} leaves to search of {leaves} leaves over {n_rows} rows; "
                "each number may not exceed the next"
            )
        return replace(self, method=method, leaves=leaves, leaves_to_search=searched)


class ScannIndex(Index):
    """ScaNN's candidates in the exact order of their cosines."""

    kind: ClassVar[str] = "scann"

    def __init__(
        self, table: EmbeddingTable, searcher: Any, settings: ScannSettings, recall_at_10: float
    ) -> None:
        """Use `build` or `load`; `recall_at_10` is the share of the exact ten best it finds."""
        self.table = table
        self.settings = settings
        self.recall_at_10 = recall_at_10
        self._searcher = searcher

    @classmethod
    def build(
        cls,
        table: EmbeddingTable,
        settings: ScannSettings | None = None,
        *,
        sample_queries: Float[np.ndarray, "B E"] | None = None,
    ) -> "ScannIndex":
        """Trains ScaNN and measures what it finds; training is random, so recall varies a little.

        Args:
            table: ids and vectors.
            settings: see `ScannSettings`.
            sample_queries: vectors to measure recall with; without any, 256 of the documents' own.

        Raises:
            UnsupportedError: ScaNN is not installed here.
            IndexContractError: recall@10 lies below `settings.minimum_recall`.
        """
        settings = (settings or ScannSettings()).resolved(len(table.ids))
        searcher = _train(table.vectors, settings)
        if sample_queries is None:
            chosen = np.random.default_rng(0).permutation(len(table.ids))[:_SAMPLE]
            sample_queries = table.vectors[chosen]
        unmeasured = cls(table, searcher, settings, recall_at_10=math.nan)
        recall = _recall_at_10(unmeasured, sample_queries)
        if recall < settings.minimum_recall:
            raise IndexContractError(
                f"ScaNN finds {recall:.3f} of the exact ten best, below the minimum of "
                f"{settings.minimum_recall}",
                hint="search more leaves, raise candidates, or use the exact kind 'jax'",
            )
        return cls(table, searcher, settings, recall)

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, table: EmbeddingTable) -> "ScannIndex":
        """Restores what `save` wrote, from a folder that `read_index` has checked.

        Raises:
            UnsupportedError: ScaNN is not installed here.
            CorruptIndexError: ScaNN refuses its files.
        """
        ops = scann_ops()
        try:
            settings = ScannSettings(**manifest.settings)  # pyright: ignore[reportArgumentType]
            searcher = ops.load_searcher(str(folder / _FOLDER), assets_backcompat_shim=False)
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            raise CorruptIndexError(
                f"ScaNN cannot load {folder}: {error}", hint="index the collection again"
            ) from error
        return cls(table, searcher, settings, manifest.recall_at_10)

    def search(
        self,
        queries: Float[np.ndarray, "B E"],
        k: int,
        excluded: RowLists | None = None,
    ) -> SearchResult:
        """See `Index.search`."""
        units = self.table.checked_queries(queries)
        result = empty_result(len(units), k, len(self.ids))
        k = result.rows.shape[1]
        excluded_rows = self.table.checked_rows(excluded, len(units), "excluded")
        if not len(units):
            return result
        short = []
        for query, rows in enumerate(self._candidates(units, k + excluded_rows.shape[1])):
            named = np.unique(excluded_rows[query][excluded_rows[query] >= 0])
            rows = np.setdiff1d(rows, named)
            if len(rows) < min(k, len(self.ids) - len(named)):
                short.append(query)
                continue
            scores = self.vectors[rows] @ units[query]
            fill_result(result, query, scores, rows, self.table.tie_break_order)
        if short:
            exact = exact_search(
                self.table, units[short], k, [excluded_rows[query] for query in short]
            )
            result.scores[short], result.rows[short] = exact.scores, exact.rows
        return result

    def rank_of(
        self,
        queries: Float[np.ndarray, "B E"],
        rows: Int[np.ndarray, "B R"],
        excluded: RowLists | None = None,
    ) -> Int[np.ndarray, "B R"]:
        """See `Index.rank_of`; exact, so it costs a comparison with every row."""
        return exact_ranks(self.table, queries, rows, excluded)

    def _backend_files(self) -> dict[str, Any]:
        return {
            "recall_at_10": self.recall_at_10,
            "settings": asdict(self.settings),
            "write_more": self._write_searcher,
        }

    def _candidates(
        self, units: Float32[np.ndarray, "B E"], wanted: int
    ) -> list[Int[np.ndarray, "C"]]:
        """Distinct rows for each query, at least `wanted` where ScaNN reaches as many."""
        count = min(max(wanted, self.settings.candidates), len(self.ids))
        rows, scores = self._searcher.search_batched(
            units, final_num_neighbors=count, pre_reorder_num_neighbors=count
        )
        return [
            np.unique(found[~np.isnan(values)]).astype(np.int64)
            for found, values in zip(rows, scores, strict=True)
        ]

    def _write_searcher(self, folder: Path) -> None:
        (folder / _FOLDER).mkdir()
        self._searcher.serialize(str(folder / _FOLDER), relative_path=True)


def scann_ops() -> ModuleType:
    """ScaNN's Python module.

    Raises:
        UnsupportedError: it is not installed, or not built for this machine.
    """
    try:
        from scann import scann_ops_pybind
    except ImportError as error:
        raise UnsupportedError(
            "ScaNN is not installed, or not built for this machine",
            hint="pip install scann (Linux x86-64 or aarch64), or use the kind 'jax' or 'numpy'",
        ) from error
    return scann_ops_pybind


def _train(vectors: Float32[np.ndarray, "C E"], settings: ScannSettings) -> Any:
    builder = scann_ops().builder(np.ascontiguousarray(vectors), 10, "dot_product")
    if settings.method == "brute_force":
        return builder.score_brute_force().build()
    return (
        builder.tree(settings.leaves, settings.leaves_to_search)
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(settings.candidates)
        .build()
    )


def _recall_at_10(index: ScannIndex, queries: Float[np.ndarray, "B E"]) -> float:
    """The share of the exact ten best (or all, if fewer) that the index finds."""
    exact = exact_search(index.table, queries, 10).rows
    found = index.search(queries, 10).rows
    hits = [np.intersect1d(a[a >= 0], b).size for a, b in zip(exact, found, strict=True)]
    return sum(hits) / int(np.count_nonzero(exact >= 0))
