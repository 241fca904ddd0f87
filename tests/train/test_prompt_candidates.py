"""Candidates in training: what prompts show, which thought fits, and that runs resume."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import t1_jax.train.rollout as rollout_module
from t1_jax.errors import ConfigError
from t1_jax.interrupt import Interrupt, Interrupted
from t1_jax.retriever import T1, CandidateTitles
from t1_jax.text import PromptTokens, load_preset
from t1_jax.train.checks import check_prompts
from t1_jax.train.config import CandidatesConfig, StageConfig
from t1_jax.train.data import BatchIterator, Example
from t1_jax.train.prompt_candidates import PromptCandidates, embed_without_thought, shared_pool
from t1_jax.train.rewards import PoolConfig
from t1_jax.train.rollout import RolloutBatches
from t1_jax.train.supervised import SupervisedBatches
from t1_jax.train.validate import validate
from tests.train.toy_runs import S1, S2, S3, merged, toy_config
from tests.train.toy_stages import ToyStages

PRESET = {"model": {"preset": "t1-compact-candidates"}}
OVER: dict[str, Any] = {"candidates": {"k": 3, "refresh_steps": 2, "left_out_fraction": 0.5}}


@pytest.fixture(scope="module")
def over(toy_files) -> ToyStages:
    """The toy student with prompts that show candidates."""
    return ToyStages(toy_files, **PRESET)


def candidates_of(over: ToyStages, stage: dict[str, Any], **fields: Any) -> PromptCandidates:
    config = over.config(merged(merged(stage, OVER), fields)).stages["it"]
    return PromptCandidates(config, over.data.sets, over.student.tokenizer, over.student, seed=4)


def retriever_of(over: ToyStages):
    lengths = over.config(S1).data.lengths
    options = over.student.retriever_options(lengths, max_rows=8, max_thought_tokens=4)
    return over.student.retriever(over.weights(), options)


def drawn(over: ToyStages, stage: dict[str, Any]) -> tuple[Example, ...]:
    data = over.config(stage).stages["it"].data
    return next(BatchIterator(over.data.sets, replace(data, batch_size=8)))


def show(prompts: PromptCandidates, retriever: T1, examples: Sequence[Example], step: int):
    return prompts.show(retriever, examples, step, embed_without_thought(retriever, examples))


def titles(over: ToyStages) -> dict[str, str]:
    """Document id -> title: the beginning of its text, since it has none."""
    documents = over.data.sets[0].documents
    shown = CandidateTitles(over.student.tokenizer, documents)
    return {name: shown[name] for name in documents}


def test_a_shown_positive_is_the_thought_and_some_positives_are_left_out(over: ToyStages) -> None:
    retriever, examples = retriever_of(over), drawn(over, S1)
    everything = candidates_of(over, S1, candidates={"k": 8, "left_out_fraction": 0.0})
    shown = show(everything, retriever, examples, 0)
    names = titles(over)
    for example, before in zip(shown, examples, strict=True):
        assert sorted(example.candidates) == sorted(names.values())
        assert example.thought == names[example.positive]
        assert replace(example, candidates=(), thought=before.thought) == before
    assert len({example.candidates for example in shown}) > 1  # each has an order of its own
    hidden = candidates_of(over, S1, candidates={"k": 8, "left_out_fraction": 1.0})
    for example, before in zip(show(hidden, retriever, examples, 0), examples, strict=True):
        assert set(example.candidates) == set(names.values()) - {names[example.positive]}
        assert example.thought == before.thought
    some = candidates_of(over, S1, candidates={"k": 8, "left_out_fraction": 0.5})
    omitted = [
        [len(example.candidates) == 7 for example in show(some, retriever, examples, step)]
        for step in (0, 0, 1)
    ]
    assert omitted[0] == omitted[1] != omitted[2]
    assert 0 < np.mean(omitted) < 1


def test_candidates_are_the_nearest_without_a_thought_and_never_excluded(over: ToyStages) -> None:
    retriever, examples = retriever_of(over), drawn(over, S3)
    (example, *rest) = examples
    others = frozenset(set(titles(over)) - {example.positive, "owl", "bee"})
    record = replace(example.record, query_id="new", excluded=others, negatives=())
    examples = (replace(example, record=record), *rest)
    prompts = candidates_of(over, S3, candidates={"left_out_fraction": 0.0})
    shown = show(prompts, retriever, examples, 0)
    names = titles(over)
    assert set(shown[0].candidates) == {names[n] for n in {example.positive, "owl", "bee"}}
    assert all(each.thought == before.thought for each, before in zip(shown, examples, strict=True))
    vectors = retriever.encode_query([each.record.query for each in rest], think=False)
    texts = [document.full_text for document in over.data.sets[0].documents.values()]
    cosines = vectors @ retriever.encode_document(texts).T
    for example, row in zip(shown[1:], cosines, strict=True):
        nearest = np.array(list(names.values()))[np.argsort(-row)[:3]]
        assert set(example.candidates) == set(nearest.tolist())


def test_prompts_show_them_and_are_not_remembered(over: ToyStages) -> None:
    (example, *_) = drawn(over, S1)
    rows = over.rows
    plain = rows.prompt(example, think=True)
    one, other = (
        rows.prompt(replace(example, candidates=shown), think=True)
        for shown in (("cat", "dog"), ("dog",))
    )

    def text(prompt: PromptTokens) -> str:
        return over.student.tokenizer.decode(prompt.ids)

    assert "\ncat\ndog<|im_end|>" in text(one)
    assert "\ndog<|im_end|>" in text(other)
    assert text(rows.prompt(example, think=True)) == text(plain)
    assert text(rows.prompt(replace(example, candidates=("cat",)), think=False)) == text(
        rows.prompt(example, think=False)
    )


def test_a_joint_stage_trains_over_candidates(over: ToyStages, monkeypatch) -> None:
    stage, steps = over.stage(merged(S2, OVER)), []
    assert isinstance(stage.batches, SupervisedBatches)
    build = stage.batches.batch
    monkeypatch.setattr(
        stage.batches, "batch", lambda examples: steps.append(examples) or build(examples)
    )
    _, metrics = over.run(stage, 3)
    names, seen = titles(over), set()
    for examples, each in zip(steps, metrics, strict=True):
        sees = [names[example.positive] in example.candidates for example in examples]
        for example, positive in zip(examples, sees, strict=True):
            assert len(set(example.candidates) & set(names.values())) == 3
            reference = names[example.positive] if positive else example.record.thoughts[0]
            assert example.thought == reference
        assert each["candidates/shown"] == 3
        assert each["candidates/positive_frac"] == np.mean(sees)
        seen |= set(sees)
    assert seen == {True, False}


def test_expert_iteration_resampled_groups_held_back_queries_and_kl_work_together(
    over: ToyStages, monkeypatch
) -> None:
    recipe = {
        "advantage": {"kind": "raft", "zero_variance": "resample"},
        "policy": {"beta": 0.001},
        "data": {"query_range": [0.3, 1.0]},
        "reward": {"terms": {"gain": 1.0}, "gain_of": "log_rank"},
    }
    stage, embedded, rollouts = over.stage(merged(merged(S3, OVER), recipe)), [], []
    monkeypatch.setattr(
        rollout_module,
        "embed_without_thought",
        lambda model, examples: embedded.append(examples) or embed_without_thought(model, examples),
    )
    assert isinstance(stage.batches, RolloutBatches)
    sample, build = stage.batches._sample, stage.batches.batch
    sampled: list[Sequence[Example]] = []
    monkeypatch.setattr(
        stage.batches,
        "_sample",
        lambda model, examples, *rest: sampled.append(examples) or sample(model, examples, *rest),
    )
    monkeypatch.setattr(
        stage.batches, "batch", lambda rollout: rollouts.append(rollout) or build(rollout)
    )
    over.run(stage, 2)
    # Queries are embedded without a thought once, for their candidates and for the gain.
    assert [[each.record for each in examples] for examples in embedded] == [
        [each.record for each in examples] for examples in sampled
    ]
    assert all(len(example.candidates) == 3 for examples in sampled for example in examples)
    kept = [rollout.advantages[rollout.group_mask] for rollout in rollouts]
    assert set(np.concatenate(kept).ravel().tolist()) == {0.0, 1.0}  # the best thoughts alone


def test_a_supervised_stage_resumes_with_the_same_candidates(over: ToyStages) -> None:
    """Document embeddings are as old after a restart as before it."""
    stage = merged(S1, {"candidates": {"k": 3, "refresh_steps": 5}})
    straight, one = over.stage(stage), over.stage(stage)
    with over.mesh_context.activate():
        state = straight.start(over.weights())
        for number in range(2):
            state, _ = straight.step(state, number)
        saved = straight.state_dict()
        assert saved["arrays"]["prompts/zoo:encoded_at"] == 0
        one.load_state_dict(saved)
        expected, found = (
            show(source._prompts, retriever_of(over), drawn(over, S1), 2)
            for source in (straight.batches, one.batches)
            if isinstance(source, SupervisedBatches) and source._prompts is not None
        )
    assert [each.candidates for each in found] == [each.candidates for each in expected]


def test_rewards_and_prompts_share_the_embeddings_of_a_corpus(over: ToyStages) -> None:
    stage = over.stage(merged(S3, {**OVER, "pool": {"kind": "corpus", "refresh_steps": 9}}))
    _, metrics = over.run(stage, 3)
    assert [each["index/age"] for each in metrics] == [0, 1, 0]
    assert not [name for name in stage.state_dict()["arrays"] if name.startswith("prompts/")]
    apart = over.stage(merged(S3, {**OVER, "pool": {"kind": "frozen"}}))
    over.run(apart, 1)
    assert [name for name in apart.state_dict()["arrays"] if name.startswith("prompts/")]
    pool, shown = PoolConfig(kind="corpus", refresh_steps=3), CandidatesConfig(k=2)
    assert shared_pool(pool, shown).refresh_steps == 3
    assert shared_pool(pool, CandidatesConfig()) is pool


def test_an_interrupted_search_for_candidates_leaves_the_examples_as_they_were(
    over: ToyStages,
) -> None:
    interrupt = Interrupt()
    stage = over.stage(merged(S1, OVER), interrupt)
    with over.mesh_context.activate():
        state = stage.start(over.weights())
        before = stage.state_dict()["position"]
        interrupt.requested = lambda: True
        with pytest.raises(Interrupted):
            stage.step(state, 0)
        assert stage.state_dict()["position"] == before


def test_validation_shows_the_nearest_candidates_best_first(over: ToyStages, monkeypatch) -> None:
    config = over.config(S1).validation
    assert config is not None
    model, prompts = retriever_of(over), []
    encode = model.encode_query

    def spy(queries: Sequence[str], **options: Any) -> Any:
        prompts.append((queries, options["candidates"], options["think"]))
        return encode(queries, **options)

    monkeypatch.setattr(model, "encode_query", spy)
    validate(model, over.data.validation, config, think=True, samples=1, candidates=3)
    (queries, nothing, first), (_, shown, second) = prompts
    assert (nothing, first, second) == (None, False, True)
    names = np.array(list(titles(over).values()))
    texts = [document.full_text for document in over.data.sets[0].documents.values()]
    cosines = encode(queries, think=False) @ model.encode_document(texts).T
    assert shown == [names[row].tolist() for row in np.argsort(-cosines)[:, :3]]
    with pytest.raises(ConfigError, match="show no candidates"):
        validate(
            retriever_of(ToyStages(over.root)), over.data.validation, config,
            think=True, samples=1, candidates=3,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"candidates": {"k": -1}}, "k must be at least 0"),
        ({"candidates": {"refresh_steps": 0}}, "refresh_steps must be at least 1"),
        ({"candidates": {"left_out_fraction": 1.5}}, "from 0 to 1"),
        ({"candidates": {"k": 2}, "fixed_thought": "The embedding is"}, "a fixed thought"),
        (
            {"candidates": {"k": 2}, "think": False, "losses": {"sft": 0, "infonce": 1}},
            "think=false",
        ),
    ],
)
def test_settings_without_sense_are_errors(over: ToyStages, fields, said) -> None:
    with pytest.raises(ConfigError, match=said):
        over.config(merged(S1, fields))


@pytest.mark.parametrize(
    ("preset", "stage", "said"),
    [
        ("t1-compact", OVER, "have no place for them"),
        ("t1-compact-candidates", {}, "would claim a training that it did not have"),
    ],
)
def test_prompts_and_stages_agree(over: ToyStages, preset, stage, said) -> None:
    fields = {"model": {"preset": preset}}
    config = toy_config(over.root, {"it": merged(S1, stage)}, **fields)
    with pytest.raises(ConfigError, match=said):
        check_prompts(config, over.student.tokenizer, load_preset(preset), over.data.sets)


def test_a_prompt_is_longer_by_its_candidates(over: ToyStages) -> None:
    lengths = over.config(S1).data.lengths
    stage: StageConfig = over.config(merged(S1, {"candidates": {"k": 3}})).stages["it"]
    assert stage.prompt_tokens(lengths) == lengths.query + 3 * 25
