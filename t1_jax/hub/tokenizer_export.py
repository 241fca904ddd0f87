"""Writes a `ModelTokenizer` to a Hugging Face folder, and checks how transformers reads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from t1_jax.errors import UnsupportedError
from t1_jax.hub.hf_auto import auto_tokenizer
from t1_jax.hub.json_files import to_json
from t1_jax.hub.tokenizer import EMB_TOKEN, ModelTokenizer

GENERIC_CLASS = "PreTrainedTokenizerFast"
"""The class that uses tokenizer.json unchanged; other classes rebuild the tokenizer."""

ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
"""Roles with a class-specific default unless the config states a token or null."""


def write_tokenizer(folder: Path, tokenizer: ModelTokenizer, *, max_tokens: int) -> None:
    """Writes a tokenizer with `<emb_token>`; `max_tokens` is used if its source states no limit."""
    extra: Any = tokenizer.extra_special_tokens
    if isinstance(extra, Mapping):
        extra = {"extra_special_tokens": {**extra, "emb_token": EMB_TOKEN}}
    else:
        extra = {"additional_special_tokens": [*dict.fromkeys([*extra, EMB_TOKEN])]}
    special = {**tokenizer.special_tokens, **extra}
    settings = {
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": False,
        **tokenizer.settings,
        "tokenizer_class": GENERIC_CLASS,
        **dict.fromkeys(ROLES),
        **special,
    }
    templates = dict(tokenizer.chat_templates)
    texts = {
        "tokenizer.json": tokenizer.backend.to_str(),
        "tokenizer_config.json": to_json(settings),
        "special_tokens_map.json": to_json(special),
    }
    if "default" in templates:
        texts["chat_template.jinja"] = templates.pop("default")
    if templates:
        (folder / "additional_chat_templates").mkdir()
    texts |= {f"additional_chat_templates/{name}.jinja": text for name, text in templates.items()}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def check_reads_back(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises if transformers reads the tokenizer differently from how it was written.

    For some families (qwen2) transformers ignores parts of `tokenizer.json`, so such a model with
    another tokenizer cannot be exported.

    Raises:
        UnsupportedError: some text would get other ids; names the differing parts.
    """
    written = _behavior(Tokenizer.from_file(str(folder / "tokenizer.json")))
    loaded = auto_tokenizer(folder, config)
    read = _behavior(loaded.backend_tokenizer)
    differing = sorted(name for name in written if written[name] != read[name])
    if differing:
        raise UnsupportedError(
            f"transformers reads the tokenizer of a {config['model_type']} model with "
            f"{type(loaded).__name__}, which differs from this one in: {', '.join(differing)}",
            hint="use a checkpoint with the tokenizer of its family",
        )


def _behavior(backend: Tokenizer) -> dict[str, Any]:
    """The settings that determine token ids, normalized for comparison."""
    state = json.loads(backend.to_str())
    parts = ("normalizer", "pre_tokenizer", "added_tokens")
    return {part: _normalized(state[part]) for part in parts} | {
        f"model.{name}": _normalized(value) for name, value in state["model"].items()
    }


def _normalized(value: Any) -> Any:
    """The value without settings of offsets, and with None for everything empty."""
    if isinstance(value, dict):
        return {key: _normalized(item) for key, item in value.items() if key != "trim_offsets"}
    if isinstance(value, list):
        return [_normalized(item) for item in value]
    return value or None
