"""Every action token stands where it is predicted from, and every vector where it is read."""

import numpy as np
import pytest

from t1_jax.generate import FinishReason, Thought
from t1_jax.text import T1Tokenizer
from t1_jax.train.batch import Row
from t1_jax.train.data_config import LengthConfig
from t1_jax.train.rows import RowMaker, actions_of, group_row, rewarded_continuations, thought_rows
from tests.train.toy_texts import PRESET, examples, sets

LENGTHS = LengthConfig(query=64, thought=12, document=20)
EMB, EOS = 3, 2


@pytest.fixture
def maker(tiny_tokenizer: T1Tokenizer) -> RowMaker:
    return RowMaker(tiny_tokenizer, PRESET, sets(), LENGTHS)


def text_of(maker: RowMaker, ids: np.ndarray) -> str:
    return maker.tokenizer.decode(ids)


def test_a_query_imitates_its_thought_and_emb_token(maker: RowMaker) -> None:
    row = maker.query(examples()[0], 7, think=True, weight=0.25)
    prompt = "<|im_start|>find: overflow think<|im_end|>"
    assert text_of(maker, row.tokens) == f"{prompt}the end of an array<emb_token>"
    assert text_of(maker, row.targets) == "the end of an array<emb_token>"
    np.testing.assert_array_equal(row.tokens[row.read_at + 1], row.targets)
    assert text_of(maker, row.tokens[: row.read_at[0] + 1]) == prompt
    np.testing.assert_array_equal(row.columns["sft_weight"], np.full(len(row.targets), 0.25))
    assert (list(row.emb_at), list(row.vectors)) == ([len(row.tokens) - 1], [7])
    assert row.tokens[-1] == EMB


def test_a_forced_emb_token_is_read_but_not_imitated(maker: RowMaker) -> None:
    row = maker.query(examples()[0], 0, think=True, weight=1.0, emb_token_learns=False)
    assert text_of(maker, row.targets) == "the end of an array"
    np.testing.assert_array_equal(row.tokens[row.read_at + 1], row.targets)
    assert row.tokens[row.emb_at[0]] == EMB


def test_a_truncated_thought_is_not_taught_to_end_there(maker: RowMaker) -> None:
    example = examples()[1]
    assert example.thought is not None
    whole = maker.tokenizer.encode_thought(example.thought)
    assert len(whole) > LENGTHS.thought
    row = maker.query(example, 4, think=True, weight=1.0)
    np.testing.assert_array_equal(row.targets, whole[:12])
    np.testing.assert_array_equal(row.tokens[row.read_at + 1], row.targets)
    # Its vector is still read, as that of a thought that was cut off at its budget.
    assert row.tokens[-1] == EMB
    assert (list(row.emb_at), list(row.vectors)) == ([len(row.tokens) - 1], [4])
    branch = maker.given_branch(example, 4, weight=1.0)
    assert branch is not None
    np.testing.assert_array_equal(branch.tokens, [*whole[:12], EMB])
    assert branch.actions == 12
    short = examples()[0]
    assert short.thought is not None
    both = len(maker.tokenizer.encode_thought(short.thought)) + 1 + 12
    assert maker.count_imitated([short, example]) == both
    assert maker.count_truncated(examples()) == 1


def test_where_there_is_no_thought_nothing_is_imitated(maker: RowMaker) -> None:
    with_one, _, without = examples()
    for example, think, weight, prompt in (
        (without, True, 1.0, "answer: passage think"),
        (with_one, False, 1.0, "find: overflow"),
    ):
        row = maker.query(example, 0, think=think, weight=weight)
        assert text_of(maker, row.tokens) == f"<|im_start|>{prompt}<|im_end|><emb_token>"
        assert len(row.targets) == len(row.read_at) == len(row.columns) == 0
    row = maker.query(with_one, 0, think=True, weight=0.0)
    assert "the end of an array<emb_token>" in text_of(maker, row.tokens)
    assert len(row.targets) == len(row.columns) == 0


def test_an_instruction_of_the_record_comes_before_the_set_s(maker: RowMaker) -> None:
    prompts = [text_of(maker, maker.prompt(example, think=False).ids) for example in examples()]
    assert [prompt.removeprefix("<|im_start|>").split(":")[0] for prompt in prompts] == [
        "find",
        "search",
        "answer",
    ]


def test_documents_are_told_apart_by_their_set_and_cut(maker: RowMaker) -> None:
    one, other = maker.document(("a", "d0"), 3), maker.document(("b", "d0"), 4)
    assert text_of(maker, one.tokens) == "<|im_start|>array<|im_end|><emb_token>"
    assert text_of(maker, other.tokens) == "<|im_start|>retrieval<|im_end|><emb_token>"
    assert (list(one.vectors), list(other.vectors)) == ([3], [4])
    long = RowMaker(maker.tokenizer, PRESET, sets(), LengthConfig(document=8)).document(
        ("a", "d3"), 0
    )
    assert len(long.tokens) == 8
    assert long.tokens[-1] == EMB
    assert long.emb_at[0] == 7


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
    return group_row(PROMPT, rewarded_continuations(GROUP, ADVANTAGES, SHARES, range(6, 11)))


def test_what_the_policy_chose_counts() -> None:
    assert [actions_of(each) for each in GROUP] == [3, 2, 2, 1, 0]


def test_a_group_shares_its_prompt() -> None:
    row = group()
    np.testing.assert_array_equal(
        row.tokens, [11, 12, 13, 20, 21, EMB, 30, EOS, EMB, 40, 41, EMB, EMB, EMB]
    )
    assert row.positions is not None
    assert row.segments is not None
    np.testing.assert_array_equal(row.segments, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5])
    np.testing.assert_array_equal(row.positions, [0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 3, 3])
    assert row.targets.tolist() == [token for drawn in DRAWN for token in drawn]
    # The first token of every thought is predicted from the prompt's last.
    np.testing.assert_array_equal(row.read_at, [2, 3, 4, 2, 6, 2, 9, 2])
    np.testing.assert_array_equal(row.sequence, [0, 0, 0, 1, 1, 2, 2, 3])
    np.testing.assert_array_equal(row.emb_at, [5, 8, 11, 12, 13])
    assert list(row.vectors) == [6, 7, 8, 9, 10]
    np.testing.assert_array_equal(row.columns["advantage"], ADVANTAGES[row.sequence])
    np.testing.assert_array_equal(row.columns["policy_weight"], SHARES[row.sequence])
    np.testing.assert_array_equal(row.columns["sampler"], [-1, -2, -3, -1, -2, -1, -2, -1])


def test_each_thought_in_a_row_of_its_own_is_plain_text() -> None:
    rows = thought_rows(PROMPT, rewarded_continuations(GROUP, ADVANTAGES, SHARES, range(6, 11)))
    assert len(rows) == 5
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(row.tokens, [*PROMPT, *GROUP[number].token_ids])
        assert row.positions is None
        assert row.segments is None
        assert row.targets.tolist() == DRAWN[number]
        np.testing.assert_array_equal(row.tokens[row.read_at + 1], row.targets)
        assert row.tokens[row.emb_at[0]] == EMB
        assert list(row.vectors) == [6 + number]
        assert not row.sequence.any()
        np.testing.assert_array_equal(
            row.columns["advantage"], np.full(len(row.targets), ADVANTAGES[number])
        )
