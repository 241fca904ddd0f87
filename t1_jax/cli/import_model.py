"""`t1 import`: a Hugging Face folder or a GGUF file to a T1 folder."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from t1_jax.cli.options import AsJson, Overwrite, Preset
from t1_jax.cli.output import Output

StoredDtype = Annotated[
    Literal["stored", "float32", "bfloat16", "float16"],
    typer.Option("--dtype", help="Of the weights that are written; `stored` changes no bit."),
]


def import_model(
    source: Annotated[
        str, typer.Argument(help="A Hugging Face folder, a GGUF file, or a pulled name.")
    ],
    folder: Annotated[Path, typer.Argument(help="Becomes the T1 folder.")],
    emb_token: Annotated[
        Literal["auto", "append", "unused", "spare"],
        typer.Option(
            "--emb-token",
            help="Where <emb_token> goes: a new row, a row no token has, or a spare token's. "
            "auto takes a free row if there is one.",
        ),
    ] = "auto",
    dtype: StoredDtype = "stored",
    preset: Preset = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a T1 folder of a checkpoint: weights, tokenizer with <emb_token>, prompts, and a card.

    Families llama, mistral, qwen2 (2.5) and qwen3. The new token's row starts as the mean of the
    others, so the model embeds at once, but poorly until it is trained.

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
    out.say(
        f"{folder}: {model.decoder.config.family}, {model.decoder.options.param_dtype}, "
        f"<emb_token> is id {model.tokenizer.emb_token_id} ({model.provenance.emb_token_mode})"
    )
    out.result(
        {
            "folder": folder,
            "family": model.decoder.config.family,
            "dtype": model.decoder.options.param_dtype,
            "emb_token_id": model.tokenizer.emb_token_id,
            "emb_token_mode": model.provenance.emb_token_mode,
            "preset": model.preset.name,
        }
    )
