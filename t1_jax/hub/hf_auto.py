"""Configs and tokenizers as transformers resolves them: imported late, silent, local, no code run.

transformers takes about a second to import, so it is imported where a config or a tokenizer is read
and nowhere else. Its warnings are for its own users: whatever matters to ours is an error here.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t1_jax.errors import ConfigError, T1Error, UnsupportedError, WeightsError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast


def auto_config(family: str, fields: Mapping[str, Any]) -> "PreTrainedConfig":
    """`AutoConfig` of a `config.json`: what is absent has the default of the family's class.

    Args:
        family: a `model_type` that transformers knows.
        fields: of the config; no dtype and nothing that is nested but rope settings.

    Raises:
        ConfigError: transformers does not accept the fields.
    """
    with _quiet():
        from transformers import AutoConfig

        try:
            return AutoConfig.for_model(family, **fields)
        except Exception as error:  # from TypeError to errors of its own
            raise ConfigError(
                f"transformers does not accept this {family} config: {_brief(error)}"
            ) from error


def auto_tokenizer(folder: Path, config: Mapping[str, Any]) -> "PreTrainedTokenizerFast":
    """`AutoTokenizer` of a folder.

    Args:
        folder: with `tokenizer.json`, or with `vocab.json` and `merges.txt`.
        config: the fields of `config.json`; its `model_type` and `tokenizer_class` select the
            tokenizer's class together with `tokenizer_config.json`.

    Raises:
        WeightsError: transformers cannot read the tokenizer.
        UnsupportedError: the tokenizer is not one of the `tokenizers` library.
    """
    with _quiet():
        from transformers import (
            AutoConfig,
            AutoTokenizer,
            PreTrainedConfig,
            PreTrainedTokenizerFast,
        )

        try:
            family, named = config.get("model_type"), config.get("tokenizer_class")
            known = AutoConfig.for_model(family) if isinstance(family, str) else PreTrainedConfig()
            if isinstance(named, str):
                known.tokenizer_class = named
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder.absolute()),
                config=known,
                local_files_only=True,
                trust_remote_code=False,
            )
        except T1Error:
            raise
        except Exception as error:  # transformers and tokenizers raise nothing more specific
            raise WeightsError(
                f"transformers cannot read the tokenizer in {folder}: {_brief(error)}",
                hint="download the tokenizer's files again",
            ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UnsupportedError(
            f"{folder}: the tokenizer class {type(tokenizer).__name__} is not supported",
            hint="use a checkpoint with a byte-level tokenizer, such as SmolLM2, Qwen or Llama 3",
        )
    return tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    """No log line and no warning of transformers reaches the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _brief(error: Exception) -> str:
    """An error of a library on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} ..."
