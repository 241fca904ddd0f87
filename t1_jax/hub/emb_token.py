"""Adds `<emb_token>` to a tokenizer: a new row, an unused row, or a renamed spare token."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Tokenizer

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.hub.tokenizer import EMB_TOKEN, ModelTokenizer

EmbTokenMode = Literal["auto", "append", "unused", "spare"]

# Special tokens that occur in no training text and no chat template, in order of preference.
SPARE_TOKENS = ("<empty_output>",)


@dataclass(frozen=True, kw_only=True)
class EmbToken:
    """The position of `<emb_token>` in the vocabulary.

    Attributes:
        id: token id, which is also its row.
        mode: `append`, `unused` or `spare`; `existing` if the tokenizer already had the token.
        vocab_size: number of rows of the vocabulary, including `<emb_token>`.
    """

    id: int
    mode: str
    vocab_size: int

    @property
    def untrained(self) -> bool:
        """Whether its row is untrained and must be initialized."""
        return self.mode != "existing"


def add_emb_token(
    tokenizer: ModelTokenizer,
    vocab_size: int,
    *,
    mode: EmbTokenMode = "auto",
    token_id: int | None = None,
    spare: str | None = None,
) -> tuple[ModelTokenizer, EmbToken]:
    """A tokenizer with `<emb_token>`, and the token's position.

    Args:
        tokenizer: tokenizer of the checkpoint; returned unchanged if it already has the token.
        vocab_size: number of rows of the checkpoint's vocabulary.
        mode: `append`: the id after the last assigned one; the vocabulary ends there, and
            unassigned rows beyond it are dropped (the layout of MRE-T1: 151,670 rows).
            `unused`: a row without a token; the vocabulary keeps its size.
            `spare`: an unused special token is renamed; the vocabulary keeps its size.
            `auto`: `unused` if there is such a row (Qwen), else `spare` if there is a known spare
            token (SmolLM2), else `append` (Llama 3).
        token_id: row for the mode `unused`; None means the first free one.
        spare: token to rename in the mode `spare`; None means the first known one.

    Raises:
        ConfigError: the row is assigned, or the spare token is in use.
        UnsupportedError: the ids of this tokenizer cannot have gaps.
    """
    if tokenizer.emb_token_id is not None:
        existing = EmbToken(id=tokenizer.emb_token_id, mode="existing", vocab_size=vocab_size)
        return tokenizer, existing
    assigned = tokenizer.assigned(vocab_size).tolist()
    if mode == "auto":
        spare_or_append = "spare" if _first_spare(tokenizer) else "append"
        mode = spare_or_append if all(assigned) else "unused"
    if mode == "spare":
        return _rename_spare(tokenizer, vocab_size, spare)
    if mode == "append":
        row = len(assigned) - assigned[::-1].index(True)
        return _added(tokenizer, row), EmbToken(id=row, mode=mode, vocab_size=row + 1)
    row = _unused_row(assigned, token_id)
    return _added(tokenizer, row), EmbToken(id=row, mode=mode, vocab_size=vocab_size)


def _unused_row(assigned: list[bool], token_id: int | None) -> int:
    """The requested row, or the first free one.

    Raises:
        ConfigError: the row is assigned, or no row is free.
    """
    first = assigned.index(False) if False in assigned else None
    row = first if token_id is None else token_id
    if row is None:
        raise ConfigError(
            f"all {len(assigned)} rows of the vocabulary are assigned",
            hint="choose the mode `spare` or `append`",
        )
    if not 0 <= row < len(assigned) or assigned[row]:
        raise ConfigError(
            f"row {row} is not free among {len(assigned)} rows",
            hint="choose another mode" if first is None else f"row {first} is free",
        )
    return row


def _rename_spare(
    tokenizer: ModelTokenizer, vocab_size: int, spare: str | None
) -> tuple[ModelTokenizer, EmbToken]:
    token = spare or _first_spare(tokenizer)
    row = None if token is None else tokenizer.backend.token_to_id(token)
    if token is None or row is None or not _is_spare(tokenizer, token):
        raise ConfigError(
            f"no spare token to rename: {token or ', '.join(SPARE_TOKENS)} is not a special token, "
            "or is in use",
            hint="name another token with `spare`, or choose the mode `append`",
        )
    return _renamed(tokenizer, token), EmbToken(id=row, mode="spare", vocab_size=vocab_size)


def _first_spare(tokenizer: ModelTokenizer) -> str | None:
    return next((token for token in SPARE_TOKENS if _is_spare(tokenizer, token)), None)


def _is_spare(tokenizer: ModelTokenizer, token: str) -> bool:
    """Whether it is a special token without a role that no chat template contains."""
    added = tokenizer.backend.get_added_tokens_decoder()
    specials = {entry.content: row for row, entry in added.items() if entry.special}
    templates = tokenizer.chat_templates.values()
    in_use = token in tokenizer.special_tokens.values() or any(token in text for text in templates)
    return token in specials and specials[token] not in tokenizer.eos_ids and not in_use


def _renamed(tokenizer: ModelTokenizer, token: str) -> ModelTokenizer:
    """The tokenizer with `token` renamed to `<emb_token>`."""
    state = json.loads(tokenizer.backend.to_str())
    for added in state["added_tokens"]:
        if added["content"] == token:
            added["content"] = EMB_TOKEN
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, dict) and token in vocabulary:
        state["model"]["vocab"] = {EMB_TOKEN if t == token else t: i for t, i in vocabulary.items()}
    before = tokenizer.backend.get_vocab()
    return _rebuilt(
        tokenizer, state, {EMB_TOKEN if t == token else t: i for t, i in before.items()}
    )


def _added(tokenizer: ModelTokenizer, row: int) -> ModelTokenizer:
    """The tokenizer with `<emb_token>` added as a special token with the id `row`."""
    state = json.loads(tokenizer.backend.to_str())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    state["added_tokens"].append({"id": row, "content": EMB_TOKEN, **flags, "special": True})
    before = tokenizer.backend.get_vocab()
    if row != len(before):
        _allow_gaps(state)
    return _rebuilt(tokenizer, state, {**before, EMB_TOKEN: row})


def _allow_gaps(state: dict[str, Any]) -> None:
    """Adds the added tokens to the vocabulary; otherwise tokenizers numbers them consecutively."""
    vocabulary = state["model"]["vocab"]
    if not isinstance(vocabulary, dict):
        raise UnsupportedError(
            f"a tokenizer of type {state['model'].get('type')} cannot have gaps between its ids",
            hint="choose the mode `append`",
        )
    vocabulary |= {added["content"]: added["id"] for added in state["added_tokens"]}


def _rebuilt(
    tokenizer: ModelTokenizer, state: dict[str, Any], expected: Mapping[str, int]
) -> ModelTokenizer:
    """The tokenizer with a changed state.

    Raises:
        UnsupportedError: its vocabulary differs from `expected`.
    """
    backend = Tokenizer.from_str(json.dumps(state))
    if backend.get_vocab() != expected:
        raise UnsupportedError(
            f"{EMB_TOKEN} cannot be added to this tokenizer without changing other ids",
            hint="add the token with the library that wrote the tokenizer, then import again",
        )
    return dataclasses.replace(tokenizer, backend=backend)
