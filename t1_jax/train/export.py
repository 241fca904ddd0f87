"""Exports weights of a run as a Hugging Face folder, or as an adapter beside its base model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
from flax import nnx
from jax.experimental import multihost_utils

from t1_jax.hub import MODELS, ModelCardData, validation_table
from t1_jax.model import LoraConfig
from t1_jax.parallel import global_to_host
from t1_jax.retriever import T1, save_adapter
from t1_jax.train.config import TrainConfig
from t1_jax.train.model import TrainableModel
from t1_jax.train.sources import TrainingData


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """How weights were trained and how they score, for their model card.

    Attributes:
        training: a few sentences in Markdown.
        trained_on: names of the training data; empty if only SFT was done, which trains thoughts
            but no embeddings.
        scores: validation metrics of these weights; empty without a validation.
    """

    training: str
    trained_on: tuple[str, ...]
    scores: Mapping[str, float]

    @property
    def results(self) -> str:
        """The scores as a Markdown table; empty without scores."""
        return validation_table(self.scores)


def training_summary(
    config: TrainConfig,
    data: TrainingData,
    lora: LoraConfig | None,
    steps: Mapping[str, int],
    scores: Mapping[str, float],
) -> TrainingSummary:
    """Summarizes a run for a model card; `steps` maps its stages, in order, to the steps done."""
    stages = []
    for name, done in steps.items():
        stage = config.stages[name]
        losses = [f"{loss} {weight:g}" for loss, weight in vars(stage.losses).items() if weight]
        size = stage.data.batch_size
        stages.append(f"- `{name}`: {done} steps of {size} queries, losses {', '.join(losses)}")
    sets = [
        f"- `{item.name}`: {len(item.records)} queries, {len(item.documents)} documents, data hash "
        f"`{item.data_hash[:16]}`"
        for item in data.sets
    ]
    method = "all weights" if lora is None else f"LoRA of rank {lora.rank}, alpha {lora.alpha:g}"
    lines = [
        f"Trained by t1_jax from `{config.model.path}` ({method}, seed {config.seed}) in stages:",
        "",
        *stages,
        "",
        f"on these training data, without {data.leaks.exact + data.leaks.near} queries that "
        "duplicate held-out ones:",
        "",
        *sets,
    ]
    losses_done = [config.stages[name].losses for name, done in steps.items() if done]
    has_embeddings = any(
        losses.infonce or losses.triplet or losses.policy for losses in losses_done
    )
    return TrainingSummary(
        training="\n".join(lines),
        trained_on=tuple(item.name for item in data.sets) if has_embeddings else (),
        scores=dict(scores),
    )


def export_weights(
    model: TrainableModel,
    trained: nnx.State,
    folder: Path,
    config: TrainConfig,
    summary: TrainingSummary,
) -> None:
    """Writes weights of a run, replacing the folder; all processes call it together.

    Adapters are stored with the name of their base model; otherwise the whole model is stored. The
    dtype is `model.export_dtype`.

    Raises:
        WeightsError: a value is not finite in that dtype.
        T1Error: the write failed.
    """
    base = MODELS.get(model.provenance.name)
    card = ModelCardData(
        name=f"{config.output.name}-{folder.name}",
        license="other" if base is None else base.license,
        training=summary.training,
        results=summary.results,
    )
    before = model.provenance.trained_on or ()
    provenance = replace(
        model.provenance, trained_on=tuple(dict.fromkeys([*before, *summary.trained_on]))
    )
    dtype = config.model.export_dtype
    if model.lora is not None:
        save_adapter(
            folder,
            model.decoder(trained),
            model.preset,
            provenance,
            card,
            scores=summary.scores,
            dtype=dtype,
            overwrite=True,
        )
    else:
        state = trained if jax.process_count() == 1 else jax.tree.map(global_to_host, trained)
        if jax.process_index() == 0:
            retriever = T1(
                model.decoder(state),
                model.tokenizer,
                model.preset,
                model.mesh_context,
                options=model.retriever_options(
                    config.data.lengths, max_rows=1, max_thought_tokens=1
                ),
                provenance=provenance,
            )
            retriever.save_pretrained(folder, dtype=dtype, overwrite=True, card=card)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"{folder} written")
