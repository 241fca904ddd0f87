"""A model before its weights are read: what can be known and checked without them."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from t1_jax.errors import ConfigError
from t1_jax.hub import (
    Adapter,
    Checkpoint,
    DocumentPrompt,
    EmbTokenMode,
    T1Metadata,
    check_export,
    is_adapter,
    locate_model,
    open_checkpoint,
    read_adapter,
)
from t1_jax.model import DecoderConfig
from t1_jax.parallel import MeshContext
from t1_jax.retriever.options import RetrieverOptions
from t1_jax.retriever.provenance import Provenance
from t1_jax.retriever.resolve import ResolvedModel, open_base, resolve_model
from t1_jax.text import PromptPreset, T1Tokenizer, tokenize_documents, tokenize_queries

if TYPE_CHECKING:
    from t1_jax.retriever.t1 import T1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OpenedModel:
    """A checkpoint whose files fit each other; `load` reads its weights.

    Attributes:
        checkpoint: of the base model.
        adapter: to merge into it.
        resolved: tokenizer, prompts, and where they came from.
        dtype: of weights and activations.
        options: lengths within the model's context, thinking, batch shapes.
    """

    checkpoint: Checkpoint
    adapter: Adapter | None
    resolved: ResolvedModel
    dtype: str
    options: RetrieverOptions

    @property
    def preset(self) -> PromptPreset:
        """How queries and documents are put to the model."""
        return self.resolved.preset

    @property
    def provenance(self) -> Provenance:
        """Where the weights come from; merged weights have a fingerprint of their own."""
        provenance = self.resolved.provenance
        if self.adapter is None:
            return provenance
        both = f"{provenance.fingerprint} {self.adapter.fingerprint}"
        return dataclasses.replace(
            provenance, fingerprint=hashlib.sha256(both.encode()).hexdigest()
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
        names: Sequence[str] | None = None,
    ) -> None:
        """Refuses what `T1.encode_query` would refuse for the lengths of prompts and thoughts.

        Args:
            texts: the queries.
            task: name of an instruction in the preset.
            instruction: the instruction itself.
            think: whether thoughts are drawn.
            n: thoughts per query.
            max_thought_tokens: most tokens of a thought; default that of the options.
            names: what an error calls each query.

        Raises:
            DataError: an empty query, or one that is not valid Unicode.
            ConfigError: the prompt does not fit into `max_query_tokens`, or a prompt and a thought
                do not fit into the model's context.
        """
        preset = self.preset if instruction is None else self.preset.with_instruction(instruction)
        prompts = tokenize_queries(
            self.resolved.tokenizer,
            preset,
            texts,
            max_tokens=self.options.max_query_tokens,
            task=task if instruction is None else None,
            think=think,
            names=names,
        )
        if not think and (n != 1 or max_thought_tokens is not None):
            raise ConfigError("n and budget apply only where thoughts are drawn")
        max_thought_tokens = (
            self.options.max_thought_tokens if max_thought_tokens is None else max_thought_tokens
        )
        if max_thought_tokens < 1:
            raise ConfigError(
                f"a thought's budget must be at least 1 token, got {max_thought_tokens}"
            )
        if n < 1:
            raise ConfigError(f"the number of thoughts must be at least 1, got {n}")
        longest = max((len(prompt.ids) for prompt in prompts), default=0)
        needed, most = (
            longest + (max_thought_tokens if think else 0) + 1,
            self.checkpoint.config.max_positions,
        )
        if needed > most:
            raise ConfigError(
                f"the longest query prompt has {longest} tokens; with a thought of up to "
                f"{max_thought_tokens if think else 0} and <emb_token> it needs {needed}; "
                f"the model has {most}",
                hint="lower the budget, or shorten the queries",
            )

    def check_document_prompt(self) -> None:
        """Refuses a document prompt that does not fit this tokenizer or `max_document_tokens`.

        Raises:
            ConfigError: it does not.
        """
        tokenize_documents(
            self.resolved.tokenizer,
            self.preset,
            ["x"],
            max_tokens=self.options.max_document_tokens,
        )

    def check_export(self, folder: Path) -> None:
        """Rejects an export that could not be written, before the weights are read.

        Raises:
            T1Error: see `check_savable`; or `folder` holds the model that is to be read.
        """
        self.check_document_prompt()
        source = self.checkpoint if self.adapter is None else self.adapter
        if folder.resolve() in (source.path.resolve(), *source.path.resolve().parents):
            raise ConfigError(
                f"{folder} holds {source.path}, which is to be read, and would be replaced",
                hint="choose another folder",
            )
        check_savable(
            self.resolved,
            self.checkpoint.config,
            dtype=self.dtype,
            max_document_tokens=self.options.max_document_tokens,
        )

    def load(self, mesh_context: MeshContext | None = None, *, attention: str = "xla") -> "T1":
        """The retriever, its weights read; see `T1.load`."""
        from t1_jax.parallel import default_mesh_context
        from t1_jax.retriever.loading import load_opened

        return load_opened(self, mesh_context or default_mesh_context(), attention=attention)


def open_model(
    path_or_name: str | Path,
    *,
    adapter: str | Path | None = None,
    dtype: str = "bfloat16",
    emb_token: EmbTokenMode = "auto",
    preset: str | Path | PromptPreset | None = None,
    options: RetrieverOptions | None = None,
) -> OpenedModel:
    """Opens what `T1.load` loads, and reads no weight; the arguments are those of `T1.load`.

    Raises:
        WeightsError: nothing usable is there, or the adapter is of another base model.
        ConfigError: an unknown preset.
    """
    name, beside = str(path_or_name), None if adapter is None else read_adapter(Path(adapter))
    if beside is None and is_adapter(Path(path_or_name)):
        beside = read_adapter(Path(path_or_name))
        name = beside.metadata.base_model
        checkpoint = open_base(beside)
    else:
        checkpoint = open_checkpoint(locate_model(name))
    resolved = resolve_model(
        checkpoint, name=name, emb_token=emb_token, preset=preset, adapter=beside
    )
    return OpenedModel(
        checkpoint=checkpoint,
        adapter=beside,
        resolved=resolved,
        dtype=checkpoint.stored_dtype if dtype == "stored" else dtype,
        options=(options or RetrieverOptions()).within(checkpoint.config.max_positions),
    )


def document_prompt(
    preset: PromptPreset, tokenizer: T1Tokenizer, max_tokens: int
) -> DocumentPrompt:
    """The document prompt as sentence-transformers needs it.

    Raises:
        ConfigError: plain text follows `{text}`, which sentence-transformers does not support, or
            the template does not match the tokenizer.
    """
    parts = tokenizer.split_template(preset.document_template, preset.instruction())
    if parts.text_suffix:
        raise ConfigError(
            f"the preset {preset.name} has text between {{text}} and the next special token "
            f"({parts.text_suffix!r}), which sentence-transformers does not support",
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
    """Hex SHA-256 of all that a document's vector depends on but its text and the prompt."""
    parts = {
        "weights": provenance.fingerprint,
        "emb_token_id": emb_token_id,
        "dtype": dtype,
        "max_document_tokens": max_document_tokens,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check_savable(
    resolved: ResolvedModel, config: DecoderConfig, *, dtype: str, max_document_tokens: int
) -> None:
    """Rejects a model that could not be saved as a Hugging Face folder; needs no weights.

    Args:
        resolved: as `settle` found it.
        config: of the checkpoint.
        dtype: that the weights will be stored in.
        max_document_tokens: where documents are cut.

    Raises:
        T1Error: see `check_export`; or the preset has words after `{text}`.
    """
    check_export(
        dataclasses.replace(config, vocab_size=resolved.emb.vocab_size),
        resolved.provenance.tokenizer,
        t1_metadata(resolved.provenance, resolved.preset, resolved.emb.id, dtype),
        document_prompt(resolved.preset, resolved.tokenizer, max_document_tokens),
    )


def t1_metadata(
    provenance: Provenance, preset: PromptPreset, emb_id: int, dtype: str
) -> T1Metadata:
    """What `t1.json` of a saved model says."""
    return T1Metadata(
        emb_token_id=emb_id,
        emb_token_mode=provenance.emb_token_mode,
        stored_dtype=dtype,
        prompt={**dataclasses.asdict(preset), "hash": preset.hash},
        base_model=provenance.name,
        base_fingerprint=provenance.fingerprint,
    )
