"""Searches documents by BM25, by the embeddings of a model that thinks, or by both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Literal

from t1_jax.errors import ConfigError
from t1_jax.generate import Choices, Thought
from t1_jax.notebook import card
from t1_jax.progress import track
from t1_jax.retrieval import (
    BM25,
    Collection,
    Document,
    Fusion,
    Index,
    Run,
    Snippet,
    best_sentence,
    fuse_runs,
)
from t1_jax.retriever.candidates import CandidateTitles, nearest_candidates
from t1_jax.retriever.t1 import T1
from t1_jax.retriever.verification import Verification, verify_run

Ranking = Literal["bm25", "dense", "hybrid"]

_FUSED_DEPTH = 100
"""Documents of each retriever that a hybrid ranking is made of, at least."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A document that was found.

    Attributes:
        id: document id.
        score: what the ranking is sorted by: BM25, cosine, or their fusion, see `fuse_runs`.
        bm25: BM25 score; None if BM25 did not find it.
        cosine: cosine of the embeddings; None if the vectors did not find it.
        document: title, text and location; None if the index has vectors only.
        snippet: the sentence that matches query and thoughts best; None without a document.
    """

    id: str
    score: float
    bm25: float | None
    cosine: float | None
    document: Document | None
    snippet: Snippet | None

    def _repr_html_(self) -> str:
        title = self.id if self.document is None else self.document.title or self.id
        text = "" if self.snippet is None else self.snippet.text
        return card(title, text, f"{self.id}, score {self.score:.3f}")


@dataclass(frozen=True, kw_only=True)
class SearchResults:
    """Rankings of several queries.

    Attributes:
        run: query id -> document id -> score.
        scores: the run of each retriever, by "bm25" and "cosine"; a hybrid ranking has both.
        thoughts: the sampled thoughts about each query, in the order of the queries.
    """

    run: Run
    scores: Mapping[str, Run]
    thoughts: Sequence[Sequence[Thought]] = field(default_factory=list)


class Searcher:
    """Ranks documents by BM25, by an index of embeddings, or by the fusion of both rankings.

    What it is given decides: `bm25` alone, `index` and `model` alone, or all three.
    """

    def __init__(
        self,
        documents: Mapping[str, Document],
        *,
        bm25: BM25 | None = None,
        index: Index | None = None,
        model: T1 | None = None,
        fusion: Fusion | None = None,
    ) -> None:
        """Builds a searcher.

        Args:
            documents: document id -> document, for titles and snippets; may be empty.
            bm25: BM25 over the same documents.
            index: their embeddings.
            model: the model that made the index.
            fusion: how both rankings are combined, BM25 first.

        Raises:
            ConfigError: neither BM25 nor an index with its model.
        """
        if (index is None) != (model is None) or (bm25 is None and index is None):
            raise ConfigError("a search needs BM25, or an index together with its model")
        self.documents, self._bm25, self._index, self._model = documents, bm25, index, model
        self._fusion = fusion or Fusion()
        self._rows = {} if index is None else {name: i for i, name in enumerate(index.ids)}

    @property
    def ranking(self) -> Ranking:
        """How documents are ranked."""
        if self._index is None:
            return "bm25"
        return "dense" if self._bm25 is None else "hybrid"

    def search(
        self,
        queries: Collection,
        k: int,
        *,
        seed_by_id: bool = False,
        candidates: int = 0,
        constrained: bool = False,
        verify: Verification | None = None,
        show_progress_bar: bool = False,
        **query_options: Any,
    ) -> SearchResults:
        """The best `k` documents of each query.

        Args:
            queries: queries, with the documents that each excludes.
            k: documents per query.
            seed_by_id: derive the randomness of thoughts from query ids instead of texts.
            candidates: number of documents that a first pass without a thought finds, whose titles
                the thought sees; 0 thinks about the query alone.
            constrained: whether every thought is the title of a document.
            verify: reorders the nearest documents by how likely their titles are as thoughts;
                fusion comes after.
            show_progress_bar: whether to show a bar with the time left.
            query_options: options of `T1.encode_query`; BM25 uses none.

        Raises: as `T1.encode_query`, `nearest_candidates` and `verify_run`.
        """
        depth = max(k, _FUSED_DEPTH) if self.ranking == "hybrid" else k
        if verify is not None:
            depth = max(depth, verify.k)
        scores: dict[str, Run] = {}
        dense: Run = {}
        thoughts: Sequence[Sequence[Thought]] = []
        if self._bm25 is not None:
            scores["bm25"] = self._rank_bm25(self._bm25, queries, depth, show_progress_bar)
        if self._index is not None and self._model is not None:
            query_ids = [query.id for query in queries.queries]
            excluded = [
                [self._rows[name] for name in queries.excluded.get(query_id, ())]
                for query_id in query_ids
            ]
            if candidates:
                query_options["candidates"] = self._candidates(
                    queries, excluded, candidates, query_options
                )
            if constrained:
                query_options["choices"] = self._choices
            vectors, thoughts = self._model.encode_query(
                [query.text for query in queries.queries],
                query_ids=query_ids if seed_by_id else None,
                return_thoughts=True,
                show_progress_bar=show_progress_bar,
                **query_options,
            )
            found = self._index.search(vectors, depth, excluded)
            scores["cosine"] = dense = found.to_run(query_ids, self._index.ids)
            if verify is not None:
                dense = verify_run(
                    self._model,
                    dense,
                    queries.queries,
                    self.documents,
                    verify,
                    task=query_options.get("task"),
                    instruction=query_options.get("instruction"),
                    show_progress_bar=show_progress_bar,
                )
        if self.ranking == "hybrid":
            run = fuse_runs([scores["bm25"], dense], k, self._fusion)
        else:
            run = scores["bm25"] if self._index is None else dense
            if depth > k:
                run = {query_id: dict(islice(row.items(), k)) for query_id, row in run.items()}
        return SearchResults(run=run, scores=scores, thoughts=thoughts)

    def _candidates(
        self,
        queries: Collection,
        excluded: Sequence[Sequence[int]],
        k: int,
        query_options: Mapping[str, Any],
    ) -> list[list[str]]:
        """Titles of the nearest documents of each query, embedded without a thought."""
        assert self._index is not None
        assert self._model is not None
        if not query_options.get("think", True):
            raise ConfigError(
                "candidates are shown to a model that thinks, and this search does not think",
                hint="leave out --candidates or --no-think",
            )
        self._model.preset.require_candidates()
        passed_on = ("task", "instruction", "batch_size")
        options: dict[str, Any] = {name: query_options.get(name) for name in passed_on}
        vectors = self._model.encode_query(
            [query.text for query in queries.queries], think=False, **options
        )
        names = nearest_candidates(self._titles, self._index, vectors, k, excluded)
        return [[self._titles[name] for name in group] for group in names]

    @cached_property
    def _titles(self) -> CandidateTitles:
        assert self._model is not None
        return CandidateTitles(self._model.tokenizer, self.documents)

    @cached_property
    def _choices(self) -> Choices:
        assert self._index is not None
        return self._titles.choices(self._index.ids)

    def hits(self, results: SearchResults, query_id: str, query: str) -> list[Hit]:
        """The documents that a query found, best first, with their snippets."""
        thoughts = [thought.text for group in results.thoughts for thought in group]
        return [
            Hit(
                id=name,
                score=score,
                bm25=results.scores.get("bm25", {}).get(query_id, {}).get(name),
                cosine=results.scores.get("cosine", {}).get(query_id, {}).get(name),
                document=(document := self.documents.get(name)),
                snippet=document and best_sentence(document, query, thoughts),
            )
            for name, score in results.run[query_id].items()
        ]

    @staticmethod
    def _rank_bm25(bm25: BM25, queries: Collection, k: int, show_progress_bar: bool) -> Run:
        run: Run = {}
        total = len(queries.queries)
        with track("BM25", total, "queries", shown=show_progress_bar) as advance:
            for query in queries.queries:
                run |= bm25.search([query], k, queries.excluded)
                advance(1)
        return run
