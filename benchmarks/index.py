"""`python -m benchmarks index`: queries per second of every back end at equal recall."""

import argparse
import gc
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from t1_jax.files import write_atomically
from t1_jax.retrieval import (
    EmbeddingTable,
    FaissSettings,
    Index,
    ScannSettings,
    build_from_table,
    load_index,
    read_manifest,
)
from t1_jax.retrieval.index.faiss_index import FaissIndex
from t1_jax.retrieval.index.recall import RecallSample
from t1_jax.retrieval.index.scann_index import ScannIndex
from t1_jax.retrieval.index.tuning import choose_settings

EXACT = ("numpy", "jax")
APPROXIMATE: dict[str, ScannSettings | FaissSettings] = {
    "FAISS flat": FaissSettings(method="flat"),
    "FAISS HNSW": FaissSettings(method="hnsw"),
    "FAISS IVF-PQ fast scan, refined": FaissSettings(method="ivf_pq"),
    "ScaNN": ScannSettings(method="tree"),
}
COLUMNS = ("back end", "recall@10 asked", "recall@10", "queries/s", "settings", "build")
_ROUNDS = 5
_TUNING = 256
_PER_CLUSTER = 100
_SPREAD = 0.5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row of the table.

    Attributes:
        name: of the back end.
        asked: recall@10 that the settings were chosen for; 1 for exact search.
        recall_at_10: on queries that the settings were not chosen with.
        queries_per_second: of the fastest round.
        settings: those of searches.
        build_seconds: training, without choosing settings.
    """

    name: str
    asked: float
    recall_at_10: float
    queries_per_second: float
    settings: str
    build_seconds: float


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `--help`."""
    given = _parse(arguments)
    console = Console(stderr=True)
    vectors, queries = _vectors(given)
    table = EmbeddingTable(ids=tuple(map(str, range(len(vectors)))), stored=vectors)
    tuning = RecallSample(table, queries[:_TUNING])
    fresh = RecallSample(table, queries[_TUNING:])
    console.print(f"{len(vectors):,} x {vectors.shape[1]}, {len(fresh.units)} queries")
    rows = []
    for row in _measure(table, tuning, fresh, given.recall, given.only.split(",")):
        rows.append(row)
        console.print(_cells(row))
        write_atomically(
            given.output / "index.json", json.dumps([asdict(x) for x in rows], indent=1)
        )
        write_atomically(given.output / "index.md", _markdown(rows))
    print(given.output / "index.md")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks index", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="clustered vectors")
    parser.add_argument("--width", type=int, default=576, help="their dimensions")
    parser.add_argument(
        "--vectors", type=Path, help="real embeddings instead: a folder that `t1 encode` wrote"
    )
    parser.add_argument(
        "--queries",
        type=Path,
        help="embeddings of queries, by `t1 encode --side query`; default: documents held out",
    )
    parser.add_argument("--recall", type=float, nargs="+", default=[0.95, 0.99])
    parser.add_argument(
        "--only", default="", help="only back ends whose name contains one of these"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/bench-index"))
    return parser.parse_args(arguments)


def _vectors(given: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Documents and queries: a tenth of the queries, at most 1,256, are documents held out."""
    if given.vectors is None:
        vectors = clustered(given.rows + 1256, given.width)
    else:
        vectors = load_index(given.vectors, read_manifest(given.vectors).fingerprint).vectors
    if given.queries is not None:
        queries = load_index(given.queries, read_manifest(given.queries).fingerprint).vectors
        return np.asarray(vectors), np.asarray(queries)
    order = np.random.default_rng(0).permutation(len(vectors))
    held_out, kept = np.split(order, [min(1256, len(order) // 10)])
    return np.asarray(vectors[np.sort(kept)]), np.asarray(vectors[held_out])


def clustered(rows: int, width: int) -> np.ndarray:
    """Unit vectors around random centers, about a hundred around each."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((max(1, rows // _PER_CLUSTER), width), dtype=np.float32)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    vectors = np.empty((rows, width), np.float32)
    for start in range(0, rows, 1 << 15):
        block = vectors[start : start + (1 << 15)]
        noise = rng.standard_normal(block.shape, dtype=np.float32) * (_SPREAD / width**0.5)
        block[:] = centers[rng.integers(0, len(centers), len(block))] + noise
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def _measure(
    table: EmbeddingTable,
    tuning: RecallSample,
    fresh: RecallSample,
    recalls: list[float],
    selected: list[str],
) -> Iterator[Measured]:
    for kind in EXACT:
        if any(part in kind for part in selected):
            index, seconds = _built(kind, table)
            yield _timed(kind, 1.0, index, fresh, "", seconds)
            del index
            gc.collect()
    for name, settings in APPROXIMATE.items():
        if not any(part in name for part in selected):
            continue
        resolved: Any = settings.resolved(len(table.ids), table.width)
        layout = resolved.layouts()[0]
        back_end = ScannIndex if isinstance(settings, ScannSettings) else FaissIndex
        start = time.perf_counter()
        index = back_end(table, back_end.train(table, layout), layout)
        seconds = time.perf_counter() - start
        for recall in recalls if len(layout.ladders()[0]) > 1 else [1.0]:
            wanted = replace(layout, minimum_recall=min(recall, 1.0))
            choose_settings(index, wanted.ladders(), tuning, recall)
            yield _timed(name, recall, index, fresh, _search_settings(index), seconds)
        del index
        gc.collect()


def _built(kind: str, table: EmbeddingTable) -> tuple[Index, float]:
    start = time.perf_counter()
    index = build_from_table(kind, table)
    return index, time.perf_counter() - start


def _search_settings(index: Any) -> str:
    names = ("leaves", "lists", "leaves_to_search", "lists_to_search", "ef_search", "candidates")
    values = {name: getattr(index.settings, name, None) for name in names}
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _timed(
    name: str, asked: float, index: Any, fresh: RecallSample, settings: str, build: float
) -> Measured:
    return Measured(
        name=name,
        asked=asked,
        recall_at_10=fresh.recall_at_10(index),  # also warms up
        queries_per_second=fresh.queries_per_second(index, _ROUNDS),
        settings=settings,
        build_seconds=build,
    )


def _cells(row: Measured) -> list[str]:
    return [
        row.name,
        f"{row.asked:g}",
        f"{row.recall_at_10:.3f}",
        f"{row.queries_per_second:,.0f}",
        row.settings,
        f"{row.build_seconds:.0f} s",
    ]


def _markdown(rows: list[Measured]) -> str:
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(_cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
