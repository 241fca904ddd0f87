"""Rollouts of a tiny model: what they are ranked against, and what is learned from them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from t1_jax.generate import FinishReason
from t1_jax.interrupt import Interrupt
from t1_jax.train.data import BatchIterator, Example
from t1_jax.train.infra import Clock
from t1_jax.train.optimizer import Optimizer
from t1_jax.train.prompt_candidates import embed_without_thought
from t1_jax.train.rollout import RolloutBatches
from t1_jax.train.rollout_record import Rollout
from t1_jax.train.row_builder import num_completion_tokens
from t1_jax.train.stage import stage_objective
from t1_jax.train.step import StepBatch, step_embeddings, train_step
from t1_jax.train.supervised import SupervisedBatches
from tests.train.toy_runs import S1, S2, S3, leaves_of, merged
from tests.train.toy_stages import ToyStages


class CountedExamples(BatchIterator):
    """The examples of a stage, without thoughts; counts the batches that were read."""

    def __init__(self, toy: ToyStages, stage: dict[str, Any]) -> None:
        config = toy.config(stage).stages["it"].data
        super().__init__(toy.data.sets, replace(config, thoughts="none"))
        self.taken = 0

    def more(self) -> tuple[Example, ...]:
        self.taken += 1
        return super().more()


class FixedExamples(BatchIterator):
    """These examples, and no others."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._draws = tuple(examples)

    def __next__(self) -> tuple[Example, ...]:
        return self._draws

    def more(self) -> tuple[Example, ...]:
        return ()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def rollout_batches(
    toy: ToyStages, stage: dict[str, Any], examples: CountedExamples | FixedExamples | None = None
) -> RolloutBatches:
    config = toy.config(stage)
    return RolloutBatches(
        config.stages["it"],
        examples or CountedExamples(toy, stage),
        toy.data.sets,
        toy.rows,
        toy.student,
        config.data.lengths,
        seed=3,
        interrupt=Interrupt(),
    )


def supervised_batch(
    toy: ToyStages, stage: dict[str, Any], examples: Sequence[Example]
) -> StepBatch:
    config = toy.config(stage).stages["it"]
    stream = BatchIterator(toy.data.sets, config.data)
    batches = SupervisedBatches(config, stream, toy.data.sets, toy.rows, toy.mesh_context)
    return batches.batch(examples)


def drawn(toy: ToyStages, stage: dict[str, Any], step: int = 0) -> tuple[Rollout, dict[str, float]]:
    with toy.mesh_context.activate():
        return rollout_batches(toy, stage).rollout(toy.weights(), step, Clock())


def test_thoughts_depend_on_seed_and_step_alone(toy):
    (one, _), (same, _), (later, _) = drawn(toy, S3), drawn(toy, S3), drawn(toy, S3, step=1)
    texts = [[[each.text for each in group] for group in of.thoughts] for of in (one, same, later)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    np.testing.assert_array_equal(one.rewards.total, same.rewards.total)
    assert len(one.examples) == 4
    assert {len(group) for group in one.thoughts} == {4}


@pytest.mark.parametrize("kind", ["batch", "pool", "corpus", "frozen"])
def test_every_kind_of_pool_gives_a_step(toy, kind):
    state, metrics = toy.run(toy.stage(merged(S3, {"pool": {"kind": kind, "num_hard": 2}})), 5)
    ages = {"batch": [0] * 5, "frozen": list(range(5))}.get(kind, [0, 1, 2, 0, 1])
    assert [each["index/age"] for each in metrics] == ages
    assert all(np.isfinite(each["reward/log_rank"]) for each in metrics)
    assert int(state.train.step) == 5


def test_a_row_for_the_group_or_for_each_thought_gives_the_same_update(toy):
    """The prompt of a group is read once, or once for each thought."""
    rollout, _ = drawn(toy, S3)
    updated = []
    for shared in (True, False):
        stage = merged(S3, {"rollout": {"shared_prefix": shared}})
        config = toy.config(stage).stages["it"]
        optimizer = Optimizer(config.optimizer, 4)
        with toy.mesh_context.activate():
            batch = rollout_batches(toy, stage).batch(rollout)
            state, metrics, _ = train_step(
                toy.student.parts,
                optimizer,
                stage_objective(config),
                optimizer.start(toy.weights()),
                batch,
            )
        updated.append((leaves_of(state.trained), metrics, batch.num_tokens))
    (one, one_metrics, few), (other, other_metrics, many) = updated
    assert few < many
    for name in ("loss/policy", "loss/infonce", "grad_norm", "rollout/entropy"):
        assert one_metrics[name] == pytest.approx(other_metrics[name], rel=1e-4, abs=1e-6)
    moved = 0.0
    for name, leaf in leaves_of(toy.weights()).items():
        # Adam makes a step of 0.003 out of every gradient, however near to rounding.
        close = np.isclose(one[name], other[name], atol=1e-5)
        assert close.mean() > 0.995, name
        moved += float(np.abs(one[name] - leaf).sum())
    assert moved > 1


S2_OWN: dict[str, Any] = {
    **S2,
    "sample_thoughts": True,
    "rollout": {"num_generations": 3, "max_thought_tokens": 6, "temperature": 0.7, "max_rows": 16},
}


def test_given_thoughts_are_imitated_and_own_ones_are_read(toy):
    """Vectors stand after drawn thoughts; what is learned by heart is the given one alone."""
    config = toy.config(S2_OWN)
    examples = next(BatchIterator(toy.data.sets, config.stages["it"].data))
    reference = supervised_batch(toy, S1, examples)
    found = []
    with toy.mesh_context.activate():
        batches = rollout_batches(toy, S2_OWN, FixedExamples(examples))
        rollout, metrics = batches.rollout(toy.weights(), 0, Clock())
        for shared in (True, False):
            stage = merged(S2_OWN, {"rollout": {"shared_prefix": shared}})
            batch = rollout_batches(toy, stage).batch(rollout)
            vectors = step_embeddings(toy.student.parts, toy.weights(), batch)
            found.append((vectors, stepped_metrics(toy, S2_OWN, batch)))
        expected = stepped_metrics(toy, S1, reference)
    assert batches.state_dict()["arrays"] == {}
    assert "reward" not in metrics
    assert 0 <= metrics["rollout/missing_emb_frac"] <= 1
    drawn = np.stack([one.embedding for group in rollout.thoughts for one in group])
    for vectors, metrics in found:
        np.testing.assert_allclose(vectors[: len(drawn)], drawn, atol=1e-4)
        assert metrics["loss/sft"] == pytest.approx(expected["loss/sft"], rel=1e-4)
        assert metrics["loss/infonce"] == pytest.approx(found[0][1]["loss/infonce"], rel=1e-4)
        assert metrics["grad_norm"] == pytest.approx(found[0][1]["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("imitates", [0, 1])
def test_vectors_after_given_thoughts_stand_beside_those_after_own_ones(toy, imitates):
    """They are the vectors of a stage that reads given thoughts alone, and are compared as they."""
    stage = merged(S2_OWN, {"contrast_reference_thoughts": True, "losses": {"sft": imitates}})
    examples = list(next(BatchIterator(toy.data.sets, toy.config(stage).stages["it"].data)))
    examples[1] = replace(examples[1], thought=None)
    alone = supervised_batch(toy, S2, examples)
    with toy.mesh_context.activate():
        batches = rollout_batches(toy, stage, FixedExamples(examples))
        rollout, _ = batches.rollout(toy.weights(), 0, Clock())
        batch = batches.batch(rollout)
        vectors = step_embeddings(toy.student.parts, toy.weights(), batch)
        expected = step_embeddings(toy.student.parts, toy.weights(), alone)
        metrics = stepped_metrics(toy, stage, batch)
    assert batch.plan is not None
    assert alone.plan is not None
    queries, size = len(examples), rollout.group_size
    having = [number for number in range(queries) if number != 1]
    given = vectors[queries * size : queries * size + len(having)]
    np.testing.assert_allclose(given, expected[having], atol=1e-4)
    # One place is padding: the query without a thought.
    np.testing.assert_array_equal(
        batch.plan.groups, [*np.repeat(np.arange(queries), size), *having, -1]
    )
    np.testing.assert_array_equal(
        batch.plan.positive[queries * size : -1], alone.plan.positive[having]
    )
    documents = batch.plan.candidates[batch.plan.candidates >= 0]
    others = alone.plan.candidates[alone.plan.candidates >= 0]
    np.testing.assert_allclose(vectors[documents], expected[others], atol=1e-4)
    assert ("loss/sft" in metrics) == bool(imitates)


def stepped_metrics(toy: ToyStages, stage: dict[str, Any], batch: StepBatch) -> dict[str, float]:
    objective = stage_objective(toy.config(stage).stages["it"])
    optimizer = Optimizer(toy.config(S1).stages["it"].optimizer, 4)
    state = optimizer.start(toy.weights())
    return train_step(toy.student.parts, optimizer, objective, state, batch).metrics


def policy_weights_of(batch: StepBatch) -> np.ndarray:
    """Weights of all targets of the policy loss, padding included."""
    weights = [placed.arrays.targets.policy_weights for placed in batch.micro_batches]
    return np.concatenate([np.asarray(each).ravel() for each in weights if each is not None])


def test_a_stage_may_imitate_compare_and_reward_at_once(toy):
    stage = merged(
        S3, {"losses": {"sft": 0.5, "infonce": 1, "policy": 2}, "rollout": {"temperature": 0.7}}
    )
    _, metrics = toy.run(toy.stage(stage), 2)
    for each in metrics:
        assert {"loss/sft", "loss/policy", "loss/infonce", "reward"} <= set(each)
        assert each["loss"] == pytest.approx(
            0.5 * each["loss/sft"] + 2 * each["loss/policy"] + each["loss/infonce"]
        )
        # Sampler and trainer agree at the temperature that thoughts were drawn at.
        assert each["rollout/log_prob_gap"] < 1e-3


CONSTANT = {"length": 1, "format": 0, "log_rank": 0, "gap": 0}
ALIKE: dict[str, Any] = merged(
    S3,
    {
        # Two tokens at most, and all lengths up to three pay alike.
        "rollout": {"max_thought_tokens": 2},
        "reward": {"terms": CONSTANT, "length_target": 3},
        "losses": {"infonce": 0},
    },
)


@pytest.mark.parametrize(
    ("zero_variance", "kept", "taken"), [("drop", 0, 1), ("zero", 1, 1), ("resample", 0, 3)]
)
def test_groups_without_variance(toy, zero_variance, kept, taken):
    stage = merged(ALIKE, {"advantage": {"zero_variance": zero_variance}})
    examples = CountedExamples(toy, stage)
    with toy.mesh_context.activate():
        batches = rollout_batches(toy, stage, examples)
        rollout, metrics = batches.rollout(toy.weights(), 0, Clock())
        batch = batches.batch(rollout)
    assert metrics["rollout/nonzero_std_frac"] == 0
    assert examples.taken == taken
    assert not rollout.advantages.any()
    # The groups in the loss share one unit of weight over all their tokens.
    assert policy_weights_of(batch).sum() == pytest.approx(kept)
    assert (batch.num_targets > 0) == bool(kept)


def test_resampling_fills_up_and_reports_what_was_before(toy):
    """With a reward that only some groups differ in, more of them are found."""
    stage = merged(
        S3,
        {
            "rollout": {"num_generations": 2, "max_thought_tokens": 2},
            "reward": {"terms": {"log_rank": 1, "length": 0, "format": 0, "gap": 0}},
        },
    )
    once, before = drawn(toy, stage)
    filled, after = drawn(toy, merged(stage, {"advantage": {"zero_variance": "resample"}}))
    assert after["rollout/nonzero_std_frac"] == before["rollout/nonzero_std_frac"]
    assert filled.group_mask.sum() >= once.group_mask.sum()
    assert len(filled.examples) == len(once.examples)
    assert len({example.record.query for example in filled.examples}) == len(filled.examples)


def test_resampling_ends_where_a_set_has_no_other_queries(toy):
    stage = merged(ALIKE, {"advantage": {"zero_variance": "resample"}})
    examples = next(CountedExamples(toy, stage))
    with toy.mesh_context.activate():
        batches = rollout_batches(toy, stage, FixedExamples(examples))
        rollout, _ = batches.rollout(toy.weights(), 0, Clock())
    assert rollout.examples == examples


def test_dr_grpo_divides_by_the_budget(toy):
    stage = merged(S3, {"policy": {"loss": "dr_grpo"}, "advantage": {"kind": "dr_grpo"}})
    rollout, _ = drawn(toy, stage)
    with toy.mesh_context.activate():
        batch = rollout_batches(toy, stage).batch(rollout)
    weights = policy_weights_of(batch)
    sequences, max_thought_tokens = int(rollout.group_mask.sum()) * rollout.group_size, 6
    np.testing.assert_allclose(
        weights[weights > 0], 1 / (sequences * max_thought_tokens), rtol=1e-6
    )


def test_truncated_thoughts_are_masked_out_of_the_policy_loss(toy):
    """Of the loss and its denominators; they still have rewards, advantages and vectors."""
    rollout, _ = drawn(toy, S3)
    ends = [FinishReason.LENGTH, FinishReason.EMB_TOKEN, FinishReason.EOS]
    groups = [
        [replace(thought, finish_reason=ends[n % 3]) for n, thought in enumerate(group)]
        for group in rollout.thoughts
    ]
    rollout = replace(rollout, thoughts=groups, group_mask=np.ones_like(rollout.group_mask))
    counts = [num_completion_tokens(each) for group in groups for each in group]
    whole = [each.finish_reason is not FinishReason.LENGTH for group in groups for each in group]
    for masks, expected in ((False, sum(counts)), (True, int(np.dot(counts, whole)))):
        stage = merged(S3, {"policy": {"mask_truncated_completions": masks}})
        with toy.mesh_context.activate():
            batch = rollout_batches(toy, stage).batch(rollout)
        weights = policy_weights_of(batch)
        assert batch.num_targets == np.count_nonzero(weights) == expected
        np.testing.assert_allclose(weights[weights > 0], 1 / expected, rtol=1e-6)
        assert batch.num_embeddings >= len(counts)


def test_gain_is_measured_against_no_thought(toy):
    stage = merged(S3, {"reward": {"terms": {"gain": 1, "length": 0, "format": 0, "gap": 0}}})
    rollout, _ = drawn(toy, stage)
    gain, rank = rollout.rewards.terms["gain"], rollout.rewards.terms["log_rank"]
    baseline = rank - gain  # the same for all thoughts of a query
    np.testing.assert_allclose(baseline, np.broadcast_to(baseline[:, :1], baseline.shape))
    with toy.mesh_context.activate():
        options = toy.student.retriever_options(
            toy.config(stage).data.lengths, max_rows=4, max_thought_tokens=4
        )
        model = toy.student.retriever(toy.weights(), options)
    documents = toy.data.sets[0].documents
    vectors = model.encode_document([each.full_text for each in documents.values()])
    for number, example in enumerate(rollout.examples):
        query = model.encode_query(example.record.query, think=False)
        scores = dict(zip(documents, vectors @ query, strict=True))
        place = sum(score >= scores[example.positive] for score in scores.values())
        assert baseline[number, 0] == pytest.approx(1 - np.log(place) / np.log(8))


def test_queries_without_a_thought_each_in_their_own_words(toy):
    """Records with an instruction of their own do not get the task's."""
    examples = next(CountedExamples(toy, S3))
    own = replace(examples[1].record, instruction="Find the animal")
    mixed = [examples[0], replace(examples[1], record=own), examples[2]]
    options = toy.student.retriever_options(
        toy.config(S3).data.lengths, max_rows=4, max_thought_tokens=4
    )
    model = toy.student.retriever(toy.weights(), options)
    found = embed_without_thought(model, mixed)
    for vector, each in zip(found, mixed, strict=True):
        alone = model.encode_query(
            each.record.query, think=False, instruction=each.record.instruction
        )
        np.testing.assert_allclose(vector, alone, atol=1e-5)
    plain = model.encode_query(own.query, think=False)
    assert float(found[1] @ plain) < 0.9999
