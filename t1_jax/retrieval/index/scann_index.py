"""Approximate search with ScaNN: a tree of clusters, quantized scores, exact re-scoring.

ScaNN only proposes candidates. It gets no ids (it would store them in a pickle), pads short results
with row 0 and NaN, and its scores differ from NumPy's in the last bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Int

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.retrieval.index.approximate import ApproximateIndex
from t1_jax.retrieval.index.embedding_table import EmbeddingTable
from t1_jax.retrieval.index.tuning import counts_up_to

_BRUTE_FORCE_BELOW = 20_000
_QUANTIZER_ROWS = 16
"""ScaNN's asymmetric hashing trains 16 centers and needs at least as many rows."""

_CANDIDATES = (50, 100, 200, 400, 800)
_QUERIES_PER_THREAD = 128
_SOAR_LAMBDA = 1.5
_FEW_LEAVES = 0.1


@dataclass(frozen=True, kw_only=True)
class ScannSettings:
    """Settings of ScaNN, and the recall it must reach.

    What is None is chosen when the index is built: `leaves` by the number of rows, and
    `leaves_to_search` and `candidates` by measuring: the fastest that reach the recall on sample
    queries. Where that takes more than a tenth of the leaves, spilling is tried as well.

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
    dimensions_per_block: int = 2
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
        """The settings with what is not measured chosen for `n_rows` rows.

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
        )

    def layouts(self) -> Sequence["ScannSettings"]:
        """Resolved settings to train, the next only where the last one needs a costly search."""
        if self.method == "brute_force" or self.spilling is not None:
            return [self]
        return [replace(self, spilling=spilling) for spilling in (False, True)]

    @property
    def is_cheap(self) -> bool:
        """Whether few of the partitions are searched, so that spilling would not help."""
        searched = (self.leaves_to_search or 1) / (self.leaves or 1)
        return self.method == "brute_force" or searched <= _FEW_LEAVES

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
    name: ClassVar[str] = "ScaNN"
    settings_type: ClassVar[type[Any]] = ScannSettings
    settings: ScannSettings

    @staticmethod
    def train(table: EmbeddingTable, settings: ScannSettings) -> Any:
        """See `ApproximateIndex.train`."""
        builder = scann_ops().builder(
            np.ascontiguousarray(table.block(0, len(table.ids))), 10, "dot_product"
        )
        if settings.method == "brute_force":
            return builder.score_brute_force().build()
        # Random first centers would merge clusters, and recall would fall by up to a half.
        given = {"random_init": False}
        spilling = {"soar_lambda": _SOAR_LAMBDA} if settings.spilling else {}
        return (
            builder.tree(settings.leaves, settings.leaves_to_search or 1, **given, **spilling)
            .score_ah(settings.dimensions_per_block, anisotropic_quantization_threshold=0.2)
            .reorder(settings.candidates or _CANDIDATES[0])
            .build()
        )

    @staticmethod
    def read_trained(folder: Path, settings: ScannSettings) -> Any:
        """See `ApproximateIndex.read_trained`."""
        return scann_ops().load_searcher(str(folder), assets_backcompat_shim=False)

    def write_trained(self, folder: Path) -> None:
        """See `ApproximateIndex.write_trained`."""
        self._trained.serialize(str(folder), relative_path=True)

    def propose(self, units: Float32[np.ndarray, "B E"], count: int) -> Int[np.ndarray, "B M"]:
        """See `ApproximateIndex.propose`."""
        leaves = self.settings.leaves_to_search if self.settings.method == "tree" else None
        rows, scores = self._trained.search_batched_parallel(
            units,
            final_num_neighbors=count,
            pre_reorder_num_neighbors=max(count, self.settings.candidates or 1),
            leaves_to_search=leaves,
            batch_size=_QUERIES_PER_THREAD,
        )
        return np.where(np.isnan(scores), -1, rows.astype(np.int64))


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
