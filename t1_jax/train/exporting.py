"""Weights out of a run: a Hugging Face folder, or an adapter for the model it was trained on."""

from dataclasses import asdict
from pathlib import Path

from flax import nnx

from t1_jax.hub import AdapterMetadata, CardFacts, export_adapter, tokeniser_hash
from t1_jax.retriever import T1
from t1_jax.train.config import LengthConfig, RolloutConfig, TrainConfig
from t1_jax.train.learner import Student, thinking_options


def export_weights(
    student: Student, trained: nnx.State, folder: Path, config: TrainConfig
) -> None:
    """Writes weights of a run, in the place of what was there.

    Adapters are stored in bfloat16 beside the name of their base model; a model whose weights all
    learn is stored whole, in the dtype of the checkpoint it came from.

    Raises:
        WeightsError: a value that is not finite in the stored dtype.
        T1Error: the disk refused.
    """
    if config.model.lora is None:
        _model(student, trained, config.data.lengths).save_pretrained(
            folder, dtype=config.model.stored_dtype, overwrite=True
        )
        return
    with student.placement.entered():
        decoder = nnx.merge(student.learner.graph, trained, student.learner.frozen)
        export_adapter(
            folder,
            decoder,
            AdapterMetadata(
                emb_token_id=student.tokeniser.emb_token_id,
                emb_token_mode=student.origin.emb_token_mode,
                tokeniser=tokeniser_hash(student.origin.tokeniser),
                prompt={**asdict(student.preset), "hash": student.preset.hash},
                base_model=student.origin.name,
                base_fingerprint=student.origin.fingerprint,
            ),
            CardFacts(name=folder.name),
            dtype=config.model.stored_dtype,
            overwrite=True,
        )


def _model(student: Student, trained: nnx.State, lengths: LengthConfig) -> T1:
    """A retriever of the weights as they are trained, in float32."""
    return T1(
        student.merged(trained),
        student.tokeniser,
        student.preset,
        student.placement,
        options=thinking_options(lengths, RolloutConfig(), budget=64),
        origin=student.origin,
    )
