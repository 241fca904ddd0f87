"""T1, the retriever: thinks before it embeds a query, embeds documents in one pass."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import jax
import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError, DataError
from t1_jax.generate import Choices, Prompt, SamplingParams, Thought
from t1_jax.hub import EmbTokenMode, ExportOptions, ModelCardData
from t1_jax.parallel import MeshContext
from t1_jax.progress import track
from t1_jax.retrieval import Hits, Ranking
from t1_jax.retriever.candidates import shown_titles
from t1_jax.retriever.encoder import l2_normalize, mean_embeddings
from t1_jax.retriever.keywords import (
    DocumentOptions,
    Embeddings,
    OutputFormat,
    Precision,
    QueryOptions,
    task_and_instruction,
)
from t1_jax.retriever.opening import (
    DEFAULT_MODEL,
    RetrieverOptions,
    open_model,
)
from t1_jax.retriever.parts import RetrieverParts
from t1_jax.retriever.saving import push_model, save_model
from t1_jax.retriever.scoring import mean_log_probs, thought_tokens
from t1_jax.retriever.thinking import sample_thoughts, think_in_blocks
from t1_jax.retriever.thought_cache import ThoughtCache
from t1_jax.text import (
    PromptPreset,
    append_thoughts,
    tokenize_queries,
)


class T1(RetrieverParts):
    """A retriever that thinks.

    ```python
    model = T1.load()
    queries, thoughts = model.encode_query(["why is the sky blue"], return_thoughts=True)
    documents = model.encode_document(["Rayleigh scattering is stronger at short wavelengths."])
    scores = model.similarity(queries, documents)
    ```
    """

    @classmethod
    def load(
        cls,
        path_or_name: str | Path = DEFAULT_MODEL,
        *,
        adapter: str | Path | None = None,
        dtype: str = "bfloat16",
        attention: str = "xla",
        emb_token: EmbTokenMode = "auto",
        preset: str | Path | PromptPreset | None = None,
        mesh_context: MeshContext | None = None,
        options: RetrieverOptions | None = None,
        thought_cache: ThoughtCache | None = None,
    ) -> "T1":
        """Loads a Hugging Face folder, a GGUF file, an adapter, or a model fetched by `t1 pull`.

        A checkpoint without `<emb_token>` gets one; until it is trained, its embeddings are poor,
        and a warning is logged.

        Args:
            path_or_name: a path, or a name that `t1 pull` knows, by default that of the adapter in
                this package; the network is not used. An adapter's folder loads the base model
                that it names too.
            adapter: folder of an adapter to merge into this model.
            dtype: `float32`, `bfloat16`, `float16`, or `stored` for that of the checkpoint.
            attention: back end; see `ModelOptions`.
            emb_token: how a checkpoint without `<emb_token>` gets one; an adapter decides for
                itself.
            preset: prompts; default those the checkpoint or adapter was saved with, else `t1`.
            mesh_context: mesh and rules; default all accelerators of this host, or the CPU.
            options: lengths, sampling, batch shapes.
            thought_cache: where `encode_query` looks for thoughts before it samples them; by
                default every thought is sampled.

        Raises:
            WeightsError: no usable model, or the adapter belongs to another base model.
            ConfigError: an unknown preset.
        """
        opened = open_model(
            path_or_name,
            adapter=adapter,
            dtype=dtype,
            emb_token=emb_token,
            preset=preset,
            options=options,
        )
        if opened.untrained_warning is not None:
            logging.getLogger("t1_jax").warning(opened.untrained_warning)
        return opened.load(mesh_context, attention=attention, thought_cache=thought_cache)

    @overload
    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        return_thoughts: Literal[False] = False,
        **options: Unpack[QueryOptions],
    ) -> np.ndarray: ...

    @overload
    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        return_thoughts: Literal[True],
        **options: Unpack[QueryOptions],
    ) -> tuple[np.ndarray, list[list[Thought]]]: ...

    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        n: int = 1,
        max_thought_tokens: int | None = None,
        return_thoughts: bool = False,
        think: bool = True,
        thoughts: Sequence[str] | None = None,
        candidates: Sequence[Sequence[str]] | None = None,
        choices: Choices | None = None,
        task: str | None = None,
        instruction: str | None = None,
        query_ids: Sequence[str] | None = None,
        sampling: SamplingParams | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        truncate_dim: int | None = None,
        precision: Precision = "float32",
        normalize_embeddings: bool = True,
        convert_to_numpy: bool = True,
    ) -> Any:
        """Thinks about each query and embeds it at the end of its thought.

        Args:
            texts: one query (gives one embedding, [D]) or several ([B, D]).
            n: thoughts per query; the query's embedding is the normalized mean of theirs.
            max_thought_tokens: most tokens of a thought; default that of the options.
            return_thoughts: whether to return the thoughts too, a list per query.
            think: with False, the query is embedded without a thought, with a prompt that does not
                ask for one: a control for the effect of thinking, not the intended use.
            thoughts: user-supplied thoughts to embed instead of sampling, one text per query.
            candidates: titles that the prompt of each query shows, for a thought that names the
                best of them; see `nearest_candidates`. A query without titles is asked as usual.
            choices: texts of which each thought is one, whatever its length; see
                `CandidateTitles.choices`.
            task: name of an instruction in the preset.
            instruction: text of an instruction.
            query_ids: names of the random streams; default the texts. A thought depends on seed,
                query id and sample number, not on the other queries.
            sampling: temperature, filters and seed; default those of the options.
            prompt_name: another name for `task`, that of sentence-transformers.
            prompt: another name for `instruction`, that of sentence-transformers.
            batch_size: most queries in a batch; default that of the options.
            show_progress_bar: whether to show a bar with the rate and the time left.
            truncate_dim: number of leading dimensions to keep.
            precision: `float32`, `int8`, `uint8`, `binary` or `ubinary`; see `OutputFormat`.
            normalize_embeddings: whether vectors have unit length after `truncate_dim`.
            convert_to_numpy: whether to return a NumPy array; otherwise a JAX array.

        Returns:
            Unit vectors in float32, unless another form was asked for, and the sampled thoughts on
            request.

        Raises:
            DataError: an empty query, or the wrong number of `thoughts` or `query_ids`.
            ConfigError: `max_thought_tokens`, `n` or `batch_size` below 1, arguments that exclude
                each other, an unknown task, an instruction that the prompts do not have, candidates
                that the prompts do not show, or a prompt that leaves no room for its thought in
                the model's context.
            Interrupted: the interrupt was requested.
        """
        output = OutputFormat(
            truncate_dim=truncate_dim,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            convert_to_numpy=convert_to_numpy,
        )
        task, instruction = task_and_instruction(
            task=task, instruction=instruction, prompt_name=prompt_name, prompt=prompt
        )
        preset = self.preset.with_instruction(self.preset.query_instruction(task, instruction))
        batch = [texts] if isinstance(texts, str) else list(texts)
        ids = batch if query_ids is None else list(query_ids)
        if len(ids) != len(batch):
            raise DataError(f"{len(batch)} queries but {len(ids)} query_ids")
        names = [f"query {name!r}" for name in ids]
        prompts = tokenize_queries(
            self.tokenizer,
            preset,
            batch,
            max_tokens=self.options.max_query_tokens,
            think=think,
            names=names,
            candidates=shown_titles(self.tokenizer, candidates),
        )
        sampled: list[list[Thought]] = [[] for _ in batch]
        if think and thoughts is None:
            if max_thought_tokens is None:
                max_thought_tokens = self.options.max_thought_tokens
            asked = [
                Prompt(query_id=name, token_ids=tokens.ids.tolist())
                for name, tokens in zip(ids, prompts, strict=True)
            ]
            total = len(asked) * n
            with track("thinking", total, "thoughts", shown=show_progress_bar) as advance:
                sampled = think_in_blocks(
                    self,
                    asked,
                    n=n,
                    max_thought_tokens=max_thought_tokens,
                    sampling=sampling or self.options.sampling,
                    batch_size=batch_size,
                    on_thought=lambda thought: advance(1),
                    choices=choices,
                )
            vectors = mean_embeddings(sampled, self.embed_dim)
        else:
            if n != 1 or max_thought_tokens is not None or choices is not None:
                raise ConfigError(
                    "n, max_thought_tokens and choices apply only where thoughts are sampled"
                )
            if thoughts is not None and not think:
                raise ConfigError("thoughts cannot be given with think=False")
            rows = append_thoughts(self.tokenizer, prompts, thoughts)
            vectors = self.encoder.encode(
                rows,
                names=names,
                description="queries",
                batch_size=batch_size,
                show_progress_bar=show_progress_bar,
            )
        result = output.apply(vectors[0] if isinstance(texts, str) else vectors)
        return (result, sampled) if return_thoughts else result

    def score_thoughts(
        self,
        texts: Sequence[str],
        thoughts: Sequence[Sequence[str]],
        *,
        task: str | None = None,
        instruction: str | None = None,
        query_ids: Sequence[str] | None = None,
        show_progress_bar: bool = False,
    ) -> list[Float[np.ndarray, " _"]]:
        """How likely user-supplied thoughts are: mean log-probability per token, in nats.

        The mean is over the tokens of the text, at temperature 1; an empty thought has only the
        `<emb_token>` that ends it. One forward pass scores all thoughts about a query.

        Args:
            texts: queries.
            thoughts: thoughts about each query; they are truncated to `options.max_thought_tokens`.
            task: name of an instruction in the preset.
            instruction: text of an instruction.
            query_ids: names of the queries for errors; default the texts.
            show_progress_bar: whether to show a bar with the rate and the time left.

        Raises:
            DataError: an empty query, or another number of queries than of groups of thoughts.
            ConfigError: as `encode_query`.
        """
        if len(thoughts) != len(texts):
            raise DataError(f"{len(texts)} queries but {len(thoughts)} groups of thoughts")
        prompts = tokenize_queries(
            self.tokenizer,
            self.preset.with_instruction(self.preset.query_instruction(task, instruction)),
            texts,
            max_tokens=self.options.max_query_tokens,
            names=[f"query {name!r}" for name in query_ids or texts],
        )
        tokens = [thought_tokens(self, group) for group in thoughts]
        with track("scoring", len(texts), "queries", shown=show_progress_bar) as advance:
            return mean_log_probs(self, [row.ids for row in prompts], tokens, advance=advance)

    @overload
    def encode_document(
        self,
        texts: str | Sequence[str],
        *,
        convert_to_numpy: Literal[True] = True,
        **options: Unpack[DocumentOptions],
    ) -> np.ndarray: ...

    @overload
    def encode_document(
        self,
        texts: str | Sequence[str],
        *,
        convert_to_numpy: Literal[False],
        **options: Unpack[DocumentOptions],
    ) -> jax.Array: ...

    def encode_document(
        self,
        texts: str | Sequence[str],
        *,
        document_ids: Sequence[str] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        truncate_dim: int | None = None,
        precision: Precision = "float32",
        normalize_embeddings: bool = True,
        convert_to_numpy: bool = True,
    ) -> Embeddings:
        """Embeds documents in one pass without a thought; equal texts are encoded once.

        `texts` is one document (gives one embedding, [D]) or several ([B, D]). Texts beyond
        `options.max_document_tokens` are truncated; see `count_truncated`. `document_ids` are names
        for errors. The only prompt is the preset's, with the name `document`. All other arguments
        are those of `encode_query`.

        Returns:
            Unit vectors in float32, unless another form was asked for.

        Raises:
            DataError: an empty document, or an embedding that is not finite.
            ConfigError: a prompt that documents do not have, or `batch_size` below 1.
            Interrupted: the interrupt was requested.
        """
        output = OutputFormat(
            truncate_dim=truncate_dim,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            convert_to_numpy=convert_to_numpy,
        )
        if prompt is not None or prompt_name not in (None, "document"):
            raise ConfigError(
                "documents have one prompt, the preset's document_template, and no instruction",
                hint="leave prompt and prompt_name out, or load the model with another preset",
            )
        batch = [texts] if isinstance(texts, str) else list(texts)
        names = [f"document {name!r}" for name in document_ids or map(str, range(len(batch)))]
        first = {text: index for index, text in reversed(list(enumerate(batch)))}
        distinct = sorted(first.values())
        rows = self.tokenize_documents([batch[i] for i in distinct], [names[i] for i in distinct])
        vectors = self.encoder.encode(
            rows,
            names=[names[i] for i in distinct],
            description="documents",
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
        )
        place = {index: row for row, index in enumerate(distinct)}
        vectors = vectors[[place[first[text]] for text in batch]]
        return output.apply(vectors[0] if isinstance(texts, str) else vectors)

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        prompt_name: Literal["document", "query"] = "document",
        **options: Any,
    ) -> Any:
        """Embeds documents, or thinks about queries with `prompt_name="query"`.

        For programs that were written for sentence-transformers. `options` are the keyword
        arguments of `encode_document` or `encode_query`.

        Raises:
            ConfigError: another `prompt_name`, or as `encode_document` and `encode_query`.
            DataError: as `encode_document` and `encode_query`.
        """
        if prompt_name == "query":
            return self.encode_query(texts, **options)
        return self.encode_document(texts, prompt_name=prompt_name, **options)

    def similarity(self, a: Embeddings, b: Embeddings) -> Float[np.ndarray, "*C"]:
        """Cosine similarity of all pairs in float32: [A, B]; fewer dimensions for single vectors.

        Any precision but packed bits and `uint8` is accepted.

        Raises:
            DataError: a vector is zero or not finite.
        """
        return l2_normalize(a) @ l2_normalize(b).T

    def similarity_pairwise(self, a: Embeddings, b: Embeddings) -> Float[np.ndarray, "*B"]:
        """Cosine similarity of each row of `a` with the same row of `b` in float32: [B].

        Raises:
            DataError: a vector is zero or not finite, or the numbers of rows differ.
        """
        if a.shape != b.shape:
            raise DataError(f"embeddings of shapes {a.shape} and {b.shape} are not pairs")
        return (l2_normalize(a) * l2_normalize(b)).sum(axis=-1)

    def search(
        self, source: str | Path, query: str, k: int = 10, *, ranking: Ranking | None = None,
        **options: Any,
    ) -> Hits:  # fmt: skip
        """The best `k` documents of files, a collection or an index for a query.

        `source` and `ranking` are those of `Searcher.open`, which is better for many queries;
        `options` and errors are those of `Searcher.search`.
        """
        from t1_jax.retriever.searcher import Searcher

        return Searcher.open(source, model=self, ranking=ranking).search(query, k, **options)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dtype: str | None = None,
        max_shard_bytes: int = ExportOptions.max_shard_bytes,
        overwrite: bool = False,
        card: ModelCardData | None = None,
    ) -> None:
        """Writes a Hugging Face folder; sentence-transformers loads it to encode documents.

        Args:
            folder: destination; it appears only when complete.
            dtype: dtype of the saved weights; default that of the loaded ones.
            max_shard_bytes: most bytes per safetensors file.
            overwrite: whether to replace an existing folder.
            card: facts about training and results for the model card; default those of the
                checkpoint or adapter that was loaded.

        Raises:
            T1Error: the folder exists, or the write failed.
        """
        options = ExportOptions(max_shard_bytes=max_shard_bytes, overwrite=overwrite)
        save_model(self, Path(folder), card, dtype, options)

    def push_to_hub(self, repo_id: str, *, private: bool = False, dtype: str | None = None) -> str:
        """Uploads what `save_pretrained` writes to the Hugging Face hub.

        Returns the address of the commit. `private` applies to a repository that is created.

        Raises:
            ConfigError: not a name such as `owner/name`, or this machine is not logged in.
            RetryableError: the hub cannot be reached, or rejects the upload.
        """
        return push_model(self, repo_id, private=private, dtype=dtype)

    def think(
        self,
        prompts: Sequence[Prompt],
        *,
        n: int,
        max_thought_tokens: int,
        sampling: SamplingParams,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
    ) -> list[list[Thought]]:
        """Samples thoughts about tokenized prompts, as rollouts do; no cache is read.

        Returns:
            The thoughts of each prompt, ordered by sample number.

        Raises: as `Sampler.think`, which takes the same arguments.
        """
        total = len(prompts) * n
        with track("thinking", total, "thoughts", shown=show_progress_bar) as advance:
            return sample_thoughts(
                self.sampler,
                self.tokenizer,
                prompts,
                n=n,
                max_thought_tokens=max_thought_tokens,
                sampling=sampling,
                batch_size=batch_size,
                on_thought=lambda thought: advance(1),
            )
