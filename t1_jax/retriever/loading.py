"""Weights from checkpoints into retrievers, and back into folders."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from t1_jax.errors import WeightsError
from t1_jax.hub import (
    AdapterMetadata,
    ModelCardData,
    export_adapter,
    load_adapter,
    load_decoder_state,
    tokenizer_hash,
)
from t1_jax.model import (
    Decoder,
    DecoderConfig,
    ModelOptions,
    VocabMask,
    fill_emb_row,
    merge_lora,
)
from t1_jax.parallel import MeshContext, host_to_global, on_mesh
from t1_jax.retriever.opening import OpenedModel
from t1_jax.retriever.resolve import Provenance, ResolvedModel
from t1_jax.retriever.thought_cache import ThoughtCache
from t1_jax.text import PromptPreset

if TYPE_CHECKING:
    from t1_jax.retriever.t1 import T1


def load_opened(
    opened: OpenedModel,
    mesh_context: MeshContext,
    *,
    attention: str,
    thought_cache: ThoughtCache | None = None,
) -> "T1":
    """See `T1.load`."""
    from t1_jax.retriever.t1 import T1

    platform = mesh_context.mesh.devices.flat[0].platform
    options = ModelOptions.for_platform(platform, dtype=opened.dtype, attention=attention)
    decoder = load_decoder(opened.resolved, options, mesh_context)
    with mesh_context.activate():
        decoder = merge_lora(decoder)
    return T1(
        decoder,
        opened.resolved.tokenizer,
        opened.preset,
        mesh_context,
        options=opened.options,
        provenance=opened.provenance,
        opened=opened,
        thought_cache=thought_cache,
    )


def load_decoder(
    resolved: ResolvedModel, options: ModelOptions, mesh_context: MeshContext
) -> Decoder:
    """Streams a checkpoint's weights into a sharded decoder; its adapter is added, unmerged.

    The row of a new `<emb_token>` becomes the mean of the rows in use. Rows without a token are
    masked in the logits.

    Raises:
        WeightsError: the tensors do not fit the config, or exceed the range of the dtype.
        ConfigError: the mesh does not divide a weight.
        UnsupportedError: the attention back end cannot compute this decoder here.
    """
    checkpoint, emb = resolved.checkpoint, resolved.emb
    config = dataclasses.replace(checkpoint.config, vocab_size=emb.vocab_size)
    with mesh_context.activate():
        abstract = nnx.eval_shape(lambda: Decoder(config, options, mesh_context, nnx.Rngs(0)))
        graph, parameters, masks = nnx.split(abstract, nnx.Param, VocabMask)
        leaves = {
            path: on_mesh(leaf.get_value(), mesh_context)
            for path, leaf in by_path(parameters).items()
        }
        arrays = load_decoder_state(checkpoint.source, checkpoint.config, leaves)
        if emb.untrained:
            trained = _padded(checkpoint.tokenizer.assigned(checkpoint.config.vocab_size), config)
            arrays = _with_emb_row(arrays, trained, emb.id, mesh_context)
        has_token = _padded(resolved.provenance.tokenizer.assigned(config.vocab_size), config)
        flat = nnx.to_flat_state(parameters)
        parameters = nnx.from_flat_state(
            [(path, leaf.replace(arrays[_joined(path)])) for path, leaf in flat]
        )
        mask = host_to_global(has_token, mesh_context.activation("v"))
        masks = jax.tree.map(lambda _: mask, masks)
        decoder = nnx.merge(graph, parameters, masks)
    if resolved.adapter is None:
        return decoder
    return load_adapter(decoder, resolved.adapter, mesh_context)


def by_path(parameters: nnx.State) -> dict[str, Any]:
    """Parameters by path, such as `blocks/attention/q/kernel`."""
    return {_joined(path): leaf for path, leaf in nnx.to_flat_state(parameters)}


def _joined(path: Iterable[object]) -> str:
    return "/".join(map(str, path))


def save_adapter(
    folder: Path,
    decoder: Decoder,
    preset: PromptPreset,
    provenance: Provenance,
    card: ModelCardData,
    *,
    scores: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    overwrite: bool = False,
) -> None:
    """Writes the unmerged adapter of a decoder in the layout of PEFT; `T1.load` reads it.

    `preset` holds the prompts it was trained with. `provenance` is that of the base model, with the
    data on which the adapter was trained. `scores` are stored in `t1.json`. `dtype` is that of the
    stored factors. The folder appears only when complete.

    Raises:
        T1Error: no adapter, no `<emb_token>`, the folder exists, or the write failed.
    """
    emb = provenance.tokenizer.emb_token_id
    if emb is None:
        raise WeightsError("the tokenizer has no <emb_token>", hint="add_emb_token first")
    metadata = AdapterMetadata(
        emb_token_id=emb,
        emb_token_mode=provenance.emb_token_mode,
        tokenizer=tokenizer_hash(provenance.tokenizer),
        prompt={**dataclasses.asdict(preset), "hash": preset.hash},
        base_model=provenance.location,
        base_fingerprint=provenance.fingerprint,
        scores=scores or {},
        trained_on=provenance.trained_on,
    )
    export_adapter(folder, decoder, metadata, card, dtype=dtype, overwrite=overwrite)


def _padded(rows: np.ndarray, config: DecoderConfig) -> np.ndarray:
    """A mask over the padded vocabulary, false in the padding."""
    padded = np.zeros(config.padded_vocab_size, bool)
    count = min(len(rows), config.vocab_size)
    padded[:count] = rows[:count]
    return padded


def _with_emb_row(
    arrays: dict[str, jax.Array], trained: np.ndarray, row: int, mesh_context: MeshContext
) -> dict[str, jax.Array]:
    """Fills the row of the new token in the embedding table and in an untied head."""
    mask = host_to_global(trained, mesh_context.weight("v"))
    arrays["embed/table"] = fill_emb_row(arrays["embed/table"], mask, np.int32(row))
    if "head/kernel" in arrays:
        arrays["head/kernel"] = fill_emb_row(arrays["head/kernel"], mask, np.int32(row), axis=1)
    return arrays
