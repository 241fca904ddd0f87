"""Everything about a model but its weights: tokenizer, prompts, provenance; adapters to bases."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from t1_jax.errors import WeightsError
from t1_jax.hub import (
    ADAPTERS,
    MODELS,
    Adapter,
    AdapterMetadata,
    Checkpoint,
    EmbToken,
    EmbTokenMode,
    ModelTokenizer,
    add_emb_token,
    check_adapter_fits,
    inherited_card,
    locate_model,
    open_checkpoint,
    read_adapter,
    tokenizer_hash,
    write_metadata,
)
from t1_jax.text import PromptPreset, T1Tokenizer, load_preset

_MODES: Mapping[str, EmbTokenMode] = {"append": "append", "unused": "unused", "spare": "spare"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a model's weights came from, as saving and fingerprints need it.

    Attributes:
        name: name of the base model, for the model card.
        location: path or known name of the checkpoint; stored in adapters.
        fingerprint: hex SHA-256 of the checkpoint's files.
        tokenizer: with `<emb_token>` and all the special tokens of the checkpoint.
        emb_token_mode: how `<emb_token>` got its row.
        stored_dtype: dtype of the checkpoint's tensors.
        trained_on: names of the data on which checkpoint and adapter were trained to retrieve;
            empty without such training, None if unknown.
        other_fields: fields of its `config.json` that do not affect the decoder; saving keeps them.
        card: license, training and results of the weights, for the card of an export.
    """

    name: str
    location: str
    fingerprint: str
    tokenizer: ModelTokenizer
    emb_token_mode: str
    stored_dtype: str
    trained_on: Sequence[str] | None = None
    other_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    card: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_untrained(self) -> bool:
        """Whether the weights are known to have had no retrieval training."""
        return self.trained_on is not None and not self.trained_on


def require_provenance(provenance: Provenance | None) -> Provenance:
    """Returns the provenance.

    Raises:
        WeightsError: there is none, as the model was built from parts.
    """
    if provenance is None:
        raise WeightsError(
            "this model was built from parts, so its checkpoint is unknown",
            hint="load it with T1.load, or give T1 a Provenance",
        )
    return provenance


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ResolvedModel:
    """A checkpoint whose files fit each other, before its weights are read.

    Attributes:
        checkpoint: of the base model.
        adapter: beside it, or None.
        tokenizer: with `<emb_token>`.
        emb: id of the token and how it got its row.
        preset: prompts of queries and documents.
        provenance: of the base model.
    """

    checkpoint: Checkpoint
    adapter: Adapter | None
    tokenizer: T1Tokenizer
    emb: EmbToken
    preset: PromptPreset
    provenance: Provenance


def resolve_model(
    checkpoint: Checkpoint,
    *,
    name: str,
    emb_token: EmbTokenMode,
    preset: str | Path | PromptPreset | None,
    adapter: Adapter | None = None,
) -> ResolvedModel:
    """Finds `<emb_token>` and prompts of a checkpoint, and checks its adapter.

    `name` is the path or name of the checkpoint; the other arguments are those of `T1.load`.

    Raises:
        WeightsError: the adapter belongs to another base model or tokenizer.
        ConfigError: an unknown preset.
    """
    prompt_preset = _preset(preset, checkpoint, adapter)
    if adapter is not None:
        # A base that had the token already keeps it, whatever the mode.
        emb_token = _MODES.get(adapter.metadata.emb_token_mode, "auto")
    tokenizer, emb = add_emb_token(
        checkpoint.tokenizer, checkpoint.config.vocab_size, mode=emb_token
    )
    if adapter is not None:
        _check_adapter(adapter, checkpoint, tokenizer, emb)
    metadata = checkpoint.metadata
    return ResolvedModel(
        checkpoint=checkpoint,
        adapter=adapter,
        tokenizer=_text_tokenizer(tokenizer, emb.id),
        emb=emb,
        preset=prompt_preset,
        provenance=Provenance(
            name=metadata.base_model if metadata else name,
            location=name,
            fingerprint=checkpoint.fingerprint,
            tokenizer=tokenizer,
            emb_token_mode=metadata.emb_token_mode if metadata else emb.mode,
            stored_dtype=checkpoint.stored_dtype,
            trained_on=_trained_on(checkpoint, adapter),
            other_fields=checkpoint.other_fields,
            card=_card(name, checkpoint, adapter),
        ),
    )


def _trained_on(checkpoint: Checkpoint, adapter: Adapter | None) -> Sequence[str] | None:
    metadata = checkpoint.metadata if adapter is None else adapter.metadata
    return () if metadata is None else metadata.trained_on


def _card(name: str, checkpoint: Checkpoint, adapter: Adapter | None) -> dict[str, str]:
    """License, training and results of the weights with their adapter."""
    metadata = checkpoint.metadata if adapter is None else adapter.metadata
    base = MODELS.get(metadata.base_model if metadata else name)
    card = inherited_card(metadata, base.license if base else None)
    if adapter is not None:
        card["training"] = f"{card['training']}\n\nThe adapter `{adapter.path.name}` is merged."
    return card


def _check_adapter(
    adapter: Adapter,
    checkpoint: Checkpoint,
    tokenizer: ModelTokenizer,
    emb: EmbToken,
    *,
    any_base: bool = False,
) -> None:
    """Rejects an adapter that was trained with another tokenizer or, unless `any_base`, base."""
    metadata = adapter.metadata
    if metadata.base_fingerprint != checkpoint.fingerprint and not any_base:
        raise WeightsError(
            f"{adapter.path} belongs to {metadata.base_model} with fingerprint "
            f"{metadata.base_fingerprint}; {checkpoint.path} has {checkpoint.fingerprint}",
            hint="load it with the base model it was trained on. If these are the same weights, "
            f"saved again: t1 rebase {quote(str(adapter.path))} {quote(str(checkpoint.path))} "
            "--force",
        )
    if (metadata.emb_token_id, metadata.tokenizer) != (emb.id, tokenizer_hash(tokenizer)):
        raise WeightsError(
            f"{adapter.path} was trained with <emb_token> at {metadata.emb_token_id} of a "
            f"tokenizer with hash {metadata.tokenizer}; {checkpoint.path} has it at {emb.id}, hash "
            f"{tokenizer_hash(tokenizer)}",
            hint="load it with the base model and tokenizer it was trained with",
        )


def open_base(adapter: Adapter) -> Checkpoint:
    """The base model that an adapter names.

    Raises:
        WeightsError: it is not found; the hint says how to name another place.
    """
    name = adapter.metadata.base_model
    try:
        return open_checkpoint(locate_model(name))
    except WeightsError as error:
        hint = error.hint
        if adapter.path not in ADAPTERS.values():
            hint = (
                f"{hint or 'restore it'}. If the base model is elsewhere now: "
                f"t1 rebase {quote(str(adapter.path))} BASE"
            )
        raise WeightsError(
            f"{adapter.path.name} is an adapter of {name}: {error.message}", hint=hint
        ) from error


def rebase_adapter(folder: Path, base: str | Path, *, force: bool = False) -> AdapterMetadata:
    """Sets the base model that an adapter names; its weights do not change.

    Args:
        folder: folder of the adapter; its `t1.json` is replaced.
        base: path or known name of the base model.
        force: accept a base with other files than the adapter was trained on, for example the
            same weights saved again. Tokenizer and shapes must always fit.

    Raises:
        WeightsError: another base model, another tokenizer, or tensors of other shapes.
    """
    adapter, checkpoint = read_adapter(folder), open_checkpoint(locate_model(base))
    mode = _MODES.get(adapter.metadata.emb_token_mode, "auto")
    tokenizer, emb = add_emb_token(checkpoint.tokenizer, checkpoint.config.vocab_size, mode=mode)
    _check_adapter(adapter, checkpoint, tokenizer, emb, any_base=force)
    check_adapter_fits(adapter, checkpoint.config)
    location = str(Path(base).resolve()) if Path(base).exists() else str(base)
    metadata = dataclasses.replace(
        adapter.metadata, base_model=location, base_fingerprint=checkpoint.fingerprint
    )
    write_metadata(folder, metadata)
    return metadata


def _preset(
    requested: str | Path | PromptPreset | None, checkpoint: Checkpoint, adapter: Adapter | None
) -> PromptPreset:
    """The requested preset, else that of the adapter or the checkpoint, else `t1`."""
    if isinstance(requested, PromptPreset):
        return requested
    if requested is not None:
        return load_preset(requested)
    path, metadata = checkpoint.path, checkpoint.metadata
    if adapter is not None:
        path, metadata = adapter.path, adapter.metadata
    if metadata is None:
        return load_preset("t1")
    fields: Mapping[str, Any] = metadata.prompt
    try:
        preset = PromptPreset(**{key: value for key, value in fields.items() if key != "hash"})
    except (AttributeError, TypeError) as error:
        raise WeightsError(
            f"{path}: the prompts in t1.json are damaged: {error}",
            hint="export the model again, or name a preset",
        ) from error
    if preset.hash != fields.get("hash"):
        raise WeightsError(
            f"{path}: the prompts in t1.json do not match the hash stored with them",
            hint="export the model again, or name a preset",
        )
    return preset


def _text_tokenizer(tokenizer: ModelTokenizer, emb_id: int) -> T1Tokenizer:
    pad = tokenizer.id_of_role("pad_token")
    candidates = [pad, *tokenizer.eos_ids]
    return T1Tokenizer(
        tokenizer.backend,
        emb_token_id=emb_id,
        eos_ids=tokenizer.eos_ids,
        pad_id=next((i for i in candidates if i is not None), 0),
    )
