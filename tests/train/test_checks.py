"""What cannot work is refused before anything is compiled; what does nothing is told."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from t1_jax.errors import ConfigError, DataError, T1Error, UnsupportedError
from t1_jax.train import TrainConfig, checks
from t1_jax.train.checks import (
    check_config,
    check_prefetch,
    check_prompts,
    check_rewards,
    check_shapes,
    check_thoughts,
)
from tests.train.data.toys import training_set
from tests.train.toy_runs import S1, S2, S3, SHAPE, merged, toy_config
from tests.train.toy_texts import PRESET
from tests.train.toy_texts import sets as toy_sets


def config(toys: Path, stage: dict[str, Any], **fields: Any) -> TrainConfig:
    return toy_config(toys, {"it": stage}, **fields)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("stage", [S1, merged(S1, {"pack": True}), S2, S3])
def test_the_toys_pass(toys, stage, devices):
    check_shapes(config(toys, stage), SHAPE, devices)


def test_a_micro_batch_that_the_mesh_does_not_divide(toys):
    check_shapes(config(toys, merged(S2, {"micro_batch": {"rows": 4}})), SHAPE, 4)
    with pytest.raises(ConfigError, match="stage it: a query: .* one row of 128 .* 8 devices"):
        check_shapes(config(toys, merged(S2, {"micro_batch": {"rows": 4}})), SHAPE, 8)
    small = merged(S2, {"micro_batch": {"tokens": 512}})
    check_shapes(config(toys, small), SHAPE, 4)
    with pytest.raises(ConfigError) as error:
        check_shapes(config(toys, small), SHAPE, 8)
    assert error.value.hint == (
        "set micro_batch.rows to at least 8 and micro_batch.tokens to at least 1024"
    )


def test_a_prompt_with_all_its_thoughts_is_a_long_row(toys):
    stage = merged(S3, {"rollout": {"num_generations": 8, "max_thought_tokens": 60}})
    check_shapes(config(toys, stage), SHAPE, 1)  # 96 + 8 * 61 = 584, in 640 of 1,024 slots
    with pytest.raises(ConfigError, match="a prompt with its thoughts: .* row of 640 tokens"):
        check_shapes(config(toys, merged(stage, {"micro_batch": {"tokens": 600}})), SHAPE, 1)
    apart = merged(stage, {"rollout": {"shared_prefix": False}, "micro_batch": {"tokens": 600}})
    check_shapes(config(toys, apart), SHAPE, 1)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"data": {"lengths": {"thought": 500}}}, "data.lengths.thought"),
        ({"validation": {"max_thought_tokens": 500}}, "validation.max_thought_tokens"),
        (
            {"stages": {"it": {"rollout": {"max_thought_tokens": 500}}}},
            "stages.it.rollout.max_thought_tokens",
        ),
        ({"data": {"lengths": {"document": 513}}}, "data.lengths.document"),
    ],
)
def test_texts_beyond_the_context(toys, fields, named):
    with pytest.raises(ConfigError, match=named):
        check_shapes(config(toys, S3, **fields), SHAPE, 1)


def test_padding_beyond_the_context(toys):
    stage = merged(S2, {"micro_batch": {"length_step": 384, "tokens": 4096}})
    fields = {"data": {"lengths": {"document": 400}}}
    with pytest.raises(ConfigError, match="a document of 400 tokens is padded to 768"):
        check_shapes(config(toys, stage, **fields), SHAPE, 1)


def test_attention_that_cannot_share_or_pack(toys):
    splash: dict[str, Any] = {"model": {"attention": "splash"}}
    stage = merged(S3, {"micro_batch": {"length_step": 128}})
    with pytest.raises(UnsupportedError, match="rows with a shared prefix need xla"):
        check_shapes(config(toys, stage, **splash), SHAPE, 1)
    apart = merged(stage, {"rollout": {"shared_prefix": False}})
    check_shapes(config(toys, apart, **splash), SHAPE, 1)
    with pytest.raises(UnsupportedError, match="multiple of 128 tokens, got .*length_step=64"):
        check_shapes(
            config(toys, merged(apart, {"micro_batch": {"length_step": 64}}), **splash), SHAPE, 1
        )
    with pytest.raises(UnsupportedError, match="packed rows need xla"):
        check_shapes(config(toys, merged(S1, {"pack": True}), **splash), SHAPE, 1)
    windows = replace(SHAPE, windows=(64, 64))
    with pytest.raises(UnsupportedError, match=r"windows \[64\]"):
        check_shapes(config(toys, S3), windows, 1)
    with pytest.raises(UnsupportedError, match=r"packed rows .* windows \[64\]"):
        check_shapes(config(toys, merged(S1, {"pack": True})), windows, 1)


def test_only_stages_that_run_are_checked(toys):
    bad = merged(S3, {"rollout": {"max_thought_tokens": 500}})
    check_shapes(toy_config(toys, {"good": S1, "bad": bad}, run=["good"]), SHAPE, 1)


def test_processes_that_would_reward_differently(toys, monkeypatch):
    stage = merged(S3, {"pool": {"kind": "corpus", "index": "scann"}})
    monkeypatch.setattr(checks, "require_backend", lambda kind: None)
    check_rewards(config(toys, stage), [training_set("a", 4)])
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with pytest.raises(ConfigError, match="stage it: ScaNN builds a different index"):
        check_rewards(config(toys, stage), [training_set("a", 4)])


def test_an_index_that_cannot_be_built_here(toys, monkeypatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    stage = merged(S3, {"pool": {"kind": "corpus", "index": "scann"}})
    with pytest.raises(ConfigError, match="stage it: ScaNN is not installed"):
        check_rewards(config(toys, stage), [training_set("a", 4)])
    check_rewards(config(toys, merged(stage, {"pool": {"kind": "batch"}})), [training_set("a", 4)])
    check_rewards(config(toys, S2), ())


def test_a_given_thought_with_a_vector_makes_the_row_longer(toys):
    stage = merged(
        S3,
        {
            "rollout": {"num_generations": 8, "max_thought_tokens": 60},
            "micro_batch": {"tokens": 640},
        },
    )
    check_shapes(config(toys, stage), SHAPE, 1)  # 96 + 8 * 61 = 584
    lengths = {"data": {"lengths": {"thought": 60}}}
    given = merged(stage, {"contrast_reference_thoughts": True, "losses": {"infonce": 1}})
    with pytest.raises(ConfigError, match="a prompt with its thoughts: .* row of 768 tokens"):
        check_shapes(config(toys, given, **lengths), SHAPE, 1)


def test_a_prompt_that_leaves_no_room_for_the_text(toys, tiny_tokenizer):
    data = toy_sets()
    prompt = len(tiny_tokenizer.encode_thought("search: x think")) + 2  # the longer instruction

    def check(stage: dict[str, Any] = S1, **lengths: int) -> None:
        fields = {"data": {"lengths": lengths}}
        check_prompts(config(toys, stage, **fields), tiny_tokenizer, PRESET, data)

    check(query=prompt + 8)
    with pytest.raises(ConfigError, match=f"a query of a takes {prompt} of data.lengths.query="):
        check(query=prompt + 7)
    document = len(tiny_tokenizer.encode_thought("x")) + 3
    check(document=document + 8)
    with pytest.raises(ConfigError, match=f"a document takes {document} of data.lengths.document"):
        check(document=document + 7)
    fixed = merged(S1, {"fixed_thought": "the end of an array " * 5})
    with pytest.raises(ConfigError, match="stage it: fixed_thought has .* more than"):
        check(fixed, thought=8)
    check(fixed, thought=100)


def test_a_run_folder_that_cannot_be_written(toys):
    (toys / "file").write_text("")
    with pytest.raises(T1Error, match="file is not a folder"):
        check_config(config(toys, S1, output=str(toys / "file" / "run")))
    check_config(config(toys, S1, output=str(toys / "new" / "run")))
    assert not (toys / "new").exists()


def test_a_stage_without_thoughts_to_imitate_is_rejected(toys):
    data = [training_set("a", 4)]
    without = [replace(data[0], records=tuple(replace(r, thoughts=()) for r in data[0].records))]
    thoughtful = [
        replace(data[0], records=tuple(replace(r, thoughts=("it",)) for r in data[0].records))
    ]
    check_thoughts(config(toys, S1), thoughtful)
    check_thoughts(config(toys, S3), without)
    check_thoughts(config(toys, merged(S1, {"fixed_thought": "it"})), without)
    for stage, sets in ((S1, without), (merged(S1, {"data": {"thoughts": "none"}}), thoughtful)):
        with pytest.raises(DataError, match="stage it learns from reference thoughts, and no"):
            check_thoughts(config(toys, stage), sets)


def test_prefetch_needs_one_device(toys):
    stage = merged(S3, {"rollout": {"prefetch": True}})
    check_prefetch(config(toys, stage), 1)
    check_prefetch(config(toys, S3), 8)
    with pytest.raises(UnsupportedError, match="stage it: rollout.prefetch runs two programs"):
        check_prefetch(config(toys, stage), 8)
