"""Ranks the documents of an index for query embeddings that are known already."""

from collections.abc import Callable, Mapping, Sequence
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
    best_sentence,
    fuse_runs,
)
from t1_jax.retrieval import Fusion as RankFusion
from t1_jax.retriever import CandidateTitles, nearest_candidates

Fusion = Literal["mean", "rank"]

_DEPTH = 100

Verify = Callable[[Mapping[str, float]], dict[str, float]]
"""Document id -> cosine, reordered: document id -> score, best first."""
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

    def search(
        self,
        query: str,
        vectors: Float[np.ndarray, "G D"],
        k: int,
        *,
        ranking: Ranking,
        fusion: Fusion = "mean",
        only: DocumentFilter | None = None,
        thoughts: Sequence[str] = (),
        verify: Verify | None = None,
    ) -> list[Hit]:
        """The top `k` documents, best first.

        Args:
            query: for BM25 and for the sentence that is shown.
            vectors: one for `fusion="mean"`; one of each thought for `fusion="rank"`.
            k: number of documents.
            ranking: `dense` needs no texts; the others need `bm25`.
            fusion: how several vectors become one ranking: `rank` is reciprocal rank fusion.
            only: which documents may be found.
            thoughts: texts that the shown sentence should match too.
            verify: reorders the documents that one vector finds, before any fusion.
        """
        excluded = self._excluded(only)
        depth = max(k, _DEPTH)
        lexical: dict[str, float] = {}
        dense: dict[str, float] = {}
        if ranking != "dense":
            assert self.bm25 is not None
            names = {_QUERY: {self.index.ids[row] for row in excluded}}
            lexical = self.bm25.search([Query(id=_QUERY, text=query)], depth, names)[_QUERY]
        if ranking != "bm25":
            rows = [excluded for _ in vectors]
            found = self.index.search(vectors, depth, rows)
            runs = found.to_run([str(i) for i in range(len(vectors))], self.index.ids)
            by_thought = [{_QUERY: run} for run in runs.values()]
            dense = by_thought[0][_QUERY]
            if len(by_thought) > 1:
                dense = fuse_runs(by_thought, depth, RankFusion(method="rrf"))[_QUERY]
        ordered = dense if verify is None else verify(dense)
        if ranking == "hybrid":
            scores = fuse_runs([{_QUERY: lexical}, {_QUERY: ordered}], k)[_QUERY]
        else:
            scores = dict(list((lexical if ranking == "bm25" else ordered).items())[:k])
        return [
            Hit(
                id=name,
                score=score,
                bm25=lexical.get(name),
                cosine=dense.get(name) if len(vectors) == 1 else None,
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
        only: DocumentFilter,
    ) -> list[list[str]]:
        """Titles of the nearest documents of each vector that may be found, best first.

        Raises: as `nearest_candidates`.
        """
        excluded = [self._excluded(only)] * len(vectors)
        names = nearest_candidates(titles, self.index, vectors, k, excluded)
        return [[titles[name] for name in group] for group in names]

    def _excluded(self, only: DocumentFilter | None) -> list[int]:
        """Rows that the filter keeps out."""
        if only is None or only.is_empty:
            return []
        return [
            row
            for row, name in enumerate(self.index.ids)
            if not only.allows(name, self.documents.get(name))
        ]


def _state_of(manifest: Path | None) -> tuple[int, int] | None:
    """Inode and time of change, or None where there is no file."""
    if manifest is None or not manifest.exists():
        return None
    stat = manifest.stat()
    return stat.st_ino, stat.st_mtime_ns
