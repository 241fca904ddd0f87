"""`t1 import`, `t1 export` and `t1 rebase`: checkpoints in, checkpoints out, adapters to bases."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from t1_jax.cli.options import AsJson, Overwrite, Preset
from t1_jax.cli.output import Output, size_text
from t1_jax.errors import ConfigError
from t1_jax.progress import counted

ExportDtype = Annotated[
    Literal["stored", "float32", "bfloat16", "float16"],
    typer.Option("--dtype", help="Dtype of the written weights; `stored` changes no bit."),
]
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def import_model(
    source: Annotated[
        str,
        typer.Argument(help="A Hugging Face folder, a GGUF file, or a name that `t1 pull` knows."),
    ],
    folder: Annotated[Path, typer.Argument(help="T1 folder to write.")],
    emb_token: Annotated[
        Literal["auto", "append", "unused", "spare"],
        typer.Option(
            "--emb-token",
            help="Embedding row of <emb_token>: a new row, a row without a token, or the row of a "
            "spare token. auto takes a free row if there is one, otherwise a new one.",
        ),
    ] = "auto",
    dtype: ExportDtype = "stored",
    preset: Preset = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Convert a checkpoint to a T1 folder: weights, tokenizer with <emb_token>, prompts, card.

    Supports the families llama, mistral, qwen2 (and 2.5) and qwen3. The row of <emb_token> starts
    as the mean of the other rows: the model can embed at once, but poorly until it is trained.

    Example: t1 import smollm2-135m-instruct models/my-t1
    """
    from t1_jax.files import check_new_folder
    from t1_jax.retriever import open_model

    out = Output(as_json)
    check_new_folder(folder, overwrite=overwrite)
    opened = open_model(source, dtype=dtype, emb_token=emb_token, preset=preset)
    opened.check_export(folder)
    model = opened.load()
    model.save_pretrained(folder, overwrite=overwrite)
    assert model.provenance is not None
    summary = {
        "folder": folder,
        "family": model.decoder.config.family,
        "dtype": model.decoder.options.param_dtype,
        "emb_token_id": model.tokenizer.emb_token_id,
        "emb_token_mode": model.provenance.emb_token_mode,
        "preset": model.preset.name,
    }
    out.print(
        f"{folder}: {summary['family']}, {summary['dtype']}, "
        f"<emb_token> is id {summary['emb_token_id']} ({summary['emb_token_mode']})"
    )
    out.result(**summary)


def export_model(
    model: Annotated[
        str,
        typer.Argument(
            help="A T1 or Hugging Face folder, a GGUF file, or a name that `t1 pull` knows."
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Hugging Face folder to write.")],
    dtype: ExportDtype = "stored",
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", help="Maximum size of one weight file, as in 500MB.")
    ] = "5GB",
    preset: Preset = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            "--push-to-hub", metavar="OWNER/NAME", help="Upload the folder to the Hugging Face hub."
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="A repository that --push-to-hub creates is private.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a Hugging Face folder: safetensors shards, config, tokenizer and model card.

    sentence-transformers can load it to encode documents. It refuses to encode queries, because
    queries need thoughts. The card has the training and results of the model that is read.

    Example: t1 export smollm2-135m-instruct models/for-hugging-face --dtype bfloat16
    """
    from t1_jax.files import check_new_folder
    from t1_jax.hub import ModelCardData, check_push, push_folder
    from t1_jax.retriever import open_model

    out = Output(as_json)
    check_new_folder(folder, overwrite=overwrite)
    if push_to_hub is not None:
        check_push(push_to_hub)
    elif private:
        raise ConfigError("--private applies to --push-to-hub", hint="add --push-to-hub OWNER/NAME")
    shard_bytes = _parse_size(max_shard_size)
    opened = open_model(model, dtype=dtype, preset=preset)
    opened.check_export(folder)
    loaded = opened.load()
    name = folder.name if push_to_hub is None else push_to_hub.partition("/")[2]
    card = ModelCardData(name=name, hub_id=push_to_hub, **opened.provenance.card)
    loaded.save_pretrained(folder, max_shard_bytes=shard_bytes, overwrite=overwrite, card=card)
    weights = {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}
    written_dtype = loaded.decoder.options.param_dtype
    total = size_text(sum(weights.values()))
    out.print(f"{folder}: {counted(len(weights), 'weight files')}, {total} in {written_dtype}")
    commit = None
    if push_to_hub is not None:
        commit = push_folder(folder, push_to_hub, private=private)
        out.print(f"uploaded: {commit}")
    out.result(folder=folder, dtype=written_dtype, weights=weights, commit=commit)


def rebase(
    adapter: Annotated[Path, typer.Argument(help="Adapter folder; its t1.json is rewritten.")],
    base: Annotated[
        str,
        typer.Argument(help="Its base model: a folder, GGUF file, or name that `t1 pull` knows."),
    ],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Accept a base with other file hashes, for example re-saved weights."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Point an adapter to its base model after the base was moved or saved again.

    The base must be byte for byte the one that the adapter was trained on. --force accepts another
    one with the same tokens and the same shapes of weights.

    Example: t1 rebase runs/mine/stages/s3 /models/base
    """
    from t1_jax.retriever import rebase_adapter

    out = Output(as_json)
    if not (adapter / "adapter_config.json").is_file():
        missing = "has no adapter_config.json" if adapter.is_dir() else "does not exist"
        raise ConfigError(
            f"{adapter} is not an adapter: it {missing}",
            hint="give the folder of an adapter, as in runs/mine/stages/s3",
        )
    metadata = rebase_adapter(adapter, base, force=force)
    out.print(f"{adapter}: its base model is {metadata.base_model}")
    out.result(
        adapter=adapter,
        base_model=metadata.base_model,
        base_fingerprint=metadata.base_fingerprint,
    )


def _parse_size(text: str) -> int:
    """Bytes of a size such as `500MB`; raises ConfigError for any other text."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]B)?", text.strip(), re.IGNORECASE)
    if not match or not (count := int(float(match[1]) * _UNITS[(match[2] or "").upper()])):
        raise ConfigError(
            f"--max-shard-size {text!r} is not a size", hint="write it as 500MB or 2GB"
        )
    return count
