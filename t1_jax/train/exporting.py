"""Weights out of a run: a Hugging Face folder, or an adapter for the model it was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax.experimental import multihost_utils

from t1_jax.hub import MODELS, ModelCardData
from t1_jax.model import LoraConfig
from t1_jax.parallel import global_to_host
from t1_jax.retriever import T1, save_adapter
from t1_jax.train.config import TrainConfig
from t1_jax.train.model import TrainableModel
from t1_jax.train.sources import TrainingData


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """What there is to say of weights: how they were made and how good they are.

    Attributes:
        training: a few sentences, Markdown.
        scores: validation measures of these very weights; empty if there are none.
    """

    training: str
    scores: Mapping[str, float]

    @property
    def results(self) -> str:
        """The scores as a Markdown table; empty if there are none."""
        rows = [
            f"| {name.removeprefix('validation/').removesuffix('/ndcg@10')} | {value:.4f} |"
            for name, value in self.scores.items()
            if name.endswith("/ndcg@10") and name.count("/") > 1
        ]
        if not rows:
            return ""
        head = ["nDCG@10 on validation queries, measured during training:", ""]
        return "\n".join([*head, "| collection | nDCG@10 |", "|-|-|", *rows])


def training_summary(
    config: TrainConfig,
    data: TrainingData,
    lora: LoraConfig | None,
    steps: Mapping[str, int],
    scores: Mapping[str, float],
) -> TrainingSummary:
    """How weights came about.

    Args:
        config: of the run.
        data: that it learns from.
        lora: adapters that learn.
        steps: stages in order -> steps done.
        scores: validation measures.
    """
    stages = [
        f"- `{name}`: {done} steps of {config.stages[name].data.batch_size} queries, losses "
        + ", ".join(
            f"{loss} {weight:g}"
            for loss, weight in vars(config.stages[name].losses).items()
            if weight
        )
        for name, done in steps.items()
    ]
    sets = [
        f"- `{each.name}`: {len(each.records)} queries, {len(each.documents)} documents, data hash "
        f"`{each.data_hash[:16]}`"
        for each in data.sets
    ]
    how = "all weights" if lora is None else f"LoRA of rank {lora.rank}, alpha {lora.alpha:g}"
    lines = [
        f"Trained by t1_jax from `{config.model.path}` ({how}, seed {config.seed}), in the stages",
        "",
        *stages,
        "",
        f"on these training data, {data.leaks.exact + data.leaks.near} queries like held-out ones "
        "taken out:",
        "",
        *sets,
    ]
    return TrainingSummary(training="\n".join(lines), scores=dict(scores))


def export_weights(
    student: TrainableModel,
    trained: nnx.State,
    folder: Path,
    config: TrainConfig,
    account: TrainingSummary,
) -> None:
    """Writes weights of a run, in the place of what was there; all processes call it together.

    Adapters are stored beside the name of their base model; a model whose weights all learn is
    stored whole. Both in `model.export_dtype`.

    Raises:
        WeightsError: a value that is not finite in the stored dtype.
        T1Error: the disk refused.
    """
    card = ModelCardData(
        name=f"{config.output.name}-{folder.name}",
        license=MODELS[student.provenance.name].license
        if student.provenance.name in MODELS
        else "other",
        training=account.training,
        results=account.results,
    )
    dtype = config.model.export_dtype
    if student.lora is not None:
        save_adapter(
            folder,
            student.decoder(trained),
            student.preset,
            student.provenance,
            card,
            scores=account.scores,
            dtype=dtype,
            overwrite=True,
        )
    else:
        state = _on_each_host(trained)
        if jax.process_index() == 0:
            model = T1(
                student.decoder(state),
                student.tokenizer,
                student.preset,
                student.mesh_context,
                options=student.thinking_options(
                    config.data.lengths, max_rows=1, max_thought_tokens=1
                ),
                provenance=student.provenance,
            )
            model.save_pretrained(folder, dtype=dtype, overwrite=True, card=card)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"{folder} written")


def _on_each_host(trained: nnx.State) -> Any:
    """The weights as this process can read them: gathered where they lie on several hosts."""
    return trained if jax.process_count() == 1 else jax.tree.map(global_to_host, trained)
