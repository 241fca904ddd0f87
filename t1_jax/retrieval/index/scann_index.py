"""Approximate search with ScaNN: a tree of clusters, quantized scores, exact re-scoring.

ScaNN only proposes candidates. It gets no ids (it would store them in a pickle), pads short results
with row 0 and NaN, and its scores differ from NumPy's in the last bits.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Float32, Int

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.retrieval.index.approximate import ApproximateIndex, RecallSample
from t1_jax.retrieval.index.embedding_table import EmbeddingTable
from t1_jax.retrieval.index.store import CorruptIndexError, Manifest
from t1_jax.retrieval.index.tuning import check_recall, choose_settings, counts_up_to

_FOLDER = "scann"
_BRUTE_FORCE_BELOW = 20_000
_QUANTIZER_ROWS = 16
"""ScaNN's asymmetric hashing trains 16 centers and needs at least as many rows."""

_CANDIDATES = (50, 100, 200, 400, 800)
_QUERIES_PER_THREAD = 128
_SOAR_LAMBDA = 1.5


@dataclass(frozen=True, kw_only=True)
class ScannSettings:
    """Settings of ScaNN, and the recall it must reach.

    What is None is chosen when the index is built: `leaves`, `dimensions_per_block` and `spilling`
    by the numbers of rows and dimensions, then `leaves_to_search` and `candidates` by measuring:
    the fastest that reach the recall on sample queries.

    Attributes:
        method: "tree" (partitioning and quantized scores), "brute_force", or "auto": brute force
            below 20,000 rows, as ScaNN's guide advises.
        leaves: number of partitions.
        leaves_to_search: number of partitions searched per query.
        dimensions_per_block: dimensions that share one of 16 codes of the quantized scores.
        spilling: whether each row lies in two partitions (SOAR, arXiv:2404.00774).
        candidates: number of rows per query whose quantized scores are replaced by exact ones; at
            least k.
        minimum_recall: minimum recall@10 against exact search at build time, from 0 to 1.

    Raises:
        ConfigError: value out of range.
    """

    method: Literal["auto", "tree", "brute_force"] = "auto"
    leaves: int | None = None
    leaves_to_search: int | None = None
    dimensions_per_block: int | None = None
    spilling: bool | None = None
    candidates: int | None = None
    minimum_recall: float = 0.95

    def __post_init__(self) -> None:
        if self.method not in ("auto", "tree", "brute_force"):
            raise ConfigError(f"scann: unknown method {self.method!r}")
        for name in ("leaves", "leaves_to_search", "dimensions_per_block", "candidates"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ConfigError(f"scann: {name} must be at least 1, got {count}")
        if not 0 <= self.minimum_recall <= 1:
            raise ConfigError(f"scann: minimum_recall {self.minimum_recall} is not in [0, 1]")

    def resolved(self, n_rows: int, width: int = 2) -> "ScannSettings":
        """The settings with all but `leaves_to_search` and `candidates` chosen for `n_rows` rows.

        `width` is their number of dimensions.

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
        if not (self.leaves_to_search or 1) <= leaves <= n_rows:
            raise ConfigError(
                f"scann: {self.leaves_to_search or 1} leaves to search of {leaves} leaves over "
                f"{n_rows} rows; each number may not exceed the next"
            )
        return replace(
            self,
            method=method,
            leaves=leaves,
            dimensions_per_block=self.dimensions_per_block or 2,
            spilling=bool(self.spilling),
        )

    def ladders(self) -> Sequence[Sequence["ScannSettings"]]:
        """Resolved settings to measure; recall and cost grow along each ladder."""
        if self.method == "brute_force":
            return [[self]]
        assert self.leaves is not None
        searched = [self.leaves_to_search] if self.leaves_to_search else counts_up_to(self.leaves)
        return [
            [replace(self, leaves_to_search=leaves, candidates=candidates) for leaves in searched]
            for candidates in ([self.candidates] if self.candidates else _CANDIDATES)
        ]


class ScannIndex(ApproximateIndex):
    """Approximate search: ScaNN's candidates, ranked by exact cosine similarity."""

    kind: ClassVar[str] = "scann"
    settings: ScannSettings

    def __init__(
        self,
        table: EmbeddingTable,
        searcher: Any,
        settings: ScannSettings,
        recall_at_10: float,
        measured: dict[str, Any],
    ) -> None:
        """Use `build` or `load`."""
        super().__init__(table)
        self.settings = settings
        self.recall_at_10 = recall_at_10
        self.measured = measured
        self._searcher = searcher

    @classmethod
    def build(
        cls,
        table: EmbeddingTable,
        settings: ScannSettings | None = None,
        *,
        sample_queries: Float[np.ndarray, "B E"] | None = None,
        reject_low_recall: bool = True,
    ) -> "ScannIndex":
        """Trains ScaNN and chooses settings by measuring; training is random.

        Recall is measured with `sample_queries`, or with documents, see `RecallSample`. Without
        `reject_low_recall` the settings with the highest recall do where none reaches the minimum.

        Raises:
            UnsupportedError: ScaNN is not installed.
            IndexContractError: no settings reach a recall@10 of `settings.minimum_recall`.
        """
        settings = (settings or ScannSettings()).resolved(len(table.ids))
        index = cls(table, _train(table.vectors, settings), settings, 0.0, {})
        sample = RecallSample(table, sample_queries)
        trial = choose_settings(index, settings.ladders(), sample, settings.minimum_recall)
        if reject_low_recall:
            check_recall("ScaNN", trial, settings.minimum_recall)
        index.recall_at_10 = trial.recall_at_10
        index.measured = {
            "recall_with": sample.source,
            "queries_per_second": round(trial.queries_per_second),
        }
        return index

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
        return cls(table, searcher, settings, manifest.recall_at_10, dict(manifest.measured))

    def propose(self, units: Float32[np.ndarray, "B E"], count: int) -> Int[np.ndarray, "B M"]:
        """See `ApproximateIndex.propose`."""
        rows, scores = self._searcher.search_batched_parallel(
            units,
            final_num_neighbors=count,
            pre_reorder_num_neighbors=max(count, self.settings.candidates or 1),
            leaves_to_search=self.settings.leaves_to_search,
            batch_size=_QUERIES_PER_THREAD,
        )
        return np.where(np.isnan(scores), -1, rows.astype(np.int64))

    def _backend_files(self) -> dict[str, Any]:
        return {
            "recall_at_10": self.recall_at_10,
            "measured": self.measured,
            "settings": asdict(self.settings),
            "write_backend_files": self._write_searcher,
        }

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
    spilling = {"soar_lambda": _SOAR_LAMBDA} if settings.spilling else {}
    return (
        builder.tree(settings.leaves, settings.leaves_to_search or 1, **spilling)
        .score_ah(settings.dimensions_per_block, anisotropic_quantization_threshold=0.2)
        .reorder(settings.candidates or _CANDIDATES[0])
        .build()
    )
