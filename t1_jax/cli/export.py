"""`t1 export`: a model to a folder that transformers and sentence-transformers load."""

import re
from pathlib import Path
from typing import Annotated

import typer

from t1_jax.cli.import_model import StoredDtype
from t1_jax.cli.options import AsJson, Overwrite, Preset
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def export_model(
    model: Annotated[
        str, typer.Argument(help="A T1 or Hugging Face folder, a GGUF file, or a pulled name.")
    ],
    folder: Annotated[Path, typer.Argument(help="Becomes the Hugging Face folder.")],
    dtype: StoredDtype = "stored",
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", help="Of one weight file, for example 500MB.")
    ] = "5GB",
    preset: Preset = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a Hugging Face folder: sharded safetensors, config, tokenizer, and a model card.

    sentence-transformers loads its document side; the query side is refused there, because a
    query must be thought about.

    Example: t1 export smollm2-135m-instruct models/for-hugging-face --dtype bfloat16
    """
    from t1_jax.cli.diagnostics import size
    from t1_jax.files import check_new_folder
    from t1_jax.retriever import open_model

    out = Output(as_json)
    check_new_folder(folder, overwrite=overwrite)
    shard_bytes = _bytes(max_shard_size)
    opened = open_model(model, dtype=dtype, preset=preset)
    opened.check_export(folder)
    loaded = opened.load()
    loaded.save_pretrained(folder, max_shard_bytes=shard_bytes, overwrite=overwrite)
    weights = {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}
    stored = loaded.decoder.options.param_dtype
    out.say(f"{folder}: {len(weights)} weight files, {size(sum(weights.values()))} in {stored}")
    out.result({"folder": folder, "dtype": stored, "weights": weights})


def _bytes(text: str) -> int:
    """A size such as `500MB`.

    Raises:
        ConfigError: it is not one.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]B)?", text.strip(), re.IGNORECASE)
    if not found or not (count := int(float(found[1]) * _UNITS[(found[2] or "").upper()])):
        raise ConfigError(
            f"--max-shard-size {text!r} is not a size", hint="write it as 500MB or 2GB"
        )
    return count
