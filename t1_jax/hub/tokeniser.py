"""A checkpoint's tokeniser and the ids that matter, from the files of a Hugging Face folder."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from tokenizers import Tokenizer

from t1_jax.errors import WeightsError
from t1_jax.hub.json_files import read_json, read_json_if_there

EMB_TOKEN = "<emb_token>"
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True, kw_only=True)
class Tokeniser:
    """Text to ids and back, with what a checkpoint says about its special tokens.

    Attributes:
        backend: the `tokenizers` object; shared, so copy it before changing its settings.
        special_tokens: role (`bos_token`, `eos_token`, `pad_token`, `unk_token`) -> token.
        eos_ids: ids that end a generation.
        chat_template: the checkpoint's Jinja template, or None; T1 does not use it, export keeps
            it.
        generation: the fields of `generation_config.json`; export keeps them.
    """

    backend: Tokenizer
    special_tokens: Mapping[str, str]
    eos_ids: tuple[int, ...]
    chat_template: str | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def emb_token_id(self) -> int | None:
        """The id of `<emb_token>`, or None where the tokeniser lacks it."""
        return self.backend.token_to_id(EMB_TOKEN)

    def id_of_role(self, role: str) -> int | None:
        """The id of `bos_token`, `eos_token`, `pad_token` or `unk_token`, if there is one."""
        token = self.special_tokens.get(role)
        return None if token is None else self.backend.token_to_id(token)

    def assigned(self, vocab_size: int) -> Bool[np.ndarray, " V"]:
        """Which rows of a vocabulary stand for a token; the logits of the others are −∞.

        Raises:
            WeightsError: the tokeniser has ids beyond the vocabulary.
        """
        ids = np.fromiter(self.backend.get_vocab().values(), np.int64)
        if ids.max(initial=-1) >= vocab_size:
            raise WeightsError(
                f"the tokeniser has ids up to {ids.max()}, the vocabulary only {vocab_size} rows",
                mend="check that tokeniser and weights are of the same model",
            )
        mask = np.zeros(vocab_size, bool)
        mask[ids] = True
        return mask


def tokeniser_from_folder(folder: Path) -> Tokeniser:
    """Reads `tokenizer.json` and, where they are there, the files that go with it.

    Raises:
        WeightsError: no `tokenizer.json`, or a file that is damaged.
    """
    backend = _read_backend(folder / "tokenizer.json")
    config = read_json_if_there(folder / "tokenizer_config.json")
    generation = read_json_if_there(folder / "generation_config.json")
    stated = {**config, **read_json_if_there(folder / "special_tokens_map.json")}
    special_tokens = {role: _token(stated[role]) for role in ROLES if stated.get(role) is not None}
    eos = special_tokens.get("eos_token")
    eos_ids = [
        *_ids(generation.get("eos_token_id")),
        *_ids(read_json_if_there(folder / "config.json").get("eos_token_id")),
        *_ids(None if eos is None else backend.token_to_id(eos)),
    ]
    return Tokeniser(
        backend=backend,
        special_tokens=special_tokens,
        # Our own export lists <emb_token> among the ends, for transformers' `generate`.
        eos_ids=tuple(i for i in dict.fromkeys(eos_ids) if i != backend.token_to_id(EMB_TOKEN)),
        chat_template=_chat_template(folder, config),
        generation=generation,
    )


def _read_backend(path: Path) -> Tokenizer:
    state = read_json(path)
    if "model" not in state:
        raise WeightsError(f"{path} has no tokeniser model", mend="download the file again")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more specific
        raise WeightsError(
            f"{path} is not a tokeniser that is understood: {error}", mend="download it again"
        ) from error


def _token(stated: object) -> str:
    """A token is written as its text, or as an object with the text under `content`."""
    return str(stated["content"]) if isinstance(stated, dict) else str(stated)


def _ids(stated: object) -> Iterable[int]:
    """None, one id or a list of ids."""
    if stated is None:
        return ()
    return [int(item) for item in stated] if isinstance(stated, list) else [int(str(stated))]


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The file of newer transformers, or the field of older ones, by itself or the default."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    stated = config.get("chat_template")
    if isinstance(stated, list):
        named = {entry["name"]: entry["template"] for entry in stated}
        return named.get("default")
    return stated
