"""Every target is read where it is predicted, every embedding at its `<emb_token>`."""

import numpy as np
import pytest

from t1_jax.generate import FinishReason, Thought
from t1_jax.text import T1Tokenizer
from t1_jax.train.data.config import LengthConfig
from t1_jax.train.layout import Row, separate_rows, shared_prefix_row
from t1_jax.train.row_builder import RowBuilder, num_completion_tokens, policy_continuations
from tests.train.toy_texts import PRESET, examples, sets

LENGTHS = LengthConfig(query=64, thought=12, document=20)
EMB, EOS = 3, 2


@pytest.fixture
def builder(tiny_tokenizer: T1Tokenizer) -> RowBuilder:
    return RowBuilder(tiny_tokenizer, PRESET, sets(), LENGTHS)


def text_of(builder: RowBuilder, ids: np.ndarray) -> str:
    return builder.tokenizer.decode(ids)


def test_a_query_imitates_its_thought_and_emb_token(builder: RowBuilder) -> None:
    row = builder.query_row(examples()[0], 7, think=True, sft_weight=0.25)
    prompt = "<|im_start|>find: overflow think<|im_end|>"
    assert text_of(builder, row.tokens) == f"{prompt}the end of an array<emb_token>"
    assert text_of(builder, row.targets.token_ids) == "the end of an array<emb_token>"
    np.testing.assert_array_equal(row.tokens[row.logit_positions + 1], row.targets.token_ids)
    assert text_of(builder, row.tokens[: row.logit_positions[0] + 1]) == prompt
    np.testing.assert_array_equal(row.targets.sft_weights, np.full(len(row.targets), 0.25))
    assert (list(row.emb_positions), list(row.embedding_ids)) == ([len(row.tokens) - 1], [7])
    assert row.tokens[-1] == EMB


def test_a_forced_emb_token_is_read_but_not_imitated(builder: RowBuilder) -> None:
    row = builder.query_row(examples()[0], 0, think=True, sft_weight=1.0, train_emb_token=False)
    assert text_of(builder, row.targets.token_ids) == "the end of an array"
    np.testing.assert_array_equal(row.tokens[row.logit_positions + 1], row.targets.token_ids)
    assert row.tokens[row.emb_positions[0]] == EMB


def test_a_truncated_thought_is_not_taught_to_end_there(builder: RowBuilder) -> None:
    example = examples()[1]
    assert example.thought is not None
    whole = builder.tokenizer.encode_thought(example.thought)
    assert len(whole) > LENGTHS.thought
    row = builder.query_row(example, 4, think=True, sft_weight=1.0)
    np.testing.assert_array_equal(row.targets.token_ids, whole[:12])
    np.testing.assert_array_equal(row.tokens[row.logit_positions + 1], row.targets.token_ids)
    # Its vector is still read, as that of a thought that was cut off at its budget.
    assert row.tokens[-1] == EMB
    assert (list(row.emb_positions), list(row.embedding_ids)) == ([len(row.tokens) - 1], [4])
    continuation = builder.reference_continuation(example, 4, sft_weight=1.0)
    assert continuation is not None
    np.testing.assert_array_equal(continuation.tokens, [*whole[:12], EMB])
    assert continuation.num_targets == 12
    short = examples()[0]
    assert short.thought is not None
    both = len(builder.tokenizer.encode_thought(short.thought)) + 1 + 12
    assert builder.count_sft_targets([short, example]) == both
    assert builder.count_truncated(examples()) == 1


def test_where_there_is_no_thought_nothing_is_imitated(builder: RowBuilder) -> None:
    with_one, _, without = examples()
    for example, think, weight, prompt in (
        (without, True, 1.0, "answer: passage think"),
        (with_one, False, 1.0, "find: overflow"),
    ):
        row = builder.query_row(example, 0, think=think, sft_weight=weight)
        assert text_of(builder, row.tokens) == f"<|im_start|>{prompt}<|im_end|><emb_token>"
        assert len(row.targets) == len(row.logit_positions) == 0
        assert row.targets.sft_weights is None
    row = builder.query_row(with_one, 0, think=True, sft_weight=0.0)
    assert "the end of an array<emb_token>" in text_of(builder, row.tokens)
    assert len(row.targets) == 0


def test_an_instruction_of_the_record_comes_before_the_set_s(builder: RowBuilder) -> None:
    prompts = [text_of(builder, builder.prompt(example, think=False).ids) for example in examples()]
    assert [prompt.removeprefix("<|im_start|>").split(":")[0] for prompt in prompts] == [
        "find",
        "search",
        "answer",
    ]


def test_documents_are_told_apart_by_their_set_and_cut(builder: RowBuilder) -> None:
    one, other = builder.document_row(("a", "d0"), 3), builder.document_row(("b", "d0"), 4)
    assert text_of(builder, one.tokens) == "<|im_start|>array<|im_end|><emb_token>"
    assert text_of(builder, other.tokens) == "<|im_start|>retrieval<|im_end|><emb_token>"
    assert (list(one.embedding_ids), list(other.embedding_ids)) == ([3], [4])
    long = RowBuilder(builder.tokenizer, PRESET, sets(), LengthConfig(document=8)).document_row(
        ("a", "d3"), 0
    )
    assert len(long.tokens) == 8
    assert long.tokens[-1] == EMB
    assert long.emb_positions[0] == 7


def thought(*ids: int, finish_reason: FinishReason) -> Thought:
    log_probs = -np.arange(1, len(ids) + 1, dtype=np.float32)
    return Thought(
        token_ids=np.array(ids, np.int32),
        log_probs=log_probs,
        log_probs_at_1=log_probs,
        embedding=np.zeros(4, np.float32),
        finish_reason=finish_reason,
        sample=0,
    )


PROMPT = np.array([11, 12, 13], np.int32)
GROUP = [
    thought(20, 21, EMB, finish_reason=FinishReason.EMB_TOKEN),
    thought(30, EOS, EMB, finish_reason=FinishReason.EOS),
    thought(40, 41, EMB, finish_reason=FinishReason.LENGTH),
    thought(EMB, finish_reason=FinishReason.EMB_TOKEN),
    thought(EMB, finish_reason=FinishReason.LENGTH),
]
ADVANTAGES = np.array([1, -1, 0.5, 2, 3], np.float32)
SHARES = np.array([0.1, 0.2, 0, 0.4, 0.5], np.float32)
DRAWN = [[20, 21, EMB], [30, EOS], [40, 41], [EMB], []]
"""What the policy chose: an end of text, but no `<emb_token>` that was appended."""


def group() -> Row:
    return shared_prefix_row(PROMPT, policy_continuations(GROUP, ADVANTAGES, SHARES, range(6, 11)))


def test_what_the_policy_chose_counts() -> None:
    assert [num_completion_tokens(each) for each in GROUP] == [3, 2, 2, 1, 0]


def test_a_group_shares_its_prompt() -> None:
    row = group()
    np.testing.assert_array_equal(
        row.tokens, [11, 12, 13, 20, 21, EMB, 30, EOS, EMB, 40, 41, EMB, EMB, EMB]
    )
    assert row.positions is not None
    assert row.segment_ids is not None
    np.testing.assert_array_equal(row.segment_ids, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5])
    np.testing.assert_array_equal(row.positions, [0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 3, 3])
    assert row.targets.token_ids.tolist() == [token for drawn in DRAWN for token in drawn]
    # The first token of every thought is predicted from the prompt's last.
    np.testing.assert_array_equal(row.logit_positions, [2, 3, 4, 2, 6, 2, 9, 2])
    np.testing.assert_array_equal(row.targets.continuation, [0, 0, 0, 1, 1, 2, 2, 3])
    np.testing.assert_array_equal(row.emb_positions, [5, 8, 11, 12, 13])
    assert list(row.embedding_ids) == [6, 7, 8, 9, 10]
    np.testing.assert_array_equal(row.targets.advantages, ADVANTAGES[row.targets.continuation])
    np.testing.assert_array_equal(row.targets.policy_weights, SHARES[row.targets.continuation])
    np.testing.assert_array_equal(row.targets.sampler_logps, [-1, -2, -3, -1, -2, -1, -2, -1])


def test_each_thought_in_a_row_of_its_own_is_plain_text() -> None:
    rows = separate_rows(PROMPT, policy_continuations(GROUP, ADVANTAGES, SHARES, range(6, 11)))
    assert len(rows) == 5
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(row.tokens, [*PROMPT, *GROUP[number].token_ids])
        assert row.positions is None
        assert row.segment_ids is None
        assert row.targets.token_ids.tolist() == DRAWN[number]
        np.testing.assert_array_equal(row.tokens[row.logit_positions + 1], row.targets.token_ids)
        assert row.tokens[row.emb_positions[0]] == EMB
        assert list(row.embedding_ids) == [6 + number]
        assert not row.targets.continuation.any()
        np.testing.assert_array_equal(
            row.targets.advantages, np.full(len(row.targets), ADVANTAGES[number])
        )
