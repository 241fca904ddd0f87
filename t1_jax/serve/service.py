"""What the routes call: embeds queries and documents on the engine, and searches."""

import asyncio
import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from t1_jax.errors import T1Error
from t1_jax.generate import FinishReason, Prompt, Thought, prefill_lengths
from t1_jax.retrieval import Hit
from t1_jax.retriever import T1, CandidateTitles, Verification, mean_embeddings, thought_key
from t1_jax.serve.config import ServerConfig
from t1_jax.serve.engine import Engine
from t1_jax.serve.failures import RequestError, from_t1_error, invalid
from t1_jax.serve.jobs import EncodeJob, OnTokens, ThinkJob
from t1_jax.serve.metrics import Metrics
from t1_jax.serve.queries import DocumentResults, QueryResult, ThinkOptions
from t1_jax.serve.ranking import Corpus, DocumentFilter, Fusion, Ranking, SearchOptions
from t1_jax.serve.verification import Verifier, check_verify
from t1_jax.text import PromptTokens, append_thoughts, tokenize_queries

_LOG = logging.getLogger("t1_jax.serve")


class Service:
    """A model and maybe an index, behind an engine.

    Attributes:
        model: the model; only the engine's thread may use its device.
        name: of the model, for clients.
        corpus: what `/v1/search` searches; None without an index.
        config: limits.
        metrics: counters of this server.
        instruction: of queries; None for the preset's.
    """

    def __init__(
        self,
        model: T1,
        config: ServerConfig,
        metrics: Metrics,
        *,
        name: str,
        corpus: Corpus | None = None,
        instruction: str | None = None,
    ) -> None:
        self.model, self.config, self.metrics = model, config, metrics
        self.name, self.corpus = name, corpus
        self.preset, self.instruction = model.preset, instruction
        if instruction is not None:
            self.preset = self.preset.with_instruction(instruction)
        self.engine = Engine(model, config, metrics)
        self._verifier = Verifier(model, self.preset, self.engine)
        self.engine.start()

    async def warm_up(self) -> None:
        """Compiles what most requests need, so that the first does not wait for it."""
        deadline = time.monotonic() + 3600
        options = ThinkOptions(max_tokens=6, stop_when_settled=True, deadline=deadline)
        (shortest,) = self._tokenized(self._tokenize_queries, ["up"], ["warm-up"])
        smallest = self.model.options.shapes.prefix_sizes[:2]
        for length in sorted({length for size in smallest for length in prefill_lengths(size)}):
            text = "up" + " up" * (length - len(shortest.ids))
            (prompt,) = self._tokenized(self._tokenize_queries, [text], ["warm-up"])
            if not prompt.truncated:
                await self.embed_queries([text], options)
        await self.embed_documents(["up"], deadline=deadline)
        if self.corpus is not None and self.corpus.documents:
            verification = Verification()
            names = itertools.islice(self.corpus.documents, verification.k)
            await self._verifier.reorder(
                ["up"], [dict.fromkeys(names, 0.0)], self.corpus.documents, verification,
                deadline=deadline,
            )  # fmt: skip

    def deadline(self, seconds: float | None = None) -> float:
        """When a request that begins now must end, in `time.monotonic`; all its jobs share it."""
        most = self.config.deadline_seconds
        return time.monotonic() + min(seconds or most, most)

    def think_options(
        self,
        *,
        think: str | int | None = None,
        n: int = 1,
        seed: int = 0,
        prefix: str | None = None,
        deadline: float | None = None,
    ) -> ThinkOptions:
        """The options of a request, with the server's defaults.

        Raises:
            RequestError: 422 for more than the server allows, or options that exclude each other.
        """
        config = self.config
        if n > config.max_n:
            raise invalid(
                f"n is {n}, and this server allows {config.max_n}", field="n",
                hint=f"send at most {config.max_n}",
            )  # fmt: skip
        if isinstance(think, int) and think > config.max_thought_tokens:
            raise invalid(
                f"think is {think} tokens, and this server allows {config.max_thought_tokens}",
                field="think",
                hint=f"send at most {config.max_thought_tokens}",
            )
        if think == "off" and (n > 1 or prefix is not None):
            raise invalid(
                "n and thought_prefix need thinking, and think is off", field="think",
                hint="leave think out",
            )  # fmt: skip
        tokens = 0 if think == "off" else config.max_thought_tokens
        return ThinkOptions(
            max_tokens=think if isinstance(think, int) else tokens,
            stop_when_settled=think == "auto",
            n=n,
            seed=seed,
            prefix=prefix,
            deadline=self.deadline(deadline),
        )

    async def embed_queries(
        self,
        texts: Sequence[str],
        options: ThinkOptions,
        *,
        thoughts: Sequence[str] | None = None,
        candidates: Sequence[Sequence[str]] | None = None,
        on_tokens: OnTokens | None = None,
        field: str = "input",
        truncate: bool | None = None,
    ) -> list[QueryResult]:
        """Embeds queries, after thoughts about them; equal to `T1.encode_query`.

        Args:
            texts: queries.
            options: how to think.
            thoughts: user-supplied thoughts, one for each query.
            candidates: titles that the prompt of each query shows; see `candidate_titles`.
            on_tokens: called in the engine's thread as tokens of the only query are chosen.
            field: of the request, for errors.
            truncate: whether a long text is truncated or an error; None is the server's setting.

        Raises:
            RequestError: a text that cannot be embedded, or a server that is full.
        """
        names = [_field(field, i, len(texts)) for i in range(len(texts))]
        thinks = options.max_tokens > 0 and thoughts is None
        prompts = await asyncio.to_thread(
            self._query_prompts,
            texts,
            names,
            options,
            thinks=thinks or thoughts is not None,
            candidates=candidates,
            truncate=truncate,
        )
        if self.config.log_texts:
            for text in texts:
                _LOG.info("query: %r", text)
        if not thinks:
            return await self._embed_without(prompts, names, options, thoughts)
        return await self._think(texts, prompts, options, on_tokens)

    @functools.cached_property
    def titles(self) -> CandidateTitles:
        """Titles of the documents of the index, as prompts show them."""
        return CandidateTitles(self.model.tokenizer, self.require_corpus().documents)

    async def embed_documents(
        self,
        texts: Sequence[str],
        *,
        deadline: float,
        field: str = "input",
        truncate: bool | None = None,
    ) -> DocumentResults:
        """Embeds documents in one pass; equal to `T1.encode_document`; `truncate` as for queries.

        Raises:
            RequestError: a text that cannot be embedded, or a server that is full.
        """
        names = [_field(field, i, len(texts)) for i in range(len(texts))]
        rows = await asyncio.to_thread(self._tokenized, self.model.tokenize_documents, texts, names)
        self._check_length(rows, names, truncate)
        job = EncodeJob(deadline=deadline, rows=rows, names=names)
        (vectors,) = await self.engine.run(job)
        return DocumentResults(
            vectors=vectors,
            tokens=[len(row.ids) for row in rows],
            truncated=[row.truncated for row in rows],
        )

    async def search_options(
        self,
        *,
        k: int,
        deadline: float,
        ranking: Ranking | None = None,
        fusion: Fusion = "mean",
        verify: int = 0,
        only: DocumentFilter | None = None,
    ) -> SearchOptions:
        """The options of a search, with those of the index; called before the request thinks.

        Raises:
            RequestError: 404 without an index; 422 for a ranking that this index does not have,
                more documents than the server allows, or as `check_verify`.
        """
        corpus = self.require_corpus()
        ranking = ranking or corpus.default_ranking
        if ranking != "dense" and corpus.bm25 is None:
            raise invalid(
                f"the ranking {ranking} needs texts, and this index has vectors only",
                field="ranking",
                hint="send dense",
            )
        if k > self.config.max_k:
            raise invalid(
                f"k is {k}, and this server allows {self.config.max_k}", field="k",
                hint=f"send at most {self.config.max_k}",
            )  # fmt: skip
        verification = check_verify(verify, corpus, ranking, fusion)
        return SearchOptions(
            k=k,
            ranking=ranking,
            fusion=fusion,
            verification=verification,
            excluded=await asyncio.to_thread(corpus.excluded, only or DocumentFilter()),
            deadline=deadline,
        )

    async def search(
        self,
        queries: Sequence[str],
        found: Sequence[QueryResult],
        options: SearchOptions,
        *,
        thoughts: Sequence[Sequence[str]],
    ) -> list[list[Hit]]:
        """The best documents for embedded queries.

        Args:
            queries: texts of the queries.
            found: their embeddings.
            options: how they are searched for.
            thoughts: of each query, texts that the sentence shown for a document should match too.

        Raises:
            RequestError: as `Verifier.reorder`.
        """
        corpus = self.require_corpus()
        by_rank = options.fusion == "rank"
        vectors = [result.vectors if by_rank else result.vector[None] for result in found]
        started = time.monotonic()
        rankings = await asyncio.to_thread(corpus.retrieve, queries, vectors, options)
        seconds = time.monotonic() - started
        verified: Sequence[Mapping[str, float] | None] = [None] * len(queries)
        if options.verification is not None:
            verified = await self._verifier.reorder(
                queries,
                [ranking.dense for ranking in rankings],
                corpus.documents,
                options.verification,
                deadline=options.deadline,
            )

        def hits() -> list[list[Hit]]:
            return [
                corpus.hits(query, ranking, options, verified=reordered, thoughts=texts)
                for query, ranking, reordered, texts in zip(
                    queries, rankings, verified, thoughts, strict=True
                )
            ]

        started = time.monotonic()
        result = await asyncio.to_thread(hits)
        self.metrics.phase("search", seconds + time.monotonic() - started)
        return result

    def require_corpus(self) -> Corpus:
        """What is searched.

        Raises:
            RequestError: 404, as the server was started without an index.
        """
        if self.corpus is None:
            raise RequestError(
                404, "no_index", "this server has no index",
                hint="start it with one: t1 serve --index cwe",
            )  # fmt: skip
        return self.corpus

    def _query_prompts(
        self,
        texts: Sequence[str],
        names: Sequence[str],
        options: ThinkOptions,
        *,
        thinks: bool,
        candidates: Sequence[Sequence[str]] | None,
        truncate: bool | None,
    ) -> list[PromptTokens]:
        tokenize = functools.partial(self._tokenize_queries, thinks=thinks, candidates=candidates)
        prompts = self._tokenized(tokenize, texts, names)
        self._check_length(prompts, names, truncate)
        if options.prefix is not None:
            begin = self.model.tokenizer.encode_thought(options.prefix)
            prompts = [
                dataclasses.replace(prompt, ids=np.concatenate([prompt.ids, begin]))
                for prompt in prompts
            ]
        most = self.model.decoder.config.max_positions
        for prompt in prompts:
            if len(prompt.ids) + options.max_tokens + 1 > most:
                raise invalid(
                    f"a prompt of {len(prompt.ids)} tokens and a thought of {options.max_tokens} "
                    f"exceed the {most} positions of the model",
                    hint="send a lower think, or a shorter text",
                )
        return prompts

    def _tokenize_queries(
        self,
        texts: Sequence[str],
        names: Sequence[str],
        *,
        thinks: bool = True,
        candidates: Sequence[Sequence[str]] | None = None,
    ) -> list[PromptTokens]:
        return tokenize_queries(
            self.model.tokenizer,
            self.preset,
            texts,
            max_tokens=self.model.options.max_query_tokens,
            think=thinks,
            names=names,
            candidates=candidates,
        )

    def _tokenized(
        self,
        tokenize: Callable[[Sequence[str], Sequence[str]], list[PromptTokens]],
        texts: Sequence[str],
        names: Sequence[str],
    ) -> list[PromptTokens]:
        for text, name in zip(texts, names, strict=True):
            if not text.strip():
                raise RequestError(400, "empty", f"{name} is empty", field=name, hint="send a text")
        try:
            return tokenize(texts, names)
        except T1Error as error:
            raise from_t1_error(error, field=names[0] if len(names) == 1 else None) from error

    def _check_length(
        self, rows: Sequence[PromptTokens], names: Sequence[str], truncate: bool | None
    ) -> None:
        reject = self.config.reject_long_texts if truncate is None else not truncate
        for row, name in zip(rows, names, strict=True):
            if row.truncated and reject:
                raise RequestError(
                    413, "too_long", f"{name} has too many tokens for the model", field=name,
                    hint="split the text",
                )  # fmt: skip

    async def _think(
        self,
        texts: Sequence[str],
        prompts: Sequence[PromptTokens],
        options: ThinkOptions,
        on_tokens: OnTokens | None,
    ) -> list[QueryResult]:
        asked = [
            Prompt(query_id=text, token_ids=prompt.ids.tolist())
            for text, prompt in zip(texts, prompts, strict=True)
        ]
        known = await asyncio.to_thread(self._look_up, asked, options)
        jobs = {
            i: ThinkJob(
                deadline=options.deadline,
                prompt=asked[i],
                row=prompts[i],
                n=options.n,
                seed=options.seed,
                max_thought_tokens=options.max_tokens,
                stop_when_settled=options.stop_when_settled,
                on_tokens=on_tokens,
            )
            for i in range(len(asked))
            if i not in known
        }
        new = dict(zip(jobs, await self.engine.run(*jobs.values()), strict=True))
        if new:
            await asyncio.to_thread(self._store, asked, options, new)
        return [
            QueryResult(
                vector=mean_embeddings([thoughts], self.model.embed_dim)[0],
                vectors=np.stack([thought.embedding for thought in thoughts]),
                thoughts=thoughts,
                prompt_tokens=len(prompt.ids),
                truncated=prompt.truncated,
                cached=i in known,
            )
            for i, prompt in enumerate(prompts)
            for thoughts in [known[i] if i in known else new[i]]
        ]

    def _look_up(
        self, prompts: Sequence[Prompt], options: ThinkOptions
    ) -> dict[int, list[Thought]]:
        """Number of the prompt -> its thoughts, where the cache has them all."""
        cache = self.model.thought_cache
        if cache is None or options.stop_when_settled:
            return {}
        keys = [self._keys(prompt, options) for prompt in prompts]
        found = iter(cache.get([key for group in keys for key in group]))
        groups = [[next(found) for _ in group] for group in keys]
        known = {
            i: [dataclasses.replace(t, sample=n) for n, t in enumerate(group) if t is not None]
            for i, group in enumerate(groups)
            if all(thought is not None for thought in group)
        }
        for i in range(len(prompts)):
            self.metrics.cache(hit=i in known)
        return known

    def _store(
        self,
        prompts: Sequence[Prompt],
        options: ThinkOptions,
        groups: Mapping[int, Sequence[Thought]],
    ) -> None:
        """Stores thoughts that ended by themselves or at their limit."""
        cache = self.model.thought_cache
        if cache is None or options.stop_when_settled:
            return
        cache.put(
            {
                key: thought
                for i, thoughts in groups.items()
                for key, thought in zip(self._keys(prompts[i], options), thoughts, strict=True)
                if thought.finish_reason is not FinishReason.DEADLINE
            }
        )

    def _keys(self, prompt: Prompt, options: ThinkOptions) -> list[bytes]:
        sampling = self.engine.sampling(options.n, options.seed)
        return [
            thought_key(
                self.model.thought_fingerprint,
                prompt,
                sample,
                max_thought_tokens=options.max_tokens,
                sampling=sampling,
            )
            for sample in range(options.n)
        ]

    async def _embed_without(
        self,
        prompts: Sequence[PromptTokens],
        names: Sequence[str],
        options: ThinkOptions,
        thoughts: Sequence[str] | None,
    ) -> list[QueryResult]:
        rows = self._tokenized(
            lambda *_: append_thoughts(self.model.tokenizer, prompts, thoughts), [], []
        )
        if not rows:
            return []
        job = EncodeJob(deadline=options.deadline, rows=rows, names=names, urgent=True)
        (vectors,) = await self.engine.run(job)
        return [
            QueryResult(
                vector=vector,
                vectors=vector[None],
                thoughts=(),
                prompt_tokens=len(prompt.ids),
                truncated=prompt.truncated,
            )
            for vector, prompt in zip(vectors, prompts, strict=True)
        ]


def _field(field: str, index: int, count: int) -> str:
    return field if count == 1 else f"{field}.{index}"
