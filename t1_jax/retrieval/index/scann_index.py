"""Approximate search with ScaNN: a tree of clusters, quantized scores, exact re-scoring.

ScaNN only proposes candidates. It gets no ids (it would store them in a pickle), pads short results
with row 0 and NaN, and its scores differ from NumPy's in the last bits. So padding is removed and
candidates are scored here, and a query with too few candidates falls back to exact search.
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
from t1_jax.retrieval.index.numpy_index import NumpyIndex, empty_result, fill_result
from t1_jax.retrieval.index.protocol import SearchResult
from t1_jax.retrieval.index.store import CorruptIndexError, Manifest

_FOLDER = "scann"
_BRUTE_FORCE_BELOW = 20_000
_QUANTIZER_ROWS = 16
"""ScaNN's asymmetric hashing trains 16 centers and needs at least as many rows."""

_SAMPLE = 256


@dataclass(frozen=True, kw_only=True)
class ScannSettings:
    """Settings of ScaNN, and the recall it must reach.

    Attributes:
        method: "tree" (partitioning and quantized scores), "brute_force", or "auto": brute force
            below 20,000 rows, as ScaNN's guide advises.
        leaves: number of partitions; None means the square root of the number of rows.
        leaves_to_search: number of partitions searched per query; None means a fifth of them.
        candidates: number of rows scored exactly per query; at least k.
        minimum_recall: minimum recall@10 against exact search at build time, from 0 to 1. A tree
            reaches nearly 1 on clustered vectors and about 0.5 on isotropic ones.

    Raises:
        ConfigError: value out of range.
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
        """The settings with "auto" and None replaced, for an index of `n_rows` rows.

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


class ScannIndex(NumpyIndex):
    """Approximate search: ScaNN's candidates, ranked by exact cosine similarity.

    `rank_of` is exact, so its cost is that of exact search.
    """

    kind: ClassVar[str] = "scann"

    def __init__(
        self, table: EmbeddingTable, searcher: Any, settings: ScannSettings, recall_at_10: float
    ) -> None:
        """Use `build` or `load`; `recall_at_10` is recall@10 against exact search."""
        super().__init__(table)
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
        """Trains ScaNN and measures its recall; training is random, so recall varies slightly.

        Recall is measured with `sample_queries`, or with 256 documents.

        Raises:
            UnsupportedError: ScaNN is not installed.
            IndexContractError: recall@10 is below `settings.minimum_recall`.
        """
        settings = (settings or ScannSettings()).resolved(len(table.ids))
        searcher = _train(table.vectors, settings)
        if sample_queries is None:
            chosen = np.random.default_rng(0).permutation(len(table.ids))[:_SAMPLE]
            sample_queries = table.vectors[chosen]
        index = cls(table, searcher, settings, recall_at_10=math.nan)
        recall = _recall_at_10(index, sample_queries)
        if recall < settings.minimum_recall:
            raise IndexContractError(
                f"ScaNN reaches a recall@10 of {recall:.3f} against exact search, below the "
                f"minimum of {settings.minimum_recall}",
                hint="search more leaves, raise candidates, or use the exact kind 'jax'",
            )
        return cls(table, searcher, settings, recall)

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, table: EmbeddingTable) -> "ScannIndex":
        """Restores a saved index from a folder that `read_index` has checked.

        Raises:
            UnsupportedError: ScaNN is not installed.
            CorruptIndexError: ScaNN cannot read its files.
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
        self, queries: Float[np.ndarray, "B E"], k: int, excluded: RowLists | None = None
    ) -> SearchResult:
        """See `Index.search`."""
        units = self.table.normalize_queries(queries)
        result = empty_result(len(units), k, len(self.ids))
        k = result.rows.shape[1]
        excluded_rows = self.table.pad_row_lists(excluded, len(units), "excluded")
        if not len(units):
            return result
        short = []
        for query, rows in enumerate(self._candidates(units, k + excluded_rows.shape[1])):
            removed = np.unique(excluded_rows[query][excluded_rows[query] >= 0])
            rows = np.setdiff1d(rows, removed)
            if len(rows) < min(k, len(self.ids) - len(removed)):
                short.append(query)
                continue
            scores = self.vectors[rows] @ units[query]
            fill_result(result, query, scores, rows, self.table.tie_break_order)
        if short:
            exact = super().search(units[short], k, [excluded_rows[query] for query in short])
            result.scores[short], result.rows[short] = exact.scores, exact.rows
        return result

    def _backend_files(self) -> dict[str, Any]:
        return {
            "recall_at_10": self.recall_at_10,
            "settings": asdict(self.settings),
            "write_backend_files": self._write_searcher,
        }

    def _candidates(
        self, units: Float32[np.ndarray, "B E"], minimum: int
    ) -> list[Int[np.ndarray, "C"]]:
        """Distinct rows for each query, at least `minimum` if ScaNN finds as many."""
        count = min(max(minimum, self.settings.candidates), len(self.ids))
        rows, scores = self._searcher.search_batched(
            units, final_num_neighbors=count, pre_reorder_num_neighbors=count
        )
        return [
            np.unique(query_rows[~np.isnan(query_scores)]).astype(np.int64)
            for query_rows, query_scores in zip(rows, scores, strict=True)
        ]

    def _write_searcher(self, folder: Path) -> None:
        (folder / _FOLDER).mkdir()
        self._searcher.serialize(str(folder / _FOLDER), relative_path=True)


def scann_ops() -> ModuleType:
    """ScaNN's Python module.

    Raises:
        UnsupportedError: ScaNN is not installed, or has no build for this platform.
    """
    try:
        from scann import scann_ops_pybind
    except ImportError as error:
        raise UnsupportedError(
            "ScaNN is not installed",
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
    """Fraction of the exact top 10 (or of all rows, if fewer) that the index finds."""
    exact = NumpyIndex(index.table).search(queries, 10).rows
    approximate = index.search(queries, 10).rows
    hits = [np.intersect1d(a[a >= 0], b).size for a, b in zip(exact, approximate, strict=True)]
    return sum(hits) / int(np.count_nonzero(exact >= 0))
