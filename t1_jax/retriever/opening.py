"""Opening a model without its weights: its options, and what can be checked before loading."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from t1_jax.errors import ConfigError
from t1_jax.generate import BatchShapes, SamplingParams, check_thought_limits
from t1_jax.hub import (
    DocumentPrompt,
    EmbTokenMode,
    T1Metadata,
    check_export,
    is_adapter,
    locate_model,
    open_checkpoint,
    read_adapter,
)
from t1_jax.model import ModelOptions
from t1_jax.parallel import MeshContext
from t1_jax.retriever.resolve import Provenance, ResolvedModel, open_base, resolve_model
from t1_jax.retriever.thought_cache import ThoughtCache
from t1_jax.text import (
    CANDIDATE_TOKENS,
    BucketConfig,
    PromptPreset,
    T1Tokenizer,
    tokenize_documents,
    tokenize_queries,
)

if TYPE_CHECKING:
    from t1_jax.retriever.t1 import T1

DEFAULT_MODEL = "t1-smollm2-135m"
"""The model of `T1.load()` and of every command that retrieves: an adapter in this package."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrieverOptions:
    """Lengths, sampling and batch shapes; the authors of T1 published no defaults.

    Attributes:
        max_query_tokens: longest query prompt; the query is truncated, never the template.
        max_document_tokens: longest document with its template and `<emb_token>`; at most the
            model's context.
        max_thought_tokens: most tokens of a thought, `<emb_token>` not counted.
        sampling: how thoughts are sampled; greedy by default.
        shapes: shapes of batches for thinking.
        buckets: shapes of batches for encoding.
    """

    max_query_tokens: int = 1024
    max_document_tokens: int = 2048
    max_thought_tokens: int = 256
    sampling: SamplingParams = dataclasses.field(
        default_factory=lambda: SamplingParams(temperature=0.0)
    )
    shapes: BatchShapes = dataclasses.field(default_factory=BatchShapes)
    buckets: BucketConfig = dataclasses.field(default_factory=BucketConfig)

    def __post_init__(self) -> None:
        for name in ("max_query_tokens", "max_document_tokens", "max_thought_tokens"):
            if self.__dict__[name] < 1:
                raise ConfigError(f"{name} must be at least 1, got {self.__dict__[name]}")

    def within(self, max_positions: int) -> "RetrieverOptions":
        """These options for a model with this context, which bounds `max_document_tokens`."""
        return dataclasses.replace(
            self, max_document_tokens=min(self.max_document_tokens, max_positions)
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OpenedModel:
    """A model that is ready to load: `load` reads its weights.

    Attributes:
        name: the path or name that was opened.
        resolved: checkpoint, adapter, tokenizer and prompts.
        dtype: dtype of weights and activations.
        options: lengths within the model's context, sampling, batch shapes.
    """

    name: str
    resolved: ResolvedModel
    dtype: str
    options: RetrieverOptions

    @property
    def preset(self) -> PromptPreset:
        """Prompts of queries and documents."""
        return self.resolved.preset

    @property
    def provenance(self) -> Provenance:
        """Provenance of the loaded weights; a merged adapter changes the fingerprint."""
        provenance, adapter = self.resolved.provenance, self.resolved.adapter
        if adapter is None:
            return provenance
        both = f"{provenance.fingerprint} {adapter.fingerprint}"
        return dataclasses.replace(
            provenance, fingerprint=hashlib.sha256(both.encode()).hexdigest()
        )

    @property
    def untrained_warning(self) -> str | None:
        """A line for a model without retrieval training; None for all others."""
        if not self.provenance.is_untrained:
            return None
        return (
            f"{self.provenance.location} was never trained to retrieve: its embeddings rank "
            f"documents almost at random. {DEFAULT_MODEL} is trained."
        )

    @property
    def fingerprint(self) -> str:
        """`T1.fingerprint` of the loaded model."""
        return encoder_fingerprint(
            self.provenance,
            emb_token_id=self.resolved.emb.id,
            dtype=self.dtype,
            max_document_tokens=self.options.max_document_tokens,
        )

    def check_queries(
        self,
        texts: Sequence[str],
        *,
        task: str | None = None,
        instruction: str | None = None,
        think: bool = True,
        n: int = 1,
        max_thought_tokens: int | None = None,
        sampling: SamplingParams | None = None,
        names: Sequence[str] | None = None,
        candidates: int = 0,
    ) -> None:
        """Rejects queries that `T1.encode_query` would reject, before the weights are read.

        The arguments are those of `T1.encode_query`, `names` of the queries for errors, and
        `candidates`, the number of titles that each prompt will show; the longest are assumed.

        Raises:
            DataError: an empty query, or one that is not valid Unicode.
            ConfigError: several thoughts at temperature 0, the prompt does not fit into
                `max_query_tokens`, prompt and thought do not fit into the model's context, or
                candidates for prompts that show none.
        """
        if candidates:
            self.preset.require_candidates()
        preset = self.preset if instruction is None else self.preset.with_instruction(instruction)
        prompts = tokenize_queries(
            self.resolved.tokenizer,
            preset,
            texts,
            max_tokens=self.options.max_query_tokens,
            task=task if instruction is None else None,
            think=think,
            names=names,
            candidates=[["x"]] * len(texts) if candidates else None,
        )
        if not think and (n != 1 or max_thought_tokens is not None):
            raise ConfigError("n and max_thought_tokens apply only where thoughts are sampled")
        if max_thought_tokens is None:
            max_thought_tokens = self.options.max_thought_tokens
        check_thought_limits(n, max_thought_tokens, sampling or self.options.sampling)
        thought_tokens = max_thought_tokens if think else 0
        longest = max((len(prompt.ids) for prompt in prompts), default=0)
        longest += candidates * (CANDIDATE_TOKENS + 1)  # each title is a line
        needed, most = longest + thought_tokens + 1, self.resolved.checkpoint.config.max_positions
        if needed > most:
            limit = "up to " if candidates else ""
            raise ConfigError(
                f"the longest query prompt has {limit}{longest} tokens; with a thought of up to "
                f"{thought_tokens} and <emb_token> it needs {needed} positions; the model has "
                f"{most}",
                hint="lower max_thought_tokens, or "
                + ("show fewer candidates" if candidates else "shorten the queries"),
            )

    def check_document_prompt(self) -> None:
        """Raises a ConfigError if tokenizer or `max_document_tokens` do not fit the prompt."""
        most = self.options.max_document_tokens
        tokenize_documents(self.resolved.tokenizer, self.preset, ["x"], max_tokens=most)

    def check_export(self, folder: Path) -> None:
        """Rejects an export that could not be written, before the weights are read.

        Raises:
            T1Error: as `check_savable`; or the export would replace the model that is read.
        """
        self.check_document_prompt()
        source = self.resolved.adapter or self.resolved.checkpoint
        if folder.resolve() in (source.path.resolve(), *source.path.resolve().parents):
            raise ConfigError(
                f"{folder} holds {source.path}, which is to be read, and would be replaced",
                hint="choose another folder",
            )
        most = self.options.max_document_tokens
        check_savable(self.resolved, dtype=self.dtype, max_document_tokens=most)

    def load(
        self,
        mesh_context: MeshContext | None = None,
        *,
        attention: str = "xla",
        thought_cache: ThoughtCache | None = None,
    ) -> "T1":
        """Reads the weights; see `T1.load`."""
        from t1_jax.parallel import default_mesh_context
        from t1_jax.retriever.loading import load_opened

        return load_opened(
            self,
            mesh_context or default_mesh_context(),
            attention=attention,
            thought_cache=thought_cache,
        )


def open_model(
    path_or_name: str | Path = DEFAULT_MODEL,
    *,
    adapter: str | Path | None = None,
    dtype: str = "bfloat16",
    emb_token: EmbTokenMode = "auto",
    preset: str | Path | PromptPreset | None = None,
    options: RetrieverOptions | None = None,
) -> OpenedModel:
    """Opens what `T1.load` loads without its weights; the arguments are those of `T1.load`.

    Raises:
        WeightsError: no usable model, or the adapter belongs to another base model.
        ConfigError: an unknown preset.
    """
    name, path = str(path_or_name), locate_model(path_or_name)
    peft = None if adapter is None else read_adapter(locate_model(adapter))
    if peft is None and is_adapter(path):
        peft = read_adapter(path)
        name = peft.metadata.base_model
        checkpoint = open_base(peft)
    else:
        checkpoint = open_checkpoint(path)
    return OpenedModel(
        name=str(path_or_name),
        resolved=resolve_model(
            checkpoint, name=name, emb_token=emb_token, preset=preset, adapter=peft
        ),
        dtype=checkpoint.stored_dtype if dtype == "stored" else dtype,
        options=(options or RetrieverOptions()).within(checkpoint.config.max_positions),
    )


def document_prompt(
    preset: PromptPreset, tokenizer: T1Tokenizer, max_tokens: int
) -> DocumentPrompt:
    """The document prompt in the form that sentence-transformers needs.

    Raises:
        ConfigError: plain words follow the text, which sentence-transformers cannot express, or
            the template does not fit the tokenizer.
    """
    parts = tokenizer.split_template(preset.document_template, preset.instruction())
    if parts.text_suffix:
        raise ConfigError(
            f"the preset {preset.name} has words between {{text}} and the next special token "
            f"({parts.text_suffix!r}), which sentence-transformers cannot express",
            hint="end {text} with a special token in document_template",
        )
    return DocumentPrompt(
        head_ids=parts.head_ids,
        text_prefix=parts.text_prefix,
        tail_ids=(*parts.tail_ids, tokenizer.emb_token_id),
        max_tokens=max_tokens,
    )


def encoder_fingerprint(
    provenance: Provenance, *, emb_token_id: int, dtype: str, max_document_tokens: int
) -> str:
    """Hex SHA-256 of all that a document embedding depends on, except text and prompt."""
    parts = {
        "weights": provenance.fingerprint,
        "emb_token_id": emb_token_id,
        "dtype": dtype,
        "max_document_tokens": max_document_tokens,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def thought_fingerprint(
    provenance: Provenance, *, emb_token_id: int, options: ModelOptions, platform: str
) -> str:
    """Hex SHA-256 of all that a thought depends on, except prompt and decoding."""
    parts = {
        "weights": provenance.fingerprint,
        "emb_token_id": emb_token_id,
        "options": dataclasses.asdict(options),
        "platform": platform,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check_savable(resolved: ResolvedModel, *, dtype: str, max_document_tokens: int) -> None:
    """Rejects a model that could not be saved with weights of this dtype; needs no weights.

    Raises:
        T1Error: as `check_export` of `t1_jax.hub`; or the preset has words after `{text}`.
    """
    check_export(
        dataclasses.replace(resolved.checkpoint.config, vocab_size=resolved.emb.vocab_size),
        resolved.provenance.tokenizer,
        t1_metadata(resolved.provenance, resolved.preset, resolved.emb.id, dtype),
        document_prompt(resolved.preset, resolved.tokenizer, max_document_tokens),
    )


def t1_metadata(
    provenance: Provenance, preset: PromptPreset, emb_id: int, dtype: str
) -> T1Metadata:
    """The contents of `t1.json` for a saved model."""
    return T1Metadata(
        emb_token_id=emb_id,
        emb_token_mode=provenance.emb_token_mode,
        stored_dtype=dtype,
        prompt={**dataclasses.asdict(preset), "hash": preset.hash},
        base_model=provenance.name,
        base_fingerprint=provenance.fingerprint,
        trained_on=provenance.trained_on,
    )
