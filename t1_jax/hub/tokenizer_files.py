"""A tokenizer as the files of a Hugging Face folder, and whether transformers reads them alike."""

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
"""The class that takes tokenizer.json as it is; others build the tokenizer themselves."""

ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
"""Roles for which a class may have a token of its own unless the config states one, or null."""


def write_tokenizer(folder: Path, tokenizer: ModelTokenizer, *, max_tokens: int) -> None:
    """Writes all that was read of a tokenizer, `<emb_token>` included.

    Args:
        folder: exists.
        tokenizer: with `<emb_token>`.
        max_tokens: longest input, where the tokenizer's source does not state one.
    """
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
    """Refuses a tokenizer that transformers would read otherwise than it is written.

    transformers builds the tokenizers of some families (qwen2) in its own way, whatever
    `tokenizer.json` says; so such a model with another tokenizer cannot be exported.

    Args:
        folder: with the files of a tokenizer.
        config: the fields of the model's `config.json`.

    Raises:
        UnsupportedError: some text would have other ids, with what differs.
    """
    written = _behavior(Tokenizer.from_file(str(folder / "tokenizer.json")))
    loaded = auto_tokenizer(folder, config)
    read = _behavior(loaded.backend_tokenizer)
    differing = sorted(name for name in written if written[name] != read[name])
    if differing:
        raise UnsupportedError(
            f"transformers reads the tokenizer of a {config['model_type']} model with "
            f"{type(loaded).__name__}, which differs from this one in: {', '.join(differing)}",
            hint="start from a checkpoint whose tokenizer is that of its family",
        )


def _behavior(backend: Tokenizer) -> dict[str, Any]:
    """What decides the ids of a text, in a form in which equal behavior compares equal."""
    state = json.loads(backend.to_str())
    parts = ("normalizer", "pre_tokenizer", "added_tokens")
    return {part: _plain(state[part]) for part in parts} | {
        f"model.{name}": _plain(value) for name, value in state["model"].items()
    }


def _plain(value: Any) -> Any:
    """Without what concerns offsets only, and with one way to say nothing."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key != "trim_offsets"}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value or None
