"""`ModelTokenizer`, the tokenizer of a checkpoint, read from a Hugging Face folder.

`gguf_tokenizer` reads it from a GGUF file, `tokenizer_export` writes it to a folder, and
`t1_jax.text.T1Tokenizer` uses it to encode prompts.
"""

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
from t1_jax.hub.json_files import check_int, check_link, read_optional_json, short_repr

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EMB_TOKEN = "<emb_token>"

# Fields of tokenizer_config.json that are attributes of `ModelTokenizer`, have no effect with
# tokenizer.json, or name code.
_NOT_SETTINGS = frozenset({
    "added_tokens_decoder", "additional_special_tokens", "auto_map", "chat_template",
    "extra_special_tokens", "fast_tokenizer_files", "name_or_path", "special_tokens_map_file",
    "tokenizer_class", "tokenizer_file",
})  # fmt: skip
_DOWNLOAD_AGAIN = "download the tokenizer's files again, all of one revision"


@dataclass(frozen=True, kw_only=True)
class ModelTokenizer:
    """A `tokenizers` object with the roles of its special tokens.

    Attributes:
        backend: the `tokenizers` object; shared, so copy it before changing its settings.
        special_tokens: role (`bos_token`, `eos_token`, `pad_token`, `unk_token` ...) -> token.
        eos_ids: ids that end generation.
        extra_special_tokens: further special tokens, or name -> token if the checkpoint names them.
        chat_template: Jinja template, or name -> template, or None; export keeps it, T1 does not
            use it.
        generation_config: fields of `generation_config.json`; export keeps them.
        settings: further fields of `tokenizer_config.json`; export keeps them.
    """

    backend: Tokenizer = field(repr=False)
    special_tokens: Mapping[str, str]
    eos_ids: tuple[int, ...]
    extra_special_tokens: tuple[str, ...] | Mapping[str, str] = ()
    chat_template: str | Mapping[str, str] | None = field(default=None, repr=False)
    generation_config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def emb_token_id(self) -> int | None:
        """Id of `<emb_token>`, or None if the tokenizer lacks it."""
        return self.backend.token_to_id(EMB_TOKEN)

    @property
    def pad_token(self) -> str | None:
        """The padding token: `pad_token`, else `eos_token`, else (Llama 3) another end token."""
        roles = (self.special_tokens.get(role) for role in ("pad_token", "eos_token"))
        ends = (self.backend.id_to_token(index) for index in self.eos_ids)
        return next((token for token in (*roles, *ends) if token is not None), None)

    @property
    def chat_templates(self) -> Mapping[str, str]:
        """Name -> chat template; a single template has the name `default`."""
        if isinstance(self.chat_template, str):
            return {"default": self.chat_template}
        return self.chat_template or {}

    def id_of_role(self, role: str) -> int | None:
        """Id of `bos_token`, `eos_token`, `pad_token` or `unk_token`, or None."""
        token = self.special_tokens.get(role)
        return None if token is None else self.backend.token_to_id(token)

    def assigned(self, vocab_size: int) -> Bool[np.ndarray, " V"]:
        """Mask of the rows with a token; the logits of all other rows are −∞.

        Raises:
            WeightsError: a token id or an end id exceeds the vocabulary.
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
    """The tokenizer that `AutoTokenizer` loads from a folder, without truncation and padding.

    Raises:
        WeightsError: no tokenizer, a damaged file, or files with different ids of a token.
        UnsupportedError: the tokenizer is not byte-level BPE.
    """
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        check_link(folder / name)
    if not (folder / "tokenizer.json").exists() and not (folder / "vocab.json").exists():
        raise WeightsError(
            f"{folder / 'tokenizer.json'} is missing",
            hint="give the folder of a complete checkpoint; tokenizer.model is not supported",
        )
    names = ("config.json", "generation_config.json", "tokenizer_config.json")
    config, generation, tokenizer_config = (read_optional_json(folder / name) for name in names)
    added_tokens = _added_tokens(folder, tokenizer_config)
    loaded = auto_tokenizer(folder, config)
    backend = loaded.backend_tokenizer
    _check_byte_level(folder, backend)
    for file, tokens in added_tokens.items():
        _check_ids(backend, file, tokens)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = False
    special_tokens = loaded.special_tokens_map
    for role, token in special_tokens.items():
        if backend.token_to_id(token) is None:
            raise WeightsError(
                f"{folder}: {role} is not a token: {short_repr(token)}", hint=_DOWNLOAD_AGAIN
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
        # Exports of this package list <emb_token> as an end, for `generate` of transformers.
        eos_ids=tuple(i for i in dict.fromkeys(eos_ids) if i != backend.token_to_id(EMB_TOKEN)),
        extra_special_tokens=_extra_special_tokens(loaded, tokenizer_config),
        chat_template=_chat_template(folder, loaded),
        generation_config=generation,
        settings=_settings(loaded, tokenizer_config),
    )


def _added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[Path, dict[str, object]]:
    """File -> ids of added tokens in it.

    Raises:
        WeightsError: a file has another format than transformers writes.
    """
    listed = read_optional_json(folder / "tokenizer.json").get("added_tokens") or []
    by_id = config.get("added_tokens_decoder") or {}
    try:
        return {
            folder / "tokenizer.json": {str(token["content"]): token["id"] for token in listed},
            folder / "tokenizer_config.json": {
                str(token["content"]): int(index) for index, token in by_id.items()
            },
            folder / "added_tokens.json": {**read_optional_json(folder / "added_tokens.json")},
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder}: the added tokens are not a list of tokens with ids ({error})",
            hint=_DOWNLOAD_AGAIN,
        ) from error


def _check_byte_level(folder: Path, backend: Tokenizer) -> None:
    """Raises unless the tokenizer is byte-level BPE."""
    splitter = backend.pre_tokenizer
    if not isinstance(backend.model, BPE) or b'"ByteLevel"' not in (
        b"" if splitter is None else splitter.__getstate__()
    ):
        raise UnsupportedError(
            f"{folder}: the tokenizer is not byte-level BPE",
            hint="use a checkpoint with a tokenizer such as those of SmolLM2, Qwen or Llama 3",
        )


def _check_ids(backend: Tokenizer, file: Path, tokens: Mapping[str, object]) -> None:
    """Raises if the tokenizer has another id (row) for a token than the file."""
    for token, index in tokens.items():
        actual = backend.token_to_id(token)
        if actual != index:
            raise WeightsError(
                f"the token {short_repr(token)} has the id {short_repr(index)} in {file} and "
                f"{actual} in the tokenizer",
                hint=_DOWNLOAD_AGAIN,
            )


def _ids(file: Path, fields: Mapping[str, Any]) -> list[int]:
    """Ids in `eos_token_id`, which is missing, one id or a list."""
    value = fields.get("eos_token_id")
    if value is None:
        return []
    try:
        return [
            check_int("eos_token_id", index, least=0)
            for index in (value if isinstance(value, list) else [value])
        ]
    except ConfigError as error:
        raise WeightsError(f"{file}: {error.message}", hint=_DOWNLOAD_AGAIN) from error


def _extra_special_tokens(
    loaded: "PreTrainedTokenizerFast", config: Mapping[str, Any]
) -> tuple[str, ...] | Mapping[str, str]:
    """Name -> token if the checkpoint names them, else a tuple."""
    named = config.get("extra_special_tokens")
    if isinstance(named, Mapping):
        return {role: str(getattr(loaded, role)) for role in named}
    listed: Any = loaded.extra_special_tokens  # a dynamic attribute without a type
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
            f"{folder}: chat_template must be a string, or strings by name, got "
            f"{short_repr(template)}",
            hint=_DOWNLOAD_AGAIN,
        )
    return template


def _settings(loaded: "PreTrainedTokenizerFast", config: Mapping[str, Any]) -> Mapping[str, Any]:
    roles = loaded.SPECIAL_TOKENS_ATTRIBUTES
    return {name: value for name, value in config.items() if name not in {*_NOT_SETTINGS, *roles}}
