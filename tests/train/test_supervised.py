"""A batch of examples is one objective: denominators of the whole step, each document once."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from t1_jax.parallel import MeshContext, single_device_mesh_context
from t1_jax.text import T1Tokenizer
from t1_jax.train.config import LossWeights, StageConfig
from t1_jax.train.contrast import plan_contrast
from t1_jax.train.data import BatchIterator, LengthConfig, StageDataConfig
from t1_jax.train.layout import EmbeddingIds, MicroBatchConfig
from t1_jax.train.row_builder import RowBuilder
from t1_jax.train.step import Objective, StepBatch
from t1_jax.train.supervised import SupervisedBatches
from tests.model.tiny import tiny
from tests.train.toy_steps import assert_alike, mesh_of, parts_and_weights, stepped
from tests.train.toy_texts import PRESET, examples, sets

LENGTHS = LengthConfig(query=64, thought=12, document=20)
MICRO = MicroBatchConfig(rows=8, tokens=512, length_step=16)
SFT = Objective(weights=LossWeights(sft=1.0))


def stage(losses: LossWeights, **changes: Any) -> StageConfig:
    return StageConfig(
        losses=losses,
        steps=3,
        data=StageDataConfig(hard_negatives=2),
        **{"micro_batch": MICRO, **changes},
    )


def prepared(
    tokenizer: T1Tokenizer,
    losses: LossWeights,
    mesh_context: MeshContext | None = None,
    repeats: int = 1,
    **changes: Any,
) -> StepBatch:
    mesh_context = mesh_context or single_device_mesh_context()
    rows = RowBuilder(tokenizer, PRESET, sets(), LENGTHS)
    config = stage(losses, **changes)
    stream = BatchIterator(sets(), replace(config.data, thoughts="none", batch_size=1))
    batches = SupervisedBatches(config, stream, sets(), rows, mesh_context)
    return batches.batch(examples() * repeats)


def weights_of(batch: StepBatch) -> np.ndarray:
    """Weights of all SFT targets."""
    weights = [placed.arrays.targets.sft_weights for placed in batch.micro_batches]
    found = [np.asarray(each) for each in weights if each is not None]
    return np.concatenate([each[each > 0] for each in found])


def test_imitated_tokens_share_the_weight_of_the_step_equally(tiny_tokenizer: T1Tokenizer) -> None:
    thoughts = [tiny_tokenizer.encode_thought(d.thought)[:12] for d in examples() if d.thought]
    for learns in (True, False):
        batch = prepared(tiny_tokenizer, LossWeights(sft=2.0), train_emb_token=learns)
        count = sum(map(len, thoughts)) + learns  # the end of one of them was cut off
        assert (batch.num_targets, batch.truncated_thoughts) == (count, 1)
        np.testing.assert_allclose(weights_of(batch), np.full(count, 2.0 / count), rtol=1e-6)
    assert batch.plan is None
    assert batch.num_embeddings == 0
    assert all(placed.embedding_ids.size == 0 for placed in batch.micro_batches)


def test_every_document_is_read_once_and_masks_reach_the_plan(tiny_tokenizer: T1Tokenizer) -> None:
    batch = prepared(tiny_tokenizer, LossWeights(sft=1.0, infonce=0.5, triplet=0.3))
    plan = batch.plan
    assert plan is not None
    # a/d0, a/d2, b/d4 answer; a/d3 is a negative; a/d0 and a/d2 are negatives of each other too.
    np.testing.assert_array_equal(plan.candidates, [3, 4, 5, 6, -1, -1, -1, -1, -1])
    assert batch.num_embeddings == 7
    ids = np.concatenate([placed.embedding_ids.ravel() for placed in batch.micro_batches])
    np.testing.assert_array_equal(np.sort(ids[ids >= 0]), np.arange(7))
    np.testing.assert_array_equal(plan.queries, [0, 1, 2])
    np.testing.assert_array_equal(plan.positive, [0, 1, 2])
    np.testing.assert_array_equal(plan.negatives, [[1, 3], [0, -1], [-1, -1]])
    # b/d4 has the text of a/d4, which is excluded for the second query.
    np.testing.assert_array_equal(plan.allowed[:, :4], [[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    assert not plan.allowed[:, 4:].any()
    np.testing.assert_array_equal(plan.groups, [0, 1, 2])


def test_several_thoughts_of_a_query_are_compared_with_the_same_documents(
    tiny_tokenizer: T1Tokenizer,
) -> None:
    rows = RowBuilder(tiny_tokenizer, PRESET, sets(), LENGTHS)
    ids = EmbeddingIds()
    plan, documents = plan_contrast(
        examples(),
        sets(),
        rows,
        ids,
        query_ids=ids.take(6),
        groups=(0, 0, 1, 1, 2, 2),
        hard_negatives=2,
        max_per_example=2,
    )
    np.testing.assert_array_equal(plan.positive, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(plan.groups, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(plan.negatives[:4], [[1, 3], [1, 3], [0, -1], [0, -1]])
    np.testing.assert_array_equal(plan.allowed[2:4, 2], [False, False])
    assert [list(row.embedding_ids) for row in documents] == [[6], [7], [8], [9]]


def test_without_thoughts_nothing_is_imitated(tiny_tokenizer: T1Tokenizer) -> None:
    batch = prepared(tiny_tokenizer, LossWeights(infonce=1.0), think=False)
    assert batch.num_targets == 0
    assert not any(placed.arrays.targets.token_ids.size for placed in batch.micro_batches)
    assert batch.num_embeddings == 7


def test_a_packed_cold_start_takes_the_step_of_an_unpacked_one(tiny_tokenizer: T1Tokenizer) -> None:
    config = tiny(vocab_size=tiny_tokenizer.vocab_size, max_positions=512)
    model = parts_and_weights(config=config)
    found = {}
    for pack in (False, True):
        batch = prepared(tiny_tokenizer, LossWeights(sft=1.0), pack=pack)
        found[pack] = batch, stepped(model, batch, SFT)
    (unpacked, plain), (packed, dense) = found[False], found[True]
    assert [each.arrays.segment_ids is None for each in unpacked.micro_batches] == [True, True]
    (placed,) = packed.micro_batches
    assert placed.arrays.segment_ids is not None
    assert np.asarray(placed.arrays.segment_ids).max() == 2
    np.testing.assert_allclose(np.sort(weights_of(packed)), np.sort(weights_of(unpacked)))
    # The query without a thought has nothing to imitate and is left out; padding is not counted.
    alone = next(each for each in unpacked.micro_batches if not each.arrays.targets.token_ids.size)
    assert packed.num_tokens == unpacked.num_tokens - alone.num_tokens
    assert dense.metrics["loss/sft"] == pytest.approx(plain.metrics["loss/sft"], rel=1e-5)
    assert dense.metrics["grad_norm"] == pytest.approx(plain.metrics["grad_norm"], rel=1e-4)
    assert_alike(dense.state.trained, plain.state.trained)


@pytest.mark.parametrize("tokens", [512, 520, 1000])
def test_packing_leaves_a_row_for_every_device(tiny_tokenizer: T1Tokenizer, tokens: int) -> None:
    micro = MicroBatchConfig(rows=8, tokens=tokens, length_step=16)
    batch = prepared(
        tiny_tokenizer,
        LossWeights(sft=1.0),
        mesh_of(8, 1, 1),
        repeats=12,
        pack=True,
        micro_batch=micro,
    )
    for placed in batch.micro_batches:
        rows, length = placed.arrays.tokens.shape
        assert rows == 8
        assert rows * length <= tokens
    assert len(weights_of(batch)) == batch.num_targets
    assert weights_of(batch).sum() == pytest.approx(1.0, rel=1e-5)


def test_a_packed_step_on_eight_devices_is_that_of_one(tiny_tokenizer: T1Tokenizer) -> None:
    config = tiny(vocab_size=tiny_tokenizer.vocab_size, max_positions=512)
    found = []
    for mesh_context in (single_device_mesh_context(), mesh_of(8, 1, 1)):
        batch = prepared(tiny_tokenizer, LossWeights(sft=1.0), mesh_context, repeats=4, pack=True)
        found.append(stepped(parts_and_weights(mesh_context, config), batch, SFT))
    (alone, metrics, _), (spread, others, _) = found
    assert others == pytest.approx(metrics, rel=1e-4)
    assert_alike(spread.trained, alone.trained)
    assert len(jax.tree.leaves(spread.trained)[0].sharding.device_set) == 8
