"""Search with FAISS: flat (exact), HNSW, or IVF with product quantization and refinement.

Files hold what FAISS trained, without the vectors: those are in `vectors.npy` already.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Int

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.retrieval.index.approximate import ApproximateIndex
from t1_jax.retrieval.index.embedding_table import EmbeddingTable
from t1_jax.retrieval.index.tuning import counts_up_to

_FILE = "index.faiss"
_FLAT_BELOW = 20_000
_CODES = 16
"""Codes of a block of dimensions: 4 bits each, which is what fast scan needs."""

_EF_CONSTRUCTION = 100
_MOST_EF = 1024
_CANDIDATES = (50, 100, 200, 400, 800)
_TRAINING_ROWS_PER_LIST = 64
_BLOCK = 1 << 15


@dataclass(frozen=True, kw_only=True)
class FaissSettings:
    """Settings of FAISS, and the recall it must reach.

    What is None is chosen when the index is built: `lists` and `dimensions_per_block` by the
    numbers of rows and dimensions, then `lists_to_search`, `ef_search` and `candidates` by
    measuring: the fastest that reach the recall on sample queries.

    Attributes:
        method: "flat" (exact), "hnsw" (a graph), "ivf_pq" (inverted lists, product quantization
            with fast scan, refinement), or "auto": flat below 20,000 rows, else ivf_pq.
        lists: inverted lists of ivf_pq.
        lists_to_search: lists searched per query (nprobe).
        dimensions_per_block: dimensions that share one of 16 codes; divides their number.
        candidates: number of rows per query whose quantized scores are replaced by exact ones; at
            least k.
        neighbors: links of each row in the graph of hnsw (M).
        ef_search: rows that a search of the graph keeps in view; at least k.
        minimum_recall: minimum recall@10 against exact search at build time, from 0 to 1.

    Raises:
        ConfigError: value out of range.
    """

    method: Literal["auto", "flat", "hnsw", "ivf_pq"] = "auto"
    lists: int | None = None
    lists_to_search: int | None = None
    dimensions_per_block: int | None = None
    candidates: int | None = None
    neighbors: int = 32
    ef_search: int | None = None
    minimum_recall: float = 0.95

    def __post_init__(self) -> None:
        if self.method not in ("auto", "flat", "hnsw", "ivf_pq"):
            raise ConfigError(f"faiss: unknown method {self.method!r}")
        for name in ("lists", "lists_to_search", "dimensions_per_block", "candidates", "ef_search"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ConfigError(f"faiss: {name} must be at least 1, got {count}")
        if self.neighbors < 2:
            raise ConfigError(f"faiss: neighbors must be at least 2, got {self.neighbors}")
        if not 0 <= self.minimum_recall <= 1:
            raise ConfigError(f"faiss: minimum_recall {self.minimum_recall} is not in [0, 1]")

    def resolved(self, n_rows: int, width: int) -> "FaissSettings":
        """The settings with all but what is measured chosen for `n_rows` rows.

        `width` is their number of dimensions.

        Raises:
            ConfigError: fewer rows than codes or lists, more lists to search than lists, or blocks
                that do not divide the dimensions.
        """
        method = self.method
        if method == "auto":
            method = "flat" if n_rows < _FLAT_BELOW else "ivf_pq"
        if method != "ivf_pq":
            return replace(self, method=method)
        if n_rows < _CODES:
            raise ConfigError(
                f"faiss: ivf_pq needs at least {_CODES} rows, there are {n_rows}",
                hint="use the method 'auto', 'flat' or 'hnsw'",
            )
        lists = self.lists or max(1, round(n_rows**0.5))
        if not (self.lists_to_search or 1) <= lists <= n_rows:
            raise ConfigError(
                f"faiss: {self.lists_to_search or 1} lists to search of {lists} lists over "
                f"{n_rows} rows; each number may not exceed the next"
            )
        block = self.dimensions_per_block or next(n for n in (2, 3, 5, 7, 1) if width % n == 0)
        if width % block:
            raise ConfigError(
                f"faiss: blocks of {block} dimensions do not divide {width} dimensions",
                hint="choose a divisor as dimensions_per_block",
            )
        return replace(self, method=method, lists=lists, dimensions_per_block=block)

    def layouts(self) -> Sequence["FaissSettings"]:
        """Resolved settings to train."""
        return [self]

    @property
    def is_cheap(self) -> bool:
        """Whether no other layout could be faster; there is only one."""
        return True

    def ladders(self) -> Sequence[Sequence["FaissSettings"]]:
        """Resolved settings to measure; recall and cost grow along each ladder."""
        if self.method == "flat":
            return [[self]]
        if self.method == "hnsw":
            efforts = [self.ef_search] if self.ef_search else counts_up_to(_MOST_EF, start=16)
            return [[replace(self, ef_search=effort) for effort in efforts]]
        assert self.lists is not None
        searched = [self.lists_to_search] if self.lists_to_search else counts_up_to(self.lists)
        return [
            [replace(self, lists_to_search=lists, candidates=candidates) for lists in searched]
            for candidates in ([self.candidates] if self.candidates else _CANDIDATES)
        ]


class FaissIndex(ApproximateIndex):
    """Search with FAISS, whose results are ranked by exact cosine similarity."""

    kind: ClassVar[str] = "faiss"
    name: ClassVar[str] = "FAISS"
    settings_type: ClassVar[type[Any]] = FaissSettings
    settings: FaissSettings

    def __init__(self, table: EmbeddingTable, trained: Any, *given: Any) -> None:
        """Use `build` or `load`; `trained` may lack its vectors, and is None for flat."""
        super().__init__(table, trained, *given)
        if self.settings.method == "hnsw" and trained.storage is not None:
            self._vectors = faiss_module().downcast_index(trained.storage)
        else:
            self._vectors = _flat_vectors(table)
        if self.settings.method == "hnsw":
            trained.storage, trained.own_fields = self._vectors, False
        self._refined = (
            faiss_module().IndexRefine(trained, self._vectors)
            if self.settings.method == "ivf_pq"
            else None
        )

    @staticmethod
    def train(table: EmbeddingTable, settings: FaissSettings) -> Any:
        """See `ApproximateIndex.train`; None for flat, which trains nothing."""
        faiss = faiss_module()
        if settings.method == "flat":
            return None
        if settings.method == "hnsw":
            index = faiss.IndexHNSWFlat(table.width, settings.neighbors, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = _EF_CONSTRUCTION
        else:
            assert settings.lists is not None
            assert settings.dimensions_per_block is not None
            index = faiss.IndexIVFPQFastScan(
                faiss.IndexFlatIP(table.width),
                table.width,
                settings.lists,
                table.width // settings.dimensions_per_block,
                4,
                faiss.METRIC_INNER_PRODUCT,
            )
            # FAISS warns of fewer training rows than it would like; recall is measured instead.
            index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
            index.cp.max_points_per_centroid = _TRAINING_ROWS_PER_LIST
            wanted = max(_TRAINING_ROWS_PER_LIST * settings.lists, 1 << 16)
            rows = np.random.default_rng(0).permutation(len(table.ids))[:wanted]
            index.train(table.take(np.sort(rows)))
        for start in range(0, len(table.ids), _BLOCK):
            index.add(np.ascontiguousarray(table.block(start, start + _BLOCK)))
        return index

    @staticmethod
    def read_trained(folder: Path, settings: FaissSettings) -> Any:
        """See `ApproximateIndex.read_trained`."""
        if settings.method == "flat":
            return None
        faiss = faiss_module()
        return faiss.read_index(str(folder / _FILE), faiss.IO_FLAG_SKIP_STORAGE)

    def write_trained(self, folder: Path) -> None:
        """See `ApproximateIndex.write_trained`."""
        if self._trained is not None:
            faiss = faiss_module()
            faiss.write_index(self._trained, str(folder / _FILE), faiss.IO_FLAG_SKIP_STORAGE)

    def propose(self, units: Float32[np.ndarray, "B E"], count: int) -> Int[np.ndarray, "B M"]:
        """See `ApproximateIndex.propose`."""
        faiss, settings = faiss_module(), self.settings
        if settings.method == "flat":
            return self._vectors.search(units, count)[1]
        if settings.method == "hnsw":
            effort = max(count, settings.ef_search or 1)
            parameters = faiss.SearchParametersHNSW(efSearch=effort)
            return self._trained.search(units, count, params=parameters)[1]
        assert self._refined is not None
        parameters = faiss.IndexRefineSearchParameters(
            k_factor=max(1.0, (settings.candidates or 1) / count),
            base_index_params=faiss.SearchParametersIVF(nprobe=settings.lists_to_search or 1),
        )
        return self._refined.search(units, count, params=parameters)[1]


def faiss_module() -> Any:
    """The module `faiss`.

    Raises:
        UnsupportedError: FAISS is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise UnsupportedError(
            "FAISS is not installed",
            hint="pip install 't1_jax[faiss]', or use the kind 'scann', 'jax' or 'numpy'",
        ) from error
    return faiss


def _flat_vectors(table: EmbeddingTable) -> Any:
    """The vectors as FAISS wants them, which copies them into memory."""
    flat = faiss_module().IndexFlatIP(table.width)
    for start in range(0, len(table.ids), _BLOCK):
        flat.add(np.ascontiguousarray(table.block(start, start + _BLOCK)))
    return flat
