"""`t1 rebase`: tell an adapter where its base model is."""

from pathlib import Path
from typing import Annotated

import typer

from t1_jax.cli.options import AsJson
from t1_jax.cli.output import Output


def rebase(
    adapter: Annotated[Path, typer.Argument(help="An adapter's folder; its t1.json is replaced.")],
    base: Annotated[str, typer.Argument(help="Folder, GGUF file or pulled name of its base.")],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Accept a base with another fingerprint: the same weights saved again."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell an adapter where its base model is, after the base was moved or saved again.

    The base must be the one that the adapter was trained on, byte for byte; --force accepts
    another, as long as its tokens and the shapes of its weights fit.

    Example: t1 rebase runs/mine/stages/s3 /models/base
    """
    from t1_jax.retriever import rebase_adapter

    out = Output(as_json)
    metadata = rebase_adapter(adapter, base, force=force)
    out.say(f"{adapter}: its base model is {metadata.base_model}")
    out.result(
        {
            "adapter": adapter,
            "base_model": metadata.base_model,
            "base_fingerprint": metadata.base_fingerprint,
        }
    )
