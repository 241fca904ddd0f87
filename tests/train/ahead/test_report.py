"""Toy stages compiled for virtual CPU devices and, where libtpu is installed, for a TPU slice."""

import importlib.util
from dataclasses import replace
from typing import Any

import pytest

from t1_jax.model import body_parameters
from t1_jax.parallel import find_topology, single_device_mesh_context
from t1_jax.train.ahead import compile_run
from t1_jax.train.ahead.abstract import abstract_model, row_groups
from t1_jax.train.ahead.programs import StagePrograms, stage_programs
from t1_jax.train.ahead.report import fitting_hint
from t1_jax.train.config import TrainConfig
from tests.train.toy_runs import S1, S3, SHAPE, merged, toy_config


def test_a_run_on_eight_devices(toys) -> None:
    stage = merged(S3, {"micro_batch": {"tokens": 4096}})
    mesh = {"data": 1, "fsdp": 4, "tensor": 2}
    config = toy_config(toys, {"s3": stage}, mesh=mesh, model={"remat": "full"})
    (third,) = compile_run(config, SHAPE, find_topology("cpu-8"))
    assert (third.name, third.fits, third.hint) == ("s3", True, None)
    # Weights are in float32, split eight ways but for norms; AdamW keeps two moments of each.
    whole = 4 * (body_parameters(SHAPE) + SHAPE.padded_vocab_size * SHAPE.embed_dim)
    assert 1 <= 8 * third.state["weights"] / whole < 1.05
    assert third.state["optimizer"] == pytest.approx(2 * third.state["weights"], rel=0.01)
    assert [program.name.split(" (")[0] for program in third.programs] == [
        "embed, thoughts",
        "forward and backward, thoughts",
        "embed, documents",
        "forward and backward, documents",
        "optimizer",
        "copy for sampling",
        "prefill",
        "decode 32 tokens",
        "encode documents",
    ]
    update = third.programs[1]
    # A backward pass takes twice the forward pass, and full remat computes that once more.
    assert 3 < update.flops / third.programs[0].flops < 5
    assert {each.kind for each in update.collectives} >= {"all-gather", "all-reduce"}
    assert third.state["caches"] > 0
    assert third.peak >= max(program.temporary for program in third.programs)
    assert third.as_json()["topology"] == "cpu-8"


def test_a_stage_with_candidates_encodes_queries_and_documents(toys) -> None:
    """Its copy for sampling is in memory too, though it samples nothing."""
    config = toy_config(toys, {"s1": merged(S1, {"candidates": {"k": 2}})}, mesh={"data": 2})
    (first,) = compile_run(config, SHAPE, find_topology("cpu-2"))
    assert [(program.name, program.runs) for program in first.programs[2:]] == [
        ("copy for sampling", 1),
        ("encode documents (64 x 64)", 0),
        ("encode queries (4 x 128)", 1),
    ]
    copied, documents, queries = first.programs[2:]
    sampler = first.state["sampler"]
    assert sampler == pytest.approx(first.state["weights"], rel=0.01)  # in float32 here
    assert copied.outputs >= sampler
    for program in (documents, queries):
        assert program.arguments >= sampler
        assert program.beside == sum(
            first.state[kind] for kind in ("weights", "frozen", "optimizer")
        )


@pytest.mark.parametrize(
    ("fields", "encoded"),
    [
        ({}, {}),
        ({"candidates": {"k": 2}}, {"documents": 0, "queries": 1}),
        ({"losses": {"policy": 1}}, {"documents": 0}),
        (
            {
                "losses": {"policy": 1},
                "candidates": {"k": 2},
                "reward": {"terms": {"gain": 1.0}},
            },
            {"documents": 0, "queries": 2},
        ),
    ],
)
def test_a_stage_that_samples_encodes_what_its_step_does(
    toys, fields: dict[str, Any], encoded: dict[str, int]
) -> None:
    sampled = merged(S3, {"losses": {"policy": 0}, "sample_thoughts": True})
    config = toy_config(toys, {"s3": merged(sampled, fields)}, mesh={"data": 1})
    programs = _programs(config).programs
    assert [program.name for program in programs].count("copy for sampling") == 1
    found = {
        program.name.split()[1]: program.runs
        for program in programs
        if program.name.startswith("encode")
    }
    assert found == encoded


def test_a_rollout_during_an_update_has_its_weights_and_caches_in_memory(toys) -> None:
    stage = merged(S3, {"rollout": {"prefetch": True}})
    found = _programs(toy_config(toys, {"s3": stage}, mesh={"data": 1}))
    assert found.state["prefetch"] == found.state["weights"]
    resident = {program.name.split(" (")[0]: set(program.resident) for program in found.programs}
    assert resident["optimizer"] >= {"prefetch", "sampler", "caches"}
    assert resident["forward and backward, thoughts"] >= {"prefetch", "sampler", "caches"}
    assert "prefetch" in resident["decode 32 tokens"]


def _programs(config: TrainConfig) -> StagePrograms:
    """The programs of the only stage on one device."""
    mesh_context = single_device_mesh_context()
    model = abstract_model(config.model, SHAPE, mesh_context, "cpu")
    (name,) = config.running
    with mesh_context.activate():
        return stage_programs(config, name, model)


def test_a_stage_that_does_not_fit_names_the_setting(toys) -> None:
    config = toy_config(toys, {"s1": S1})
    (report,) = compile_run(config, SHAPE, find_topology("cpu-1"))
    held = sum(report.state.values())
    chip = replace(report.topology.chip, memory=2 * held)
    small = replace(report, topology=replace(report.topology, chip=chip))
    assert not small.fits
    assert fitting_hint(config, "s1", small) == "model.remat=full"
    full = replace(config, model=replace(config.model, remat="full"))
    assert fitting_hint(full, "s1", small) == "stages.s1.micro_batch.rows=4"


def test_a_policy_with_a_kl_term_keeps_and_runs_a_reference(toys) -> None:
    losses = {"losses": {"policy": 1.0}, "policy": {"loss": "grpo", "beta": 0.01}}
    config = toy_config(toys, {"s3": merged(S3, losses)}, mesh={"data": 1})
    mesh_context = single_device_mesh_context()
    model = abstract_model(config.model, SHAPE, mesh_context, "cpu")
    with mesh_context.activate():
        stage = stage_programs(config, "s3", model)
        names = [program.name.split(" (")[0] for program in stage.programs]
        assert "reference, thoughts" in names
        assert stage.state["reference"] == stage.state["weights"]
        stage.programs[names.index("forward and backward, thoughts")].trace()


def test_packed_rows_hold_several_queries(toys) -> None:
    stage = merged(S1, {"pack": True, "data": {"batch_size": 16}})
    lengths = toy_config(toys, {"s1": stage}).data.lengths
    packed, plain = (
        row_groups(each, lengths, single_device_mesh_context())[0]
        for each in toy_config(toys, {"a": stage, "b": {**stage, "pack": False}}).stages.values()
    )
    assert packed.batch.segment_ids is not None
    assert plain.batch.segment_ids is None
    assert packed.tokens >= 2 * plain.tokens
    assert packed.count * packed.batch.tokens.shape[0] < 16


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu, which compiles for TPUs"
)
def test_a_stage_for_a_tpu_slice(toys) -> None:
    config = toy_config(toys, {"s1": S1}, mesh={"data": 1, "fsdp": 4})
    (report,) = compile_run(config, SHAPE, find_topology("v5e-4"))
    assert report.fits
    assert report.seconds is not None
    assert report.mfu is not None
    assert 0 < report.mfu < 1
