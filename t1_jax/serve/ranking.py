"""Ranks the documents of an index for query embeddings that are known already."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from t1_jax.retrieval import (
    BM25,
    Document,
    Hit,
    Index,
    Query,
    Ranking,
    Run,
    best_sentence,
    fuse_runs,
)
from t1_jax.retrieval import Fusion as RankFusion
from t1_jax.retriever import CandidateTitles, Verification, nearest_candidates

Fusion = Literal["mean", "rank"]

_DEPTH = 100
"""Documents of each ranking that a fusion is made of, at least."""
_QUERY = "query"


@dataclass(frozen=True, kw_only=True)
class DocumentFilter:
    """Which documents may be found; an empty field filters nothing.

    Attributes:
        ids: only these.
        exclude: not these.
        path: only documents of files whose path matches this pattern, as in `guides/*.md`.
    """

    ids: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    path: str | None = None

    def allows(self, name: str, document: Document | None) -> bool:
        """Whether a document passes."""
        if name in self.exclude or (self.ids and name not in self.ids):
            return False
        if self.path is None:
            return True
        if document is None or document.location is None:
            return False
        return fnmatchcase(document.location.path.as_posix(), self.path)

    @property
    def is_empty(self) -> bool:
        """Whether it lets every document pass."""
        return not self.ids and not self.exclude and self.path is None


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How queries are searched for; see `schemas.SearchRequest`.

    Attributes:
        k: documents per query.
        ranking: `dense` needs no texts; the others need BM25.
        fusion: how several thoughts become one ranking: `mean` of the vectors, or reciprocal `rank`
            fusion.
        verification: how dense rankings are verified; None if they are not.
        excluded: rows of the index that must not be found.
        deadline: time of `time.monotonic` at which the request must end.
    """

    k: int
    ranking: Ranking
    fusion: Fusion
    verification: Verification | None
    excluded: Sequence[int]
    deadline: float

    @property
    def depth(self) -> int:
        """Documents of each ranking, before fusion and verification."""
        return max(self.k, _DEPTH, 0 if self.verification is None else self.verification.k)


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """What was found for one query, each ranking best first.

    Attributes:
        bm25: document id -> score; empty if the ranking is `dense`.
        dense: document id -> cosine, or reciprocal rank score of several vectors; empty if the
            ranking is `bm25`.
        has_cosines: whether `dense` has cosines.
    """

    bm25: Mapping[str, float]
    dense: Mapping[str, float]
    has_cosines: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """What is searched.

    Attributes:
        name: for people.
        index: embeddings.
        documents: texts by id; empty for an index of vectors only.
        bm25: over the same documents; None where there are no texts.
        hybrid_by_default: whether a request that does not say gets a hybrid ranking.
        examples: queries that a page may offer.
        manifest: file that changes when the index is written again; None for one in memory.
    """

    name: str
    index: Index
    documents: Mapping[str, Document] = field(default_factory=dict)
    bm25: BM25 | None = None
    hybrid_by_default: bool = False
    examples: Sequence[str] = ()
    manifest: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_state", _state_of(self.manifest))

    @property
    def changed_on_disk(self) -> bool:
        """Whether the files of the index are others than those that were read.

        The index that was read is in use until the server starts again.
        """
        return _state_of(self.manifest) != self.__dict__["_state"]

    @property
    def default_ranking(self) -> Ranking:
        """The ranking of a request that does not ask for one."""
        return "hybrid" if self.hybrid_by_default and self.bm25 is not None else "dense"

    def excluded(self, only: DocumentFilter) -> list[int]:
        """Rows of the index that a filter keeps out."""
        if only.is_empty:
            return []
        return [
            row
            for row, name in enumerate(self.index.ids)
            if not only.allows(name, self.documents.get(name))
        ]

    def retrieve(
        self,
        queries: Sequence[str],
        vectors: Sequence[Float[np.ndarray, "_ D"]],
        options: SearchOptions,
    ) -> list[Rankings]:
        """The nearest documents of each query.

        Args:
            queries: for BM25.
            vectors: of each query; the rankings of several vectors are fused by reciprocal ranks.
            options: which rankings, their depth, and rows that must not be found.
        """
        names = [str(i) for i in range(len(queries))]
        depth, excluded = options.depth, options.excluded
        lexical: Run = {name: {} for name in names}
        dense: Run = {name: {} for name in names}
        if options.ranking != "dense":
            assert self.bm25 is not None
            hidden = {self.index.ids[row] for row in excluded}
            asked = [Query(id=name, text=text) for name, text in zip(names, queries, strict=True)]
            lexical = self.bm25.search(asked, depth, dict.fromkeys(names, hidden))
        if options.ranking != "bm25":
            table = np.concatenate(list(vectors))
            found = self.index.search(table, depth, [excluded] * len(table))
            runs = iter(found.to_run([str(i) for i in range(len(table))], self.index.ids).values())
            dense = {
                name: _fused(list(itertools.islice(runs, len(group))), depth)
                for name, group in zip(names, vectors, strict=True)
            }
        return [
            Rankings(bm25=lexical[name], dense=dense[name], has_cosines=len(group) == 1)
            for name, group in zip(names, vectors, strict=True)
        ]

    def hits(
        self,
        query: str,
        found: Rankings,
        options: SearchOptions,
        *,
        verified: Mapping[str, float] | None = None,
        thoughts: Sequence[str] = (),
    ) -> list[Hit]:
        """The best documents for a query, best first.

        Args:
            query: for the sentence that is shown.
            found: what `retrieve` found.
            options: how many documents, and which ranking.
            verified: `found.dense` after verification; None without one.
            thoughts: texts that the shown sentence should match too.
        """
        dense = found.dense if verified is None else verified
        if options.ranking == "hybrid":
            runs = [{_QUERY: dict(found.bm25)}, {_QUERY: dict(dense)}]
            scores = fuse_runs(runs, options.k)[_QUERY]
        else:
            ranking = found.bm25 if options.ranking == "bm25" else dense
            scores = dict(itertools.islice(ranking.items(), options.k))
        return [
            Hit(
                id=name,
                score=score,
                bm25=found.bm25.get(name),
                cosine=found.dense.get(name) if found.has_cosines else None,
                document=(document := self.documents.get(name)),
                snippet=document and best_sentence(document, query, thoughts),
            )
            for name, score in scores.items()
        ]

    def candidates(
        self,
        titles: CandidateTitles,
        vectors: Float[np.ndarray, "B D"],
        k: int,
        excluded: Sequence[int],
    ) -> list[list[str]]:
        """Titles of the nearest documents of each vector that may be found, best first.

        Raises: as `nearest_candidates`.
        """
        return nearest_candidates(titles, self.index, vectors, k, [excluded] * len(vectors))


def _fused(runs: Sequence[dict[str, float]], depth: int) -> dict[str, float]:
    """One ranking of those of the thoughts about a query."""
    if len(runs) == 1:
        return runs[0]
    return fuse_runs([{_QUERY: run} for run in runs], depth, RankFusion(method="rrf"))[_QUERY]


def _state_of(manifest: Path | None) -> tuple[int, int] | None:
    """Inode and time of change, or None where there is no file."""
    if manifest is None or not manifest.exists():
        return None
    stat = manifest.stat()
    return stat.st_ino, stat.st_mtime_ns
