"""Saves a T1 as a Hugging Face folder, with a card that says how it was trained, or on the hub."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flax import nnx

from t1_jax.hub import (
    ExportOptions,
    ModelCardData,
    check_push,
    export_folder,
    push_folder,
)
from t1_jax.retriever.loading import by_path
from t1_jax.retriever.opening import document_prompt, t1_metadata
from t1_jax.retriever.resolve import require_provenance

if TYPE_CHECKING:
    from t1_jax.retriever.t1 import T1


def save_model(
    model: "T1", folder: Path, card: ModelCardData | None, dtype: str | None, options: ExportOptions
) -> None:
    """See `T1.save_pretrained`."""
    provenance = require_provenance(model.provenance)
    stored_dtype = dtype or model.decoder.options.param_dtype
    parameters = by_path(nnx.state(model.decoder, nnx.Param))
    export_folder(
        folder,
        {path: leaf.get_value() for path, leaf in parameters.items()},
        model.decoder.config,
        provenance.tokenizer,
        t1_metadata(provenance, model.preset, model.tokenizer.emb_token_id, stored_dtype),
        document_prompt(model.preset, model.tokenizer, model.options.max_document_tokens),
        card or ModelCardData(name=folder.name, **provenance.card),
        options,
        other_fields=provenance.other_fields,
    )


def push_model(model: "T1", repo_id: str, *, private: bool, dtype: str | None) -> str:
    """See `T1.push_to_hub`."""
    check_push(repo_id)
    card = ModelCardData(
        name=repo_id.partition("/")[2],
        hub_id=repo_id,
        **require_provenance(model.provenance).card,
    )
    with TemporaryDirectory() as folder:
        target = Path(folder) / card.name
        save_model(model, target, card, dtype, ExportOptions())
        return push_folder(target, repo_id, private=private)
