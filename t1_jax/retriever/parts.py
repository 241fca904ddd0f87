"""The parts of a retriever, and the fingerprints of what they compute."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import jax
from flax import nnx

from t1_jax.generate import Sampler, StopTokens
from t1_jax.interrupt import Interrupt
from t1_jax.model import Decoder
from t1_jax.parallel import MeshContext
from t1_jax.retriever.encoder import Encoder
from t1_jax.retriever.opening import (
    OpenedModel,
    RetrieverOptions,
    encoder_fingerprint,
    thought_fingerprint,
)
from t1_jax.retriever.resolve import Provenance, require_provenance
from t1_jax.retriever.thought_cache import ThoughtCache
from t1_jax.text import PromptPreset, PromptTokens, T1Tokenizer, tokenize_documents


class RetrieverParts:
    """Decoder, tokenizer and prompts, with the sampler and the encoder that use them."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: T1Tokenizer,
        preset: PromptPreset,
        mesh_context: MeshContext,
        *,
        options: RetrieverOptions | None = None,
        provenance: Provenance | None = None,
        opened: OpenedModel | None = None,
        interrupt: Interrupt | None = None,
        thought_cache: ThoughtCache | None = None,
    ) -> None:
        """Builds a retriever from its parts; `T1.load` is the usual way.

        Args:
            decoder: the language model, without an unmerged adapter.
            tokenizer: with `<emb_token>`.
            preset: prompts of queries and documents.
            mesh_context: mesh and rules of the decoder.
            options: lengths, sampling, batch shapes.
            provenance: where the weights came from; needed for saving and for fingerprints.
            opened: what it was loaded from; needed for `search`.
            interrupt: ends thinking and encoding early, for example when the machine is preempted.
            thought_cache: where `encode_query` looks for thoughts before it samples them.
        """
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.preset = preset
        self.mesh_context = mesh_context
        self.options = (options or RetrieverOptions()).within(decoder.config.max_positions)
        self.provenance = provenance
        self.opened = opened
        shapes = dataclasses.replace(self.options.shapes, batch_divisor=mesh_context.batch_divisor)
        stop = StopTokens(emb=tokenizer.emb_token_id, eos=tuple(sorted(tokenizer.eos_ids)))
        self.thought_cache = thought_cache
        self.sampler = Sampler(decoder, mesh_context, stop, shapes, interrupt=interrupt)
        self.encoder = Encoder(
            decoder, mesh_context, tokenizer, self.options.buckets, interrupt=interrupt
        )

    def __repr__(self) -> str:
        name = "built from parts" if self.provenance is None else Path(self.provenance.name).name
        size = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(self.decoder, nnx.Param)))
        return (
            f"T1({name}, {size / 1e6:.4g}M parameters, {self.embed_dim} dimensions, "
            f"{self.decoder.options.dtype}, prompts {self.preset.name})"
        )

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

    @cached_property
    def thought_fingerprint(self) -> str:
        """Hex SHA-256 of all that a thought depends on, except prompt and decoding.

        Raises:
            WeightsError: the model was built from parts, so its checkpoint is unknown.
        """
        platform = self.mesh_context.mesh.devices.flat[0].platform
        return thought_fingerprint(
            require_provenance(self.provenance),
            emb_token_id=self.tokenizer.emb_token_id,
            options=self.decoder.options,
            platform=platform,
        )

    def known_task(self, task: str | None) -> str | None:
        """The task if query prompts have an instruction for it, otherwise None."""
        return self.preset.known_task(task)

    def tokenize_documents(self, texts: Sequence[str], names: Sequence[str]) -> list[PromptTokens]:
        """Document prompts with `<emb_token>`, for `encoder`; may run in another thread.

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

    def count_truncated(self, documents: Sequence[str]) -> int:
        """Number of these documents that `encode_document` truncates."""
        rows = self.tokenize_documents(documents, [f"document {i}" for i in range(len(documents))])
        return sum(row.truncated for row in rows)
