"""A checkpoint's tokenizer and the ids that matter, from the files of a Hugging Face folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool
from tokenizers import Tokenizer
from tokenizers.models import BPE

from t1_jax.errors import ConfigError, UnsupportedError, WeightsError
from t1_jax.hub.hf_auto import auto_tokenizer
from t1_jax.hub.json_files import check_link, read_json_if_there
from t1_jax.hub.values import shown, whole_number

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EMB_TOKEN = "<emb_token>"

# Fields of tokenizer_config.json that `ModelTokenizer` holds in attributes of its own, that a
# tokenizer in one file makes void, or that name code.
_HELD = frozenset(
    {
        "added_tokens_decoder",
        "additional_special_tokens",
        "auto_map",
        "chat_template",
        "extra_special_tokens",
        "fast_tokenizer_files",
        "name_or_path",
        "special_tokens_map_file",
        "tokenizer_class",
        "tokenizer_file",
    }
)
_DOWNLOAD_AGAIN = "download the tokenizer's files again, all of one revision"


@dataclass(frozen=True, kw_only=True)
class ModelTokenizer:
    """Text to ids and back, with what a checkpoint says about its special tokens.

    Attributes:
        backend: the `tokenizers` object; shared, so copy it before changing its settings.
        special_tokens: role (`bos_token`, `eos_token`, `pad_token`, `unk_token` ...) -> token.
        eos_ids: ids that end a generation.
        extra_special_tokens: further special tokens, by name where the checkpoint names them.
        chat_template: the checkpoint's Jinja template, or several by name, or None; T1 does not
            use it, export keeps it.
        generation: the fields of `generation_config.json`; export keeps them.
        settings: further fields of `tokenizer_config.json`; export keeps them.
    """

    backend: Tokenizer
    special_tokens: Mapping[str, str]
    eos_ids: tuple[int, ...]
    extra_special_tokens: tuple[str, ...] | Mapping[str, str] = ()
    chat_template: str | Mapping[str, str] | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def emb_token_id(self) -> int | None:
        """The id of `<emb_token>`, or None where the tokenizer lacks it."""
        return self.backend.token_to_id(EMB_TOKEN)

    @property
    def pad_token(self) -> str | None:
        """The token that fills up batches: as stated, else (Llama 3) one that ends a text."""
        ends = (self.backend.id_to_token(index) for index in self.eos_ids)
        stated = (self.special_tokens.get(role) for role in ("pad_token", "eos_token"))
        return next((token for token in (*stated, *ends) if token is not None), None)

    @property
    def chat_templates(self) -> Mapping[str, str]:
        """Every template by its name; a single one is called `default`."""
        if isinstance(self.chat_template, str):
            return {"default": self.chat_template}
        return self.chat_template or {}

    def id_of_role(self, role: str) -> int | None:
        """The id of `bos_token`, `eos_token`, `pad_token` or `unk_token`, if there is one."""
        token = self.special_tokens.get(role)
        return None if token is None else self.backend.token_to_id(token)

    def assigned(self, vocab_size: int) -> Bool[np.ndarray, " V"]:
        """Which rows of a vocabulary stand for a token; the logits of the others are −∞.

        Raises:
            WeightsError: the tokenizer, or a stated end, has ids beyond the vocabulary.
        """
        ids = np.fromiter(self.backend.get_vocab().values(), np.int64)
        if ids.max(initial=-1) >= vocab_size:
            raise WeightsError(
                f"the tokenizer has ids up to {ids.max()}, the vocabulary only {vocab_size} rows",
                hint="check that tokenizer and weights are of the same model",
            )
        if (last := max(self.eos_ids, default=-1)) >= vocab_size:
            raise WeightsError(
                f"eos_token_id {last} is beyond the vocabulary of {vocab_size} rows",
                hint="correct generation_config.json or config.json",
            )
        mask = np.zeros(vocab_size, bool)
        mask[ids] = True
        return mask


def tokenizer_from_folder(folder: Path) -> ModelTokenizer:
    """The tokenizer that `AutoTokenizer` resolves from a folder; never cuts or pads by itself.

    Raises:
        WeightsError: no tokenizer, a file that is damaged, or files that disagree about ids.
        UnsupportedError: a tokenizer that is not byte-level BPE.
    """
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        check_link(folder / name)
    if not (folder / "tokenizer.json").exists() and not (folder / "vocab.json").exists():
        raise WeightsError(
            f"{folder / 'tokenizer.json'} is missing",
            hint="give the folder of a whole checkpoint; a tokenizer.model is not read",
        )
    names = ("config.json", "generation_config.json", "tokenizer_config.json")
    config, generation, tokenizer_config = (read_json_if_there(folder / name) for name in names)
    stated = _added_tokens(folder, tokenizer_config)
    loaded = auto_tokenizer(folder, config)
    backend = loaded.backend_tokenizer
    _check_byte_level(folder, backend)
    for file, tokens in stated.items():
        _check_ids(backend, file, tokens)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = False
    special_tokens = loaded.special_tokens_map
    for role, token in special_tokens.items():
        if backend.token_to_id(token) is None:
            raise WeightsError(
                f"{folder}: {role} names no token: {shown(token)}", hint=_DOWNLOAD_AGAIN
            )
    eos = special_tokens.get("eos_token")
    eos_ids = [
        *_ids(folder / "generation_config.json", generation),
        *_ids(folder / "config.json", config),
        *(() if eos is None else (backend.token_to_id(eos),)),
    ]
    return ModelTokenizer(
        backend=backend,
        special_tokens=special_tokens,
        # Our own export lists <emb_token> among the ends, for transformers' `generate`.
        eos_ids=tuple(i for i in dict.fromkeys(eos_ids) if i != backend.token_to_id(EMB_TOKEN)),
        extra_special_tokens=_extra_special_tokens(loaded, tokenizer_config),
        chat_template=_chat_template(folder, loaded),
        generation=generation,
        settings=_settings(loaded, tokenizer_config),
    )


def _added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[Path, dict[str, object]]:
    """Every file that gives tokens ids -> what it says.

    Raises:
        WeightsError: it is not what transformers writes there.
    """
    listed = read_json_if_there(folder / "tokenizer.json").get("added_tokens") or []
    by_id = config.get("added_tokens_decoder") or {}
    try:
        return {
            folder / "tokenizer.json": {str(token["content"]): token["id"] for token in listed},
            folder / "tokenizer_config.json": {
                str(token["content"]): int(index) for index, token in by_id.items()
            },
            folder / "added_tokens.json": {**read_json_if_there(folder / "added_tokens.json")},
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder}: the added tokens are not a list of tokens with their ids ({error})",
            hint=_DOWNLOAD_AGAIN,
        ) from error


def _check_byte_level(folder: Path, backend: Tokenizer) -> None:
    """Refuses a tokenizer for which a text is not just its bytes."""
    splitter = backend.pre_tokenizer
    if not isinstance(backend.model, BPE) or b'"ByteLevel"' not in (
        b"" if splitter is None else splitter.__getstate__()
    ):
        raise UnsupportedError(
            f"{folder}: the tokenizer is not byte-level BPE",
            hint="use a checkpoint with a tokenizer such as those of SmolLM2, Qwen or Llama 3",
        )


def _check_ids(backend: Tokenizer, file: Path, tokens: Mapping[str, object]) -> None:
    """Refuses a tokenizer in which a token has not the id, and so the row, that a file gives it."""
    for token, index in tokens.items():
        found = backend.token_to_id(token)
        if found != index:
            raise WeightsError(
                f"{file} gives the token {shown(token)} the id {shown(index)}, the "
                f"tokenizer has it at {found}",
                hint=_DOWNLOAD_AGAIN,
            )


def _ids(file: Path, fields: Mapping[str, Any]) -> list[int]:
    """`eos_token_id`: nothing, one id or a list of ids."""
    stated = fields.get("eos_token_id")
    if stated is None:
        return []
    try:
        return [
            whole_number("eos_token_id", item, least=0)
            for item in (stated if isinstance(stated, list) else [stated])
        ]
    except ConfigError as error:
        raise WeightsError(f"{file}: {error.message}", hint=_DOWNLOAD_AGAIN) from error


def _extra_special_tokens(
    loaded: "PreTrainedTokenizerFast", config: Mapping[str, Any]
) -> tuple[str, ...] | Mapping[str, str]:
    """By name where the checkpoint names them, else a list."""
    named = config.get("extra_special_tokens")
    if isinstance(named, Mapping):
        return {role: str(getattr(loaded, role)) for role in named}
    listed: Any = loaded.extra_special_tokens  # found by name, so it has no type
    return tuple(str(token) for token in listed)


def _chat_template(
    folder: Path, loaded: "PreTrainedTokenizerFast"
) -> str | Mapping[str, str] | None:
    template = loaded.chat_template
    named = template if isinstance(template, Mapping) else {"default": template}
    if template is not None and not all(
        isinstance(name, str) and re.fullmatch(r"[\w-]+", name) and isinstance(text, str)
        for name, text in named.items()
    ):
        raise WeightsError(
            f"{folder}: chat_template must be a text, or texts by name, got {shown(template)}",
            hint=_DOWNLOAD_AGAIN,
        )
    return template


def _settings(loaded: "PreTrainedTokenizerFast", config: Mapping[str, Any]) -> Mapping[str, Any]:
    roles = loaded.SPECIAL_TOKENS_ATTRIBUTES
    return {name: value for name, value in config.items() if name not in {*_HELD, *roles}}
