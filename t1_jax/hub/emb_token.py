"""Giving a checkpoint `<emb_token>`: a row of its own, a row nobody uses, or a spare token's."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Tokenizer

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.hub.tokenizer import EMB_TOKEN, ModelTokenizer

EmbTokenMode = Literal["auto", "append", "unused", "spare"]

# Special tokens that checkpoints carry and no training text or template uses, best first.
SPARE_TOKENS = ("<empty_output>",)


@dataclass(frozen=True, kw_only=True)
class EmbToken:
    """Where `<emb_token>` lives.

    Attributes:
        id: its token id and row.
        mode: `append`, `unused` or `spare`, as given now; `existing` if it was there already.
        vocab_size: rows of the vocabulary with it.
    """

    id: int
    mode: str
    vocab_size: int

    @property
    def untrained(self) -> bool:
        """Whether its row means nothing yet and should be initialized."""
        return self.mode != "existing"


def add_emb_token(
    tokenizer: ModelTokenizer,
    vocab_size: int,
    *,
    mode: EmbTokenMode = "auto",
    token_id: int | None = None,
    spare: str | None = None,
) -> tuple[ModelTokenizer, EmbToken]:
    """A tokenizer that has `<emb_token>`, and where it lives.

    Args:
        tokenizer: of the checkpoint; one that already has the token is returned as it is.
        vocab_size: rows the checkpoint has.
        mode: `append`: the next id after the last assigned one; the vocabulary then ends there,
            and unassigned rows beyond are dropped (the layout of MRE-T1: 151,670 rows).
            `unused`: a row that no token has; the vocabulary keeps its size.
            `spare`: a special token that nothing uses is renamed; likewise.
            `auto`: `unused` if there is such a row (Qwen), else `spare` if a known spare token is
            there (SmolLM2), else `append` (Llama 3).
        token_id: the row to take in mode `unused`; the first free one by default.
        spare: the token to rename in mode `spare`; the first known one by default.

    Raises:
        ConfigError: the row is taken, or the spare token is not spare.
        UnsupportedError: a tokenizer whose ids cannot have gaps.
    """
    if tokenizer.emb_token_id is not None:
        found = EmbToken(id=tokenizer.emb_token_id, mode="existing", vocab_size=vocab_size)
        return tokenizer, found
    assigned = tokenizer.assigned(vocab_size).tolist()
    if mode == "auto":
        mode = _chosen(tokenizer, assigned)
    if mode == "spare":
        return _rename_spare(tokenizer, vocab_size, spare)
    row = _next_row(assigned) if mode == "append" else _unused_row(assigned, token_id)
    rows = row + 1 if mode == "append" else vocab_size
    return _added(tokenizer, row), EmbToken(id=row, mode=mode, vocab_size=rows)


def _chosen(tokenizer: ModelTokenizer, assigned: list[bool]) -> EmbTokenMode:
    """What `auto` stands for."""
    if not all(assigned):
        return "unused"
    return "spare" if _first_spare(tokenizer) else "append"


def _next_row(assigned: list[bool]) -> int:
    """The row after the last assigned one."""
    return len(assigned) - assigned[::-1].index(True)


def _unused_row(assigned: list[bool], token_id: int | None) -> int:
    """The asked row if it is free, or the first free one."""
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
            hint="name another with `spare`, or choose the mode `append`",
        )
    return _renamed(tokenizer, token), EmbToken(id=row, mode="spare", vocab_size=vocab_size)


def _first_spare(tokenizer: ModelTokenizer) -> str | None:
    return next((token for token in SPARE_TOKENS if _is_spare(tokenizer, token)), None)


def _is_spare(tokenizer: ModelTokenizer, token: str) -> bool:
    """A special token without a role, which the chat template does not write."""
    added = tokenizer.backend.get_added_tokens_decoder()
    specials = {entry.content: row for row, entry in added.items() if entry.special}
    templates = tokenizer.chat_templates.values()
    in_use = token in tokenizer.special_tokens.values() or any(token in text for text in templates)
    return token in specials and specials[token] not in tokenizer.eos_ids and not in_use


def _renamed(tokenizer: ModelTokenizer, token: str) -> ModelTokenizer:
    """The same tokenizer with `token` called `<emb_token>`."""
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
    """The same tokenizer with `<emb_token>` as a further special token of id `row`."""
    state = json.loads(tokenizer.backend.to_str())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    state["added_tokens"].append({"id": row, "content": EMB_TOKEN, **flags, "special": True})
    before = tokenizer.backend.get_vocab()
    if row != len(before):
        _allow_gaps(state)
    return _rebuilt(tokenizer, state, {**before, EMB_TOKEN: row})


def _allow_gaps(state: dict[str, Any]) -> None:
    """Ids of added tokens are counted on, unless the model's own vocabulary has them."""
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
    """The tokenizer of a changed state, which must not have moved any id."""
    backend = Tokenizer.from_str(json.dumps(state))
    if backend.get_vocab() != expected:
        raise UnsupportedError(
            f"this tokenizer cannot be given {EMB_TOKEN} without moving other ids",
            hint="add the token with the library that made the tokenizer, then import again",
        )
    return dataclasses.replace(tokenizer, backend=backend)
