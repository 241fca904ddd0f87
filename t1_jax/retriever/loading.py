"""Checkpoints to retrievers and back."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from t1_jax.errors import ConfigError, WeightsError
from t1_jax.hub import (
    Adapter,
    AdapterMetadata,
    CardFacts,
    Checkpoint,
    DocumentSide,
    EmbTokenMode,
    ExportOptions,
    T1Metadata,
    export_adapter,
    export_folder,
    init_emb_row,
    is_adapter,
    load_decoder_state,
    locate_model,
    open_checkpoint,
    read_adapter,
    tokeniser_hash,
    with_adapter,
)
from t1_jax.model import Decoder, DecoderConfig, ModelOptions, TokenMask, merge_lora
from t1_jax.parallel import Placement, spread
from t1_jax.retriever.options import RetrieverOptions
from t1_jax.retriever.origin import Origin, known_origin
from t1_jax.retriever.settling import Settled, open_base, settle
from t1_jax.text import PromptPreset

if TYPE_CHECKING:
    from t1_jax.retriever.t1 import T1


def load_t1(
    path_or_name: str | Path,
    *,
    adapter: str | Path | None,
    dtype: str,
    attention: str,
    emb_token: EmbTokenMode,
    preset: str | Path | PromptPreset | None,
    placement: Placement,
    options: RetrieverOptions | None,
) -> "T1":
    """See `T1.load`."""
    from t1_jax.retriever.t1 import T1

    name, beside = str(path_or_name), None if adapter is None else read_adapter(Path(adapter))
    if beside is None and is_adapter(Path(path_or_name)):
        beside = read_adapter(Path(path_or_name))
        name = beside.metadata.base_model
        checkpoint = open_base(beside)
    else:
        checkpoint = open_checkpoint(locate_model(name))
    dtype = checkpoint.stored_dtype if dtype == "stored" else dtype
    platform = placement.mesh.devices.flat[0].platform
    model_options = ModelOptions.for_platform(platform, dtype=dtype, attention=attention)
    settled = settle(checkpoint, name=name, emb_token=emb_token, preset=preset, adapter=beside)
    decoder = load_decoder(checkpoint, settled, model_options, placement, adapter=beside)
    with placement.entered():
        decoder = merge_lora(decoder)
    origin = settled.origin
    return T1(
        decoder,
        settled.tokeniser,
        settled.preset,
        placement,
        options=options,
        origin=origin if beside is None else _merged_origin(origin, beside),
    )


def load_decoder(
    checkpoint: Checkpoint,
    settled: Settled,
    options: ModelOptions,
    placement: Placement,
    *,
    adapter: Adapter | None = None,
) -> Decoder:
    """Streams a checkpoint's weights into a decoder laid out by `placement`.

    A new `<emb_token>` row becomes the mean of the rows in use; rows that no token has are never
    drawn. An adapter stands beside the weights, unmerged.
    """
    emb = settled.emb
    config = dataclasses.replace(checkpoint.config, vocab_size=emb.vocab_size)
    with placement.entered():
        abstract = nnx.eval_shape(lambda: Decoder(config, options, placement, nnx.Rngs(0)))
        graph, parameters, masks = nnx.split(abstract, nnx.Param, TokenMask)
        leaves = {
            path: _placed_shape(leaf.get_value(), placement)
            for path, leaf in by_path(parameters).items()
        }
        arrays = load_decoder_state(checkpoint.source, checkpoint.config, leaves)
        if emb.untrained:
            used = _padded(checkpoint.tokeniser.assigned(checkpoint.config.vocab_size), config)
            arrays = _with_emb_row(arrays, used, emb.id, placement)
        drawable = _padded(settled.origin.tokeniser.assigned(config.vocab_size), config)
        parameters = nnx.from_flat_state(
            [
                (path, leaf.replace(arrays[_joined(path)]))
                for path, leaf in nnx.to_flat_state(parameters)
            ]
        )
        mask = spread(drawable, placement.activation("v"))
        masks = jax.tree.map(lambda _: mask, masks)
        decoder = nnx.merge(graph, parameters, masks)
    return decoder if adapter is None else with_adapter(decoder, adapter, placement)


def by_path(parameters: nnx.State) -> dict[str, Any]:
    """Parameters by their path, `blocks/attention/q/kernel`."""
    return {_joined(path): leaf for path, leaf in nnx.to_flat_state(parameters)}


def _joined(path: Iterable[object]) -> str:
    return "/".join(map(str, path))


def save_t1(
    model: "T1",
    folder: Path,
    *,
    dtype: str | None,
    options: ExportOptions,
    card: CardFacts | None = None,
) -> None:
    """See `T1.save_pretrained`."""
    origin = known_origin(model.origin)
    preset = model.preset
    bound = model.tokeniser.bind(preset.document_template, preset.instruction())
    if bound.right:
        raise ConfigError(
            f"the preset {preset.name} has words between {{text}} and the next special token "
            f"({bound.right!r}), which sentence-transformers cannot express",
            mend="end {text} with a special token in document_template",
        )
    export_folder(
        folder,
        {
            path: leaf.get_value()
            for path, leaf in by_path(nnx.state(model.decoder, nnx.Param)).items()
        },
        model.decoder.config,
        origin.tokeniser,
        T1Metadata(
            emb_token_id=model.tokeniser.emb_token_id,
            emb_token_mode=origin.emb_token_mode,
            stored_dtype=dtype or model.decoder.options.param_dtype,
            prompt={**dataclasses.asdict(preset), "hash": preset.hash},
            base_model=origin.name,
            base_fingerprint=origin.fingerprint,
        ),
        DocumentSide(
            head_ids=bound.head,
            words_before=bound.left,
            tail_ids=(*bound.tail, model.tokeniser.emb_token_id),
            max_tokens=model.options.max_document_tokens,
        ),
        card or CardFacts(name=folder.name),
        options,
    )


def save_adapter(
    folder: Path,
    decoder: Decoder,
    preset: PromptPreset,
    origin: Origin,
    card: CardFacts,
    *,
    scores: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    overwrite: bool = False,
) -> None:
    """Writes the adapter of a decoder in PEFT's layout, as `T1.load` reads it back.

    Args:
        folder: appears only when complete.
        decoder: with an adapter beside its weights.
        preset: the prompts it was trained with.
        origin: of the base model, as `load_parts` returns it.
        card: for the model card.
        scores: measured results, kept in `t1.json`.
        dtype: of the stored factors.
        overwrite: replace a folder that exists.

    Raises:
        T1Error: no adapter, no `<emb_token>`, the folder exists, or the disk refused the data.
    """
    emb = origin.tokeniser.emb_token_id
    if emb is None:
        raise WeightsError("the tokeniser has no <emb_token>", mend="give_emb_token first")
    metadata = AdapterMetadata(
        emb_token_id=emb,
        emb_token_mode=origin.emb_token_mode,
        tokeniser=tokeniser_hash(origin.tokeniser),
        prompt={**dataclasses.asdict(preset), "hash": preset.hash},
        base_model=origin.location,
        base_fingerprint=origin.fingerprint,
        scores=scores or {},
    )
    export_adapter(folder, decoder, metadata, card, dtype=dtype, overwrite=overwrite)


def _merged_origin(base: Origin, adapter: Adapter) -> Origin:
    """The origin of merged weights: no index of the base model's vectors fits them."""
    both = f"{base.fingerprint} {adapter.fingerprint}"
    return dataclasses.replace(base, fingerprint=hashlib.sha256(both.encode()).hexdigest())


def _placed_shape(leaf: jax.ShapeDtypeStruct, placement: Placement) -> jax.ShapeDtypeStruct:
    """The abstract leaf on the real mesh rather than on the abstract one it was traced on."""
    spec = leaf.sharding.spec if isinstance(leaf.sharding, jax.NamedSharding) else jax.P()
    sharding = jax.NamedSharding(placement.mesh, spec)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _padded(rows: np.ndarray, config: DecoderConfig) -> np.ndarray:
    """A mask over the padded vocabulary; padding is false."""
    padded = np.zeros(config.padded_vocab_size, bool)
    count = min(len(rows), config.vocab_size)
    padded[:count] = rows[:count]
    return padded


def _with_emb_row(
    arrays: dict[str, jax.Array], used: np.ndarray, row: int, placement: Placement
) -> dict[str, jax.Array]:
    """The new token's row in the embedding and, where it is untied, in the head."""
    mask = spread(used, placement.activation("v"))
    arrays["embed/table"] = init_emb_row(arrays["embed/table"], mask, np.int32(row))
    if "head/kernel" in arrays:
        arrays["head/kernel"] = init_emb_row(arrays["head/kernel"], mask, np.int32(row), axis=1)
    return arrays
