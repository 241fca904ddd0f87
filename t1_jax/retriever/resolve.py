"""What is known of a retriever before its weights are read: tokens, prompts, where it came from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from t1_jax.errors import WeightsError
from t1_jax.hub import (
    Adapter,
    AdapterMetadata,
    Checkpoint,
    EmbToken,
    EmbTokenMode,
    ModelTokenizer,
    add_emb_token,
    check_adapter_fits,
    locate_model,
    open_checkpoint,
    read_adapter,
    tokenizer_hash,
    write_metadata,
)
from t1_jax.retriever.provenance import Provenance
from t1_jax.text import PromptPreset, T1Tokenizer, load_preset

_MODES: Mapping[str, EmbTokenMode] = {"append": "append", "unused": "unused", "spare": "spare"}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ResolvedModel:
    """What is known of a retriever before its weights are read.

    Attributes:
        tokenizer: with `<emb_token>`.
        emb: how the token got its id.
        preset: how queries and documents are put to the model.
        provenance: where all of it came from.
    """

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
    """All that belongs to a checkpoint but the decoder; nothing is compiled.

    Raises:
        WeightsError: the adapter is one of another base model or tokenizer.
    """
    prompts = _preset(preset, checkpoint, adapter)
    if adapter is not None:
        # A base that had the token already keeps it, whatever the mode.
        emb_token = _MODES.get(adapter.metadata.emb_token_mode, "auto")
    tokenizer, emb = add_emb_token(
        checkpoint.tokenizer, checkpoint.config.vocab_size, mode=emb_token
    )
    if adapter is not None:
        _check_adapter(adapter, checkpoint, tokenizer, emb)
    known = checkpoint.metadata
    return ResolvedModel(
        tokenizer=_text_tokenizer(tokenizer, emb.id),
        emb=emb,
        preset=prompts,
        provenance=Provenance(
            name=known.base_model if known else name,
            location=name,
            fingerprint=checkpoint.fingerprint,
            tokenizer=tokenizer,
            emb_token_mode=known.emb_token_mode if known else emb.mode,
            stored_dtype=checkpoint.stored_dtype,
            other_fields=checkpoint.other_fields,
        ),
    )


def _check_adapter(
    adapter: Adapter, checkpoint: Checkpoint, tokenizer: ModelTokenizer, emb: EmbToken
) -> None:
    """Refuses an adapter that was trained beside other weights or on other tokens."""
    stated = adapter.metadata
    if stated.base_fingerprint != checkpoint.fingerprint:
        raise WeightsError(
            f"{adapter.path} belongs to {stated.base_model} with fingerprint "
            f"{stated.base_fingerprint}; {checkpoint.path} has {checkpoint.fingerprint}",
            hint="load it beside the base model it was trained on. If these are the same weights, "
            f"saved again: t1 rebase {quote(str(adapter.path))} {quote(str(checkpoint.path))} "
            "--force",
        )
    _check_tokens(adapter, checkpoint, tokenizer, emb)


def _check_tokens(
    adapter: Adapter, checkpoint: Checkpoint, tokenizer: ModelTokenizer, emb: EmbToken
) -> None:
    """Refuses an adapter that was trained on other tokens."""
    stated = adapter.metadata
    if (stated.emb_token_id, stated.tokenizer) != (emb.id, tokenizer_hash(tokenizer)):
        raise WeightsError(
            f"{adapter.path} was trained with <emb_token> at {stated.emb_token_id} of a tokenizer "
            f"with hash {stated.tokenizer}; {checkpoint.path} has it at {emb.id}, hash "
            f"{tokenizer_hash(tokenizer)}",
            hint="load it beside the base model and tokenizer it was trained with",
        )


def open_base(adapter: Adapter) -> Checkpoint:
    """The base model that an adapter names.

    Raises:
        WeightsError: it is not here; the remedy says how to name another place.
    """
    name = adapter.metadata.base_model
    try:
        return open_checkpoint(locate_model(name))
    except WeightsError as error:
        raise WeightsError(
            f"{adapter.path} is an adapter of {name}: {error.message}",
            hint=f"{error.hint or 'bring it back'}. Where the base model lies elsewhere now: "
            f"t1 rebase {quote(str(adapter.path))} BASE",
        ) from error


def rebase_adapter(folder: Path, base: str | Path, *, force: bool = False) -> AdapterMetadata:
    """Makes an adapter name another place for its base model; its weights stay as they are.

    Args:
        folder: of the adapter; its `t1.json` is replaced.
        base: path or known name of the base model.
        force: accept a base whose files differ from those that the adapter was trained on, for
            example the same weights saved again. Tokens and shapes must fit in any case.

    Raises:
        WeightsError: another base model, other tokens, or tensors of other shapes.
    """
    adapter, checkpoint = read_adapter(folder), open_checkpoint(locate_model(base))
    mode = _MODES.get(adapter.metadata.emb_token_mode, "auto")
    tokenizer, emb = add_emb_token(checkpoint.tokenizer, checkpoint.config.vocab_size, mode=mode)
    if force:
        _check_tokens(adapter, checkpoint, tokenizer, emb)
    else:
        _check_adapter(adapter, checkpoint, tokenizer, emb)
    check_adapter_fits(adapter, checkpoint.config)
    location = str(Path(base).resolve()) if Path(base).exists() else str(base)
    metadata = dataclasses.replace(
        adapter.metadata, base_model=location, base_fingerprint=checkpoint.fingerprint
    )
    write_metadata(folder, metadata)
    return metadata


def _preset(
    asked: str | Path | PromptPreset | None, checkpoint: Checkpoint, adapter: Adapter | None
) -> PromptPreset:
    """The preset asked for, else the adapter's or the checkpoint's own, else T1's."""
    if isinstance(asked, PromptPreset):
        return asked
    if asked is not None:
        return load_preset(asked)
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
            f"{path}: the prompts in t1.json do not have the hash that stands there",
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
