"""Searches documents by BM25, by the embeddings of a model that thinks, or by both."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, get_args, overload

from t1_jax.errors import ConfigError, DataError
from t1_jax.generate import Choices, Thought
from t1_jax.progress import counted, track
from t1_jax.retrieval import (
    BM25,
    Collection,
    Document,
    Fusion,
    Hit,
    Hits,
    Index,
    Query,
    Ranking,
    Run,
    Snippet,
    best_sentence,
    fuse_runs,
)
from t1_jax.retriever.candidates import CandidateTitles, nearest_candidates
from t1_jax.retriever.keywords import task_and_instruction
from t1_jax.retriever.search_source import (
    DenseSearch,
    Notices,
    hybrid_note,
    open_dense,
    open_source,
)
from t1_jax.retriever.t1 import T1
from t1_jax.retriever.verification import Verification, verify_run

_LOG = logging.getLogger("t1_jax")
_INSTRUCTION_OPTIONS = ("task", "instruction", "prompt_name", "prompt")
_FUSED_DEPTH = 100
"""Documents of each retriever that a hybrid ranking is made of, at least."""


@dataclass(frozen=True, kw_only=True)
class SearchResults:
    """Rankings of several queries.

    Attributes:
        run: query id -> document id -> score.
        scores: the run of each retriever, by "bm25" and "cosine"; a hybrid ranking has both.
        thoughts: the sampled thoughts about each query, in the order of the queries.
        given_thoughts: the user-supplied thought about each query, in the same order.
    """

    run: Run
    scores: Mapping[str, Run]
    thoughts: Sequence[Sequence[Thought]] = field(default_factory=list)
    given_thoughts: Sequence[str] = ()

    def thought_texts(self, query_id: str) -> tuple[str, ...]:
        """The texts of the thoughts about a query; empty where there was none."""
        row = list(self.run).index(query_id)
        if self.given_thoughts:
            return (self.given_thoughts[row],)
        return tuple(thought.text for group in self.thoughts[row : row + 1] for thought in group)


class Searcher:
    """Ranks documents by BM25, by an index of embeddings, or by the fusion of both rankings.

    ```python
    searcher = Searcher.open("notes/")
    print(searcher.search("who read files outside of the web folder", k=3))
    ```

    What the constructor is given decides: `bm25` alone, `index` and `model` alone, or all three.
    """

    def __init__(
        self,
        documents: Mapping[str, Document],
        *,
        bm25: BM25 | None = None,
        index: Index | None = None,
        model: T1 | None = None,
        fusion: Fusion | None = None,
        root: Path | None = None,
        query_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Builds a searcher.

        Args:
            documents: document id -> document, for titles and snippets; may be empty.
            bm25: BM25 over the same documents.
            index: their embeddings.
            model: the model that made the index.
            fusion: how both rankings are combined, BM25 first.
            root: folder of the documents' files, or the one file; paths of hits begin with it.
            query_options: options of `T1.encode_query` for every search, such as `instruction`.

        Raises:
            ConfigError: neither BM25 nor an index with its model.
        """
        if (index is None) != (model is None) or (bm25 is None and index is None):
            raise ConfigError("a search needs BM25, or an index together with its model")
        self.documents, self._bm25, self._index, self._model = documents, bm25, index, model
        self._fusion = fusion or Fusion()
        self._root, self._query_options = root, query_options or {}
        self._rows = {} if index is None else {name: i for i, name in enumerate(index.ids)}

    @classmethod
    def open(
        cls,
        source: str | Path,
        *,
        model: str | T1 | None = None,
        ranking: Ranking | None = None,
        fusion: Fusion | None = None,
        index: str | Path | None = None,
        task: str | None = None,
        instruction: str | None = None,
        preset: str | None = None,
        dtype: str | None = None,
        thought_cache: bool = True,
    ) -> "Searcher":
        """Opens what `t1 search` searches; its answers are those of the command.

        The first time, the texts of a folder are encoded; later only those that changed. What is
        left out is as in the index, if there is one.

        Args:
            source: a folder of text, Markdown, source code, JSONL, CSV or Parquet, one such file, a
                collection, or an index.
            model: path or name of the model, or a model that is loaded and then keeps its own cache
                of thoughts; by default the index's, or the one in this package.
            ranking: what ranks; by default vectors, and for files that the model was not trained
                on BM25 and vectors. `bm25` loads no model.
            fusion: how a hybrid ranking combines both.
            index: where the index of a folder lies; by default in the cache.
            task: name of an instruction in the preset.
            instruction: text of the instruction in the prompts of queries.
            preset: prompts: a name or a YAML file.
            dtype: `float32` or `bfloat16`, of weights and activations.
            thought_cache: whether thoughts are read from the cache of this machine, and stored
                there.

        Raises:
            DataError: nothing is there, or it has no texts.
            WeightsError: the model is not on this machine.
            ConfigError: an unknown ranking, an option that it does not use or that contradicts the
                index, or a prompt that does not fit the model.
            IndexContractError: the index is damaged, or belongs to another model.
        """
        if ranking not in (None, *get_args(Ranking)):
            raise ConfigError(
                f"unknown ranking {ranking!r}", hint=f"use one of {', '.join(get_args(Ranking))}"
            )
        overrides = {"preset": preset, "dtype": dtype, "task": task, "instruction": instruction}
        if ranking == "bm25":
            of_model = {"model": model, "fusion": fusion, **overrides}
            _reject_options_of_model(of_model)
        notices = _LoggedNotices()
        folder = None if index is None else Path(index)
        texts = open_source(str(source), folder, notices, lenient=False, bm25=ranking == "bm25")
        if ranking == "bm25":
            return cls(texts.documents_by_id, bm25=texts.bm25(), root=texts.root)
        dense = open_dense(
            texts,
            [],
            overrides=overrides,
            model=model,
            thinking={},
            sampling={"temperature": 0.0},
            thought_cache=thought_cache,
            out=notices,
        )
        hybrid = ranking == "hybrid"
        if ranking is None and (hybrid := dense.is_hybrid_by_default):
            notices.log(hybrid_note(dense, 'ranking="dense"'))
        if fusion is not None and not hybrid:
            raise ConfigError(
                "fusion combines BM25 with vectors, and this ranking has vectors alone",
                hint='add ranking="hybrid"',
            )
        return cls.load(dense, notices, hybrid=hybrid, fusion=fusion)

    @classmethod
    def load(
        cls, dense: DenseSearch, out: Notices, *, hybrid: bool, fusion: Fusion | None = None
    ) -> "Searcher":
        """A searcher over opened documents, with their index up to date; see `DenseSearch.load`."""
        bm25 = dense.source.bm25() if hybrid else None
        index, model = dense.load(out)
        return cls(
            dense.source.documents_by_id,
            bm25=bm25,
            index=index,
            model=model,
            fusion=fusion,
            root=dense.source.root,
            query_options={name: dense.query_options[name] for name in ("instruction", "sampling")},
        )

    @property
    def model(self) -> T1 | None:
        """The model that embeds queries; None if BM25 alone ranks."""
        return self._model

    def __repr__(self) -> str:
        count = len(self.documents) or len(self._rows)
        return f"Searcher({counted(count, 'documents')}, {self.ranking})"

    @property
    def ranking(self) -> Ranking:
        """How documents are ranked."""
        if self._index is None:
            return "bm25"
        return "dense" if self._bm25 is None else "hybrid"

    @overload
    def search(self, queries: str, k: int = 10, **options: Any) -> Hits: ...

    @overload
    def search(self, queries: Collection, k: int = 10, **options: Any) -> SearchResults: ...

    def search(
        self,
        queries: str | Collection,
        k: int = 10,
        *,
        seed_by_id: bool = False,
        candidates: int = 0,
        constrained: bool = False,
        verify: Verification | None = None,
        show_progress_bar: bool = False,
        **query_options: Any,
    ) -> Hits | SearchResults:
        """The best `k` documents of one query, or of each query of a collection.

        Args:
            queries: the text of one query, which gives `Hits`; or queries with the documents that
                each excludes, which give `SearchResults`.
            k: documents per query.
            seed_by_id: derive the randomness of thoughts from query ids instead of texts.
            candidates: number of documents that a first pass without a thought finds, whose titles
                the thought sees; 0 thinks about the query alone.
            constrained: whether every thought is the title of a document.
            verify: reorders the nearest documents by how likely their titles are as thoughts;
                fusion comes after.
            show_progress_bar: whether to show a bar with the time left.
            query_options: options of `T1.encode_query`, such as `max_thought_tokens`, `think`, and
                `thoughts`, which here may be one text for one query; BM25 uses none.

        Raises:
            DataError: an empty query, or `k` below 1; and as `T1.encode_query`.
            ConfigError: options of a model for BM25, titles of an index without texts, candidates
                without thinking; and as `T1.encode_query`.
        """
        if k < 1:
            raise DataError(f"k must be at least 1, got {k}")
        if isinstance(queries, str):
            return self._search_one(
                queries,
                k,
                candidates=candidates,
                constrained=constrained,
                verify=verify,
                show_progress_bar=show_progress_bar,
                **query_options,
            )
        asked = {
            "candidates": candidates, "constrained": constrained, "verify": verify, **query_options
        }  # fmt: skip
        self._check_options(asked)
        query_options = self._with_defaults(query_options)
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
        given = query_options.get("thoughts") or ()
        return SearchResults(run=run, scores=scores, thoughts=thoughts, given_thoughts=given)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        """Rejects what this searcher cannot do, before anything is computed."""
        if self._model is None:
            _reject_options_of_model(options)
            return
        titled = [name for name in ("candidates", "constrained", "verify") if options[name]]
        if titled and not self.documents:
            raise ConfigError(
                f"{' and '.join(titled)} need titles of documents, and this index has vectors only",
                hint="search an index that stores its documents, or leave it out",
            )
        if options["candidates"]:
            if not options.get("think", True):
                raise ConfigError(
                    "candidates are shown to a model that thinks, and this search does not think",
                    hint="leave out candidates= or think=False",
                )
            self._model.preset.require_candidates()

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
        passed_on = ("task", "instruction", "batch_size")
        options: dict[str, Any] = {name: query_options.get(name) for name in passed_on}
        vectors = self._model.encode_query(
            [query.text for query in queries.queries], think=False, **options
        )
        return nearest_candidates(self._titles, self._index, vectors, k, excluded)

    @cached_property
    def _titles(self) -> CandidateTitles:
        assert self._model is not None
        return CandidateTitles(self._model.tokenizer, self.documents)

    @cached_property
    def _choices(self) -> Choices:
        assert self._index is not None
        return self._titles.choices(self._index.ids)

    def hits(self, results: SearchResults, query_id: str, query: str) -> Hits:
        """The documents that a query found, best first, with their snippets."""
        thoughts = results.thought_texts(query_id)
        hits = tuple(
            Hit(
                id=name,
                score=score,
                bm25=results.scores.get("bm25", {}).get(query_id, {}).get(name),
                cosine=results.scores.get("cosine", {}).get(query_id, {}).get(name),
                document=(document := self.documents.get(name)),
                snippet=document and self._snippet(document, query, thoughts),
            )
            for name, score in results.run[query_id].items()
        )
        return Hits(query=query, ranking=self.ranking, thoughts=thoughts, hits=hits)

    def _search_one(self, query: str, k: int, **options: Any) -> Hits:
        if isinstance(options.get("thoughts"), str):
            options["thoughts"] = [options["thoughts"]]
        asked = Query(id="query", text=query)
        one = Collection(name="query", documents=(), queries=(asked,), qrels={})
        return self.hits(self.search(one, k, **options), asked.id, query)

    def _with_defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options of `T1.encode_query`; a task or prompt replaces the instruction of the index.

        `prompt_name` and `prompt` become `task` and `instruction`, which every pass reads.
        """
        named = {name: options.get(name) for name in _INSTRUCTION_OPTIONS}
        task, instruction = task_and_instruction(**named)
        if task is None and instruction is None:
            instruction = self._query_options.get("instruction")
        others = {name: value for name, value in options.items() if name not in named}
        return {**self._query_options, **others, "task": task, "instruction": instruction}

    def _snippet(self, document: Document, query: str, thoughts: Sequence[str]) -> Snippet:
        """The sentence that matches best, with the path from where the search was started."""
        snippet = best_sentence(document, query, thoughts)
        if snippet.location is None or self._root is None:
            return snippet
        inside = snippet.location.path
        path = self._root / inside if self._root.is_dir() else self._root
        return replace(snippet, location=replace(snippet.location, path=path))

    @staticmethod
    def _rank_bm25(bm25: BM25, queries: Collection, k: int, show_progress_bar: bool) -> Run:
        run: Run = {}
        total = len(queries.queries)
        with track("BM25", total, "queries", shown=show_progress_bar) as advance:
            for query in queries.queries:
                run |= bm25.search([query], k, queries.excluded)
                advance(1)
        return run


def _reject_options_of_model(options: Mapping[str, Any]) -> None:
    if given := [name for name, value in options.items() if value]:
        raise ConfigError(
            f"BM25 uses no model, so {', '.join(given)} would do nothing", hint="leave it out"
        )


class _LoggedNotices:
    """What a search says, in the log of this package."""

    def log(self, text: str) -> None:
        _LOG.info(text)

    def warn(self, text: str) -> None:
        _LOG.warning(text)
