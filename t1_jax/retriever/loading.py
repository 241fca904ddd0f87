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
from t1_jax.files import check_target
from t1_jax.hub import (
    Adapter,
    AdapterMetadata,
    CardFacts,
    Checkpoint,
    DocumentSide,
    EmbTokenMode,
    ExportOptions,
    T1Metadata,
    check_export,
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
from t1_jax.parallel import Placement, default_placement, spread
from t1_jax.retriever.options import RetrieverOptions
from t1_jax.retriever.origin import Origin, known_origin
from t1_jax.retriever.settling import Settled, open_base, settle
from t1_jax.text import PromptPreset, T1Tokeniser

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
    opened = _open(path_or_name, adapter, emb_token, preset)
    return _load(opened, dtype, attention, placement, options)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Opened:
    """The files of a retriever, opened and checked; no weight has been read."""

    checkpoint: Checkpoint
    adapter: Adapter | None
    settled: Settled


def _open(
    path_or_name: str | Path,
    adapter: str | Path | None,
    emb_token: EmbTokenMode,
    preset: str | Path | PromptPreset | None,
) -> _Opened:
    name, beside = str(path_or_name), None if adapter is None else read_adapter(Path(adapter))
    if beside is None and is_adapter(Path(path_or_name)):
        beside = read_adapter(Path(path_or_name))
        name = beside.metadata.base_model
        checkpoint = open_base(beside)
    else:
        checkpoint = open_checkpoint(locate_model(name))
    settled = settle(checkpoint, name=name, emb_token=emb_token, preset=preset, adapter=beside)
    return _Opened(checkpoint=checkpoint, adapter=beside, settled=settled)


def _load(
    opened: _Opened,
    dtype: str,
    attention: str,
    placement: Placement,
    options: RetrieverOptions | None,
) -> "T1":
    from t1_jax.retriever.t1 import T1

    checkpoint, settled, beside = opened.checkpoint, opened.settled, opened.adapter
    dtype = checkpoint.stored_dtype if dtype == "stored" else dtype
    platform = placement.mesh.devices.flat[0].platform
    model_options = ModelOptions.for_platform(platform, dtype=dtype, attention=attention)
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


def convert_t1(
    path_or_name: str | Path,
    folder: Path,
    *,
    dtype: str = "stored",
    emb_token: EmbTokenMode = "auto",
    preset: str | Path | PromptPreset | None = None,
    placement: Placement | None = None,
    options: ExportOptions | None = None,
) -> "T1":
    """Loads a model and saves it as `T1.save_pretrained` does, after checking that it can be.

    Args:
        path_or_name: as for `T1.load`.
        folder: becomes the Hugging Face folder.
        dtype: of the stored weights; `stored` for that of the checkpoint.
        emb_token: how a checkpoint without `<emb_token>` gets one.
        preset: prompts; default the checkpoint's own, else `t1`.
        placement: mesh and rules; default all accelerators of this host, or the CPU.
        options: sizes, and whether to overwrite.

    Raises:
        T1Error: nothing usable is there, or it cannot be written: found before weights are read,
            but for values that do not fit the dtype and a full disk.
    """
    options = options or ExportOptions()
    check_target(folder, overwrite=options.overwrite)
    opened = _open(path_or_name, None, emb_token, preset)
    source = opened.checkpoint if opened.adapter is None else opened.adapter
    if Path(folder).resolve() in source.path.resolve().parents:
        raise ConfigError(
            f"{folder} holds {source.path}, which is to be read, and would be replaced",
            mend="choose another folder",
        )
    stored = opened.checkpoint.stored_dtype if dtype == "stored" else dtype
    check_savable(opened.settled, opened.checkpoint.config, stored)
    model = _load(opened, dtype, "xla", placement or default_placement(), None)
    save_t1(model, folder, dtype=None, options=options)
    return model


def check_savable(
    settled: Settled,
    config: DecoderConfig,
    dtype: str,
    max_document_tokens: int = RetrieverOptions.max_document_tokens,
) -> None:
    """Refuses a model that could not be saved as a Hugging Face folder; needs no weights.

    Args:
        settled: tokens and prompts.
        config: of the decoder, as the checkpoint has it.
        dtype: name of the dtype that weights are to be stored in.
        max_document_tokens: longest document.

    Raises:
        T1Error: a family, dtype, prompt or tokeniser that the layout has no room for.
    """
    config = dataclasses.replace(config, vocab_size=settled.emb.vocab_size)
    side = _document_side(settled.tokeniser, settled.preset, max_document_tokens)
    check_export(config, settled.origin.tokeniser, side, dtype)


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
    side = _document_side(model.tokeniser, preset, model.options.max_document_tokens)
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
        side,
        card or CardFacts(name=folder.name),
        options,
    )


def _document_side(tokeniser: T1Tokeniser, preset: PromptPreset, max_tokens: int) -> DocumentSide:
    """The document prompt as tokens.

    Raises:
        ConfigError: a prompt that sentence-transformers cannot express.
    """
    bound = tokeniser.bind(preset.document_template, preset.instruction())
    if bound.right:
        raise ConfigError(
            f"the preset {preset.name} has words between {{text}} and the next special token "
            f"({bound.right!r}), which sentence-transformers cannot express",
            mend="end {text} with a special token in document_template",
        )
    return DocumentSide(
        head_ids=bound.head,
        words_before=bound.left,
        tail_ids=(*bound.tail, tokeniser.emb_token_id),
        max_tokens=max_tokens,
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
