"""T1, the retriever: thinks before it embeds a query, embeds documents in one pass."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

import numpy as np
from flax import nnx
from jaxtyping import Float

from t1_jax.errors import ConfigError, DataError
from t1_jax.generate import Prompt, Sampler, SamplingParams, StopTokens, Thought
from t1_jax.hub import EmbTokenMode, ExportOptions, ModelCardData, export_folder
from t1_jax.interrupt import Interrupt
from t1_jax.model import Decoder
from t1_jax.parallel import MeshContext
from t1_jax.progress import track
from t1_jax.retriever.encoder import Encoder, l2_normalize, mean_embeddings
from t1_jax.retriever.loading import by_path
from t1_jax.retriever.opening import (
    DEFAULT_MODEL,
    RetrieverOptions,
    document_prompt,
    encoder_fingerprint,
    open_model,
    t1_metadata,
)
from t1_jax.retriever.resolve import Provenance, require_provenance
from t1_jax.text import (
    PromptPreset,
    PromptTokens,
    T1Tokenizer,
    tokenize_documents,
    tokenize_queries,
)


class T1:
    """A retriever that thinks.

    ```python
    model = T1.load()
    queries, thoughts = model.encode_query(["why is the sky blue"], return_thoughts=True)
    documents = model.encode_document(["Rayleigh scattering is stronger at short wavelengths."])
    scores = model.similarity(queries, documents)
    ```
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: T1Tokenizer,
        preset: PromptPreset,
        mesh_context: MeshContext,
        *,
        options: RetrieverOptions | None = None,
        provenance: Provenance | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        """Builds a retriever from its parts; `T1.load` is the usual way.

        Args:
            decoder: the language model, without an unmerged adapter.
            tokenizer: with `<emb_token>`.
            preset: prompts of queries and documents.
            mesh_context: mesh and rules of the decoder.
            options: lengths, sampling, batch shapes.
            provenance: where the weights came from; needed for saving and for fingerprints.
            interrupt: ends thinking and encoding early, for example when the machine is preempted.
        """
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.preset = preset
        self.mesh_context = mesh_context
        self.options = (options or RetrieverOptions()).within(decoder.config.max_positions)
        self.provenance = provenance
        shapes = dataclasses.replace(self.options.shapes, batch_divisor=mesh_context.batch_divisor)
        stop = StopTokens(emb=tokenizer.emb_token_id, eos=tuple(sorted(tokenizer.eos_ids)))
        self._sampler = Sampler(decoder, mesh_context, stop, shapes, interrupt=interrupt)
        self._encoder = Encoder(
            decoder, mesh_context, tokenizer, self.options.buckets, interrupt=interrupt
        )

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
    ) -> "T1":
        """Loads a Hugging Face folder, a GGUF file, an adapter, or a model fetched by `t1 pull`.

        A checkpoint without `<emb_token>` gets one; until it is trained, its embeddings are poor,
        and a warning is logged.

        Args:
            path_or_name: a path, or a name that `t1 pull` knows, by default that of the adapter in
                this package; the network is not used. For an
                adapter's folder, the base model that it names is loaded with it.
            adapter: folder of an adapter to merge into this model.
            dtype: `float32`, `bfloat16`, `float16`, or `stored` for that of the checkpoint.
            attention: back end; see `ModelOptions`.
            emb_token: how a checkpoint without `<emb_token>` gets one; an adapter decides for
                itself.
            preset: prompts; default those the checkpoint or adapter was saved with, else `t1`.
            mesh_context: mesh and rules; default all accelerators of this host, or the CPU.
            options: lengths, sampling, batch shapes.

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
        return opened.load(mesh_context, attention=attention)

    @property
    def embed_dim(self) -> int:
        """D, the number of dimensions of an embedding."""
        return self.decoder.config.embed_dim

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that a document embedding depends on, except text and prompt.

        Raises:
            WeightsError: the model was built from parts, so its checkpoint is unknown.
        """
        return encoder_fingerprint(
            require_provenance(self.provenance),
            emb_token_id=self.tokenizer.emb_token_id,
            dtype=self.decoder.options.dtype,
            max_document_tokens=self.options.max_document_tokens,
        )

    @overload
    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        n: int = 1,
        max_thought_tokens: int | None = None,
        return_thoughts: Literal[False] = False,
        think: bool = True,
        thoughts: Sequence[str] | None = None,
        task: str | None = None,
        instruction: str | None = None,
        query_ids: Sequence[str] | None = None,
        sampling: SamplingParams | None = None,
        show_progress_bar: bool = False,
    ) -> Float[np.ndarray, "*B D"]: ...

    @overload
    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        n: int = 1,
        max_thought_tokens: int | None = None,
        return_thoughts: Literal[True],
        think: bool = True,
        thoughts: Sequence[str] | None = None,
        task: str | None = None,
        instruction: str | None = None,
        query_ids: Sequence[str] | None = None,
        sampling: SamplingParams | None = None,
        show_progress_bar: bool = False,
    ) -> tuple[Float[np.ndarray, "*B D"], list[list[Thought]]]: ...

    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        n: int = 1,
        max_thought_tokens: int | None = None,
        return_thoughts: bool = False,
        think: bool = True,
        thoughts: Sequence[str] | None = None,
        task: str | None = None,
        instruction: str | None = None,
        query_ids: Sequence[str] | None = None,
        sampling: SamplingParams | None = None,
        show_progress_bar: bool = False,
    ) -> Float[np.ndarray, "*B D"] | tuple[Float[np.ndarray, "*B D"], list[list[Thought]]]:
        """Thinks about each query and embeds it at the end of its thought.

        Args:
            texts: one query (gives one embedding, [D]) or several ([B, D]).
            n: thoughts per query; the query's embedding is the normalized mean of theirs.
            max_thought_tokens: most tokens of a thought; default that of the options.
            return_thoughts: whether to return the thoughts too, a list per query.
            think: with False, the query is embedded without a thought, with a prompt that does not
                ask for one: a control for the effect of thinking, not the intended use.
            thoughts: user-supplied thoughts to embed instead of sampling, one text per query.
            task: name of an instruction in the preset.
            instruction: text of an instruction.
            query_ids: names of the random streams; default the texts. A thought depends on seed,
                query id and sample number, not on the other queries.
            sampling: temperature, filters and seed; default those of the options.
            show_progress_bar: whether to show a bar with the rate and the time left.

        Returns:
            Unit vectors in float32, and the sampled thoughts on request.

        Raises:
            DataError: an empty query, or the wrong number of `thoughts` or `query_ids`.
            ConfigError: `max_thought_tokens` or `n` below 1, arguments that exclude each other, or
                a prompt that leaves no room for its thought in the model's context.
            Interrupted: the interrupt was requested.
        """
        batch = [texts] if isinstance(texts, str) else list(texts)
        ids = batch if query_ids is None else list(query_ids)
        if len(ids) != len(batch):
            raise DataError(f"{len(batch)} queries but {len(ids)} query_ids")
        names = [f"query {name!r}" for name in ids]
        preset = self.preset
        if instruction is not None:
            if task is not None:
                raise ConfigError("give a task or an instruction, not both")
            preset = preset.with_instruction(instruction)
        prompts = tokenize_queries(
            self.tokenizer,
            preset,
            batch,
            max_tokens=self.options.max_query_tokens,
            task=task,
            think=think,
            names=names,
        )
        sampled: list[list[Thought]] = [[] for _ in batch]
        if think and thoughts is None:
            if max_thought_tokens is None:
                max_thought_tokens = self.options.max_thought_tokens
            sampled = self.think(
                [
                    Prompt(query_id=name, token_ids=prompt.ids.tolist())
                    for name, prompt in zip(ids, prompts, strict=True)
                ],
                n=n,
                max_thought_tokens=max_thought_tokens,
                sampling=sampling or self.options.sampling,
                show_progress_bar=show_progress_bar,
            )
            vectors = mean_embeddings(sampled, self.embed_dim)
        else:
            if n != 1 or max_thought_tokens is not None:
                raise ConfigError("n and max_thought_tokens apply only where thoughts are sampled")
            rows = self._complete_rows(prompts, thoughts, think)
            vectors = self._encoder.encode(
                rows, names=names, description="queries", show_progress_bar=show_progress_bar
            )
        result = vectors[0] if isinstance(texts, str) else vectors
        return (result, sampled) if return_thoughts else result

    def encode_document(
        self,
        texts: str | Sequence[str],
        *,
        document_ids: Sequence[str] | None = None,
        show_progress_bar: bool = False,
    ) -> Float[np.ndarray, "*B D"]:
        """Embeds documents in one pass without a thought; equal texts are encoded once.

        Args:
            texts: one document (gives one embedding, [D]) or several ([B, D]). Texts beyond
                `options.max_document_tokens` are truncated; see `count_truncated`.
            document_ids: names of the documents, for errors.
            show_progress_bar: whether to show a bar with tokens per second and the time left.

        Returns:
            Unit vectors in float32.

        Raises:
            DataError: an empty document, or an embedding that is not finite.
            Interrupted: the interrupt was requested.
        """
        batch = [texts] if isinstance(texts, str) else list(texts)
        names = [f"document {name!r}" for name in document_ids or map(str, range(len(batch)))]
        first = {text: index for index, text in reversed(list(enumerate(batch)))}
        distinct = sorted(first.values())
        rows = self.tokenize_documents([batch[i] for i in distinct], [names[i] for i in distinct])
        vectors = self._encoder.encode(
            rows,
            names=[names[i] for i in distinct],
            description="documents",
            show_progress_bar=show_progress_bar,
        )
        place = {index: row for row, index in enumerate(distinct)}
        vectors = vectors[[place[first[text]] for text in batch]]
        return vectors[0] if isinstance(texts, str) else vectors

    def encode_rows(
        self, rows: Sequence[PromptTokens], names: Sequence[str]
    ) -> tuple[Float[np.ndarray, "B D"], int]:
        """Unit vectors of tokenized documents, and how many slots, padding included, were computed.

        Raises:
            DataError: an embedding is not finite; says which of `names` it belongs to.
            Interrupted: the interrupt was requested.
        """
        before = self._encoder.slots
        vectors = self._encoder.encode(rows, names=names, description="documents")
        return vectors, self._encoder.slots - before

    def count_truncated(self, documents: Sequence[str]) -> int:
        """Number of these documents that `encode_document` truncates."""
        rows = self.tokenize_documents(documents, [f"document {i}" for i in range(len(documents))])
        return sum(row.truncated for row in rows)

    def similarity(
        self, a: Float[np.ndarray, "*A D"], b: Float[np.ndarray, "*B D"]
    ) -> Float[np.ndarray, "*C"]:
        """Cosine similarity of all pairs in float32: [A, B]; fewer dimensions for single vectors.

        Raises:
            DataError: a vector is zero or not finite.
        """
        return l2_normalize(a) @ l2_normalize(b).T

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
            card: facts about training and results for the model card; default: not trained.

        Raises:
            T1Error: the folder exists, or the write failed.
        """
        provenance, emb_id = require_provenance(self.provenance), self.tokenizer.emb_token_id
        stored_dtype = dtype or self.decoder.options.param_dtype
        parameters = by_path(nnx.state(self.decoder, nnx.Param))
        export_folder(
            Path(folder),
            {path: leaf.get_value() for path, leaf in parameters.items()},
            self.decoder.config,
            provenance.tokenizer,
            t1_metadata(provenance, self.preset, emb_id, stored_dtype),
            document_prompt(self.preset, self.tokenizer, self.options.max_document_tokens),
            card or ModelCardData(name=Path(folder).name),
            ExportOptions(max_shard_bytes=max_shard_bytes, overwrite=overwrite),
            other_fields=provenance.other_fields,
        )

    def think(
        self,
        prompts: Sequence[Prompt],
        *,
        n: int,
        max_thought_tokens: int,
        sampling: SamplingParams,
        show_progress_bar: bool = False,
    ) -> list[list[Thought]]:
        """Samples thoughts about tokenized prompts, as `encode_query` and rollouts do.

        Returns:
            The thoughts of each prompt, ordered by sample number.

        Raises: as `Sampler.think`, which takes the same arguments.
        """
        groups: list[list[Thought]] = [[] for _ in prompts]
        total = len(prompts) * n
        with track("thinking", total, "thoughts", shown=show_progress_bar) as advance:
            for index, thought in self._sampler.think(
                prompts, n=n, max_thought_tokens=max_thought_tokens, sampling=sampling
            ):
                groups[index].append(dataclasses.replace(thought, text=self._text_of(thought)))
                advance(1)
        return [sorted(thoughts, key=lambda thought: thought.sample) for thoughts in groups]

    def _text_of(self, thought: Thought) -> str:
        ends = {self.tokenizer.emb_token_id, *self.tokenizer.eos_ids}
        return self.tokenizer.decode([i for i in thought.token_ids.tolist() if i not in ends])

    def _complete_rows(
        self, prompts: Sequence[PromptTokens], thoughts: Sequence[str] | None, think: bool
    ) -> list[PromptTokens]:
        """Complete rows: prompt, user-supplied thought if any, `<emb_token>`."""
        if thoughts is None:
            return [self.tokenizer.append_emb_token(prompt) for prompt in prompts]
        if not think:
            raise ConfigError("thoughts cannot be given with think=False")
        if len(thoughts) != len(prompts):
            raise DataError(f"{len(prompts)} queries but {len(thoughts)} thoughts")
        encoded = [self.tokenizer.encode_thought(text) for text in thoughts]
        return [
            self.tokenizer.append_emb_token(prompt, thought)
            for prompt, thought in zip(prompts, encoded, strict=True)
        ]

    def tokenize_documents(self, texts: Sequence[str], names: Sequence[str]) -> list[PromptTokens]:
        """Document prompts with `<emb_token>`, for `encode_rows`; may run in another thread.

        Raises:
            DataError: an empty document; says which of `names`.
        """
        return tokenize_documents(
            self.tokenizer,
            self.preset,
            texts,
            max_tokens=self.options.max_document_tokens,
            names=names,
        )
