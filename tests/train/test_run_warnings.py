"""What may run but does nothing, or may end on a full disk, is told."""

from pathlib import Path
from typing import Any

import pytest

from t1_jax.train import TrainConfig
from t1_jax.train.data import TrainingSet
from t1_jax.train.infra import bucket
from t1_jax.train.row_builder import RowBuilder
from t1_jax.train.run_warnings import disk_warning, setting_warnings, truncation_warning
from tests.train.data.toys import training_set
from tests.train.toy_runs import S1, S2, S3, SHAPE, merged, toy_config
from tests.train.toy_texts import PRESET
from tests.train.toy_texts import sets as toy_sets


def config(toys: Path, stage: dict[str, Any], **fields: Any) -> TrainConfig:
    return toy_config(toys, {"it": stage}, **fields)


def test_a_triplet_loss_without_negatives_is_told(toys):
    mined: TrainingSet = training_set("a", 4)
    plain = training_set("a", 4, negatives=0)
    assert setting_warnings(config(toys, S2), [mined]) == []
    (told,) = setting_warnings(config(toys, S2), [plain])
    assert told.startswith("stage it: the triplet loss adds nothing, since no record names")
    assert setting_warnings(config(toys, S1), [plain]) == []


def test_own_thoughts_that_nothing_teaches_are_told(toys):
    alone = merged(S2, {"sample_thoughts": True, "losses": {"sft": 0, "triplet": 0}})
    (told,) = setting_warnings(config(toys, alone), ())
    assert told.startswith("stage it: no loss trains the sampled thoughts")
    imitated = merged(alone, {"losses": {"sft": 1}})
    assert setting_warnings(config(toys, imitated), ()) == []


def test_dr_grpo_with_another_advantage_is_told(toys):
    divided = {"policy": {"loss": "dr_grpo"}, "advantage": {"kind": "grpo"}}
    (told,) = setting_warnings(config(toys, merged(S3, divided)), ())
    assert told.startswith("stage it: the loss dr_grpo with advantages divided by their standard")
    assert setting_warnings(config(toys, merged(S3, {"policy": {"loss": "dr_grpo"}})), ()) == []


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ({"loss": "dapo"}, "the clip of loss=dapo"),
        ({"loss": "gspo", "clip_low": 0.1}, "the clip of loss=gspo, clip_low"),
        ({"clip_high": 0.28, "dual_clip": 3.0}, "clip_high, dual_clip"),
    ],
)
def test_clips_that_one_update_never_meets_are_told(toys, policy, named):
    (told,) = setting_warnings(config(toys, merged(S3, {"policy": policy})), ())
    assert told.startswith(f"stage it: {named} will do nothing, since with one update per rollout")
    several = {"policy": policy, "rollout": {"num_iterations": 2}}
    assert setting_warnings(config(toys, merged(S3, several)), ()) == []


def test_frozen_documents_that_contrast_would_move_are_told(toys):
    frozen = merged(S3, {"pool": {"kind": "frozen"}})
    (told,) = setting_warnings(config(toys, frozen), ())
    assert told.startswith("stage it: rewards rank the document embeddings from before the stage")
    assert setting_warnings(config(toys, merged(frozen, {"losses": {"infonce": 0}})), ()) == []


def test_given_thoughts_that_are_truncated_are_told(toys, tiny_tokenizer):
    data = toy_sets()

    def told(stage: dict[str, Any], most: int) -> str | None:
        run = config(toys, stage, data={"lengths": {"thought": most}})
        rows = RowBuilder(tiny_tokenizer, PRESET, data, run.data.lengths)
        return truncation_warning(run, rows, data)

    found = told(S1, 12)
    assert found is not None
    assert found.startswith("1 of 2 reference thoughts have more than 12 tokens")
    assert told(S1, 60) is None
    assert told(S3, 12) is None  # it reads none
    assert told(merged(S1, {"fixed_thought": "It is"}), 12) is None


def test_a_disk_that_is_too_small_for_a_checkpoint_is_told(toys, monkeypatch):
    def has(free: int) -> None:
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr("t1_jax.train.run_warnings.shutil.disk_usage", lambda path: usage)

    layer = 32 * 4 * 32 + 3 * 32 * 48  # q, k, v, o; and three matrices of the feed-forward part
    tables = (1 if SHAPE.tie_embeddings else 2) * SHAPE.vocab_size * 32
    # Weights and two moments, and the exported weights in bfloat16.
    needed = (2 * layer + tables) * (3 * 4 + 2)
    has(needed)
    assert disk_warning(config(toys, S1), SHAPE) is None
    has(needed - 1)
    told = disk_warning(config(toys, S1), SHAPE)
    assert told is not None
    assert "a checkpoint and the weights exported from it take about" in told
    assert disk_warning(config(toys, S1, model={"lora": {"rank": 2}}), SHAPE) is None
    has(needed)
    reference = merged(S3, {"policy": {"loss": "grpo", "beta": 0.1}, "optimizer": {"ema": 0.9}})
    assert disk_warning(config(toys, reference), SHAPE) is not None
    # The checkpoints of a run in a bucket are there.
    monkeypatch.setattr(bucket, "find_spec", lambda name: object())
    remote = config(toys, S1, output="gs://bucket/runs/toy")
    has(2 * (2 * layer + tables))
    assert disk_warning(remote, SHAPE) is None
    has(2 * (2 * layer + tables) - 1)
    assert (disk_warning(remote, SHAPE) or "").startswith("the exported weights take about")


def test_a_contrast_with_one_document_is_told(toys):
    stage = merged(S2, {"losses": {"triplet": 0}, "data": {"batch_size": 1}})
    (told,) = setting_warnings(config(toys, stage), [training_set("a", 4, negatives=0)])
    assert told.startswith("stage it: infonce adds nothing, since a step of one query without")
