"""`AutoConfig` and `AutoTokenizer` of transformers: lazy, silent, local, without remote code.

Importing transformers takes about a second, so it is imported inside functions. Its warnings are
suppressed: every problem that matters is an error here.
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
    """`AutoConfig` of a `config.json`; missing fields have the defaults of the family's class.

    `fields` have no dtype, and no nested fields except rope settings.

    Raises:
        ConfigError: transformers rejects the fields.
    """
    with _quiet():
        from transformers import AutoConfig

        try:
            return AutoConfig.for_model(family, **fields)
        except Exception as error:  # TypeError, ValueError and types of its own
            raise ConfigError(
                f"transformers rejects this {family} config: {_one_line(error)}"
            ) from error


def auto_tokenizer(folder: Path, config: Mapping[str, Any]) -> "PreTrainedTokenizerFast":
    """`AutoTokenizer` of a folder with `tokenizer.json`, or with `vocab.json` and `merges.txt`.

    `model_type` and `tokenizer_class` of `config.json` select the class, together with
    `tokenizer_config.json`.

    Raises:
        WeightsError: transformers cannot read the tokenizer.
        UnsupportedError: the tokenizer does not use the `tokenizers` library.
    """
    with _quiet():
        from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig
        from transformers import PreTrainedTokenizerFast as FastTokenizer

        try:
            family, class_name = config.get("model_type"), config.get("tokenizer_class")
            defaults = (
                AutoConfig.for_model(family) if isinstance(family, str) else PreTrainedConfig()
            )
            if isinstance(class_name, str):
                defaults.tokenizer_class = class_name
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder.absolute()),
                config=defaults,
                local_files_only=True,
                trust_remote_code=False,
            )
        except T1Error:
            raise
        except Exception as error:  # transformers and tokenizers raise no more specific type
            raise WeightsError(
                f"transformers cannot read the tokenizer in {folder}: {_one_line(error)}",
                hint="download the tokenizer's files again",
            ) from error
    if not isinstance(tokenizer, FastTokenizer):
        raise UnsupportedError(
            f"{folder}: the tokenizer class {type(tokenizer).__name__} is not supported",
            hint="use a checkpoint with a byte-level tokenizer, such as SmolLM2, Qwen or Llama 3",
        )
    return tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses log messages and warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _one_line(error: Exception) -> str:
    """The message of an error on one line, at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} ..."
