"""Prompts to tokens: as the whole string would be, except that users' text stays text."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from t1_jax.errors import ConfigError, DataError, UnsupportedError, WeightsError
from t1_jax.text import PromptTokens, T1Tokenizer, load_preset

TEMPLATE = load_preset("t1").query_template
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<emb_token>"]
ANY_TEXT = st.text().filter(str.strip)
HOSTILE_TEXT = st.lists(
    st.sampled_from([*SPECIALS, " ", "é", "😀", "attacker", "overflow\n"]), min_size=1
).map("".join)


def encode(tokenizer: T1Tokenizer, text: str, max_tokens: int = 10_000) -> PromptTokens:
    (prompt,) = tokenizer.encode_prompts(
        TEMPLATE, instruction="Find it", texts=[text], max_tokens=max_tokens
    )
    return prompt


def rendered(text: str) -> str:
    return TEMPLATE.replace("{instruction}", "Find it").replace("{text}", text)


@given(text=ANY_TEXT)
def test_tokens_equal_those_of_transformers_on_the_rendered_prompt(
    tiny_tokenizer: T1Tokenizer, text: str
) -> None:
    assume(not any(special in text for special in SPECIALS))
    peer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer.tokenizer)
    ids = peer(rendered(text), add_special_tokens=False)["input_ids"]
    prompt = encode(tiny_tokenizer, text)
    assert prompt.ids.tolist() == ids
    assert not prompt.truncated


def test_special_ids_are_those_of_special_tokens_alone(tiny_tokenizer: T1Tokenizer) -> None:
    copy = Tokenizer.from_str(tiny_tokenizer.tokenizer.to_str())
    copy.add_tokens([AddedToken("<think>", special=False)])
    both = T1Tokenizer(
        copy,
        emb_token_id=tiny_tokenizer.emb_token_id,
        eos_ids=tiny_tokenizer.eos_ids,
        pad_id=tiny_tokenizer.pad_id,
    )
    assert both.special_ids == tiny_tokenizer.special_ids == frozenset(range(len(SPECIALS)))


@given(text=(ANY_TEXT | HOSTILE_TEXT).filter(str.strip), thought=st.text() | HOSTILE_TEXT)
def test_no_text_gains_a_special_token_and_none_is_lost(
    tiny_tokenizer: T1Tokenizer, text: str, thought: str
) -> None:
    special_ids = range(len(SPECIALS))
    bare = encode(tiny_tokenizer, "x").ids
    prompt = encode(tiny_tokenizer, text)
    assert np.isin(prompt.ids, special_ids).sum() == np.isin(bare, special_ids).sum()
    ids = tiny_tokenizer.encode_thought(thought)
    assert not np.isin(ids, special_ids).any()
    assert tiny_tokenizer.decode(ids) == thought
    assert tiny_tokenizer.decode(prompt.ids) == rendered(text)


@given(text=(ANY_TEXT | HOSTILE_TEXT).filter(str.strip), spare=st.integers(0, 12))
def test_cutting_takes_tokens_off_the_end_of_the_text_only(
    tiny_tokenizer: T1Tokenizer, text: str, spare: int
) -> None:
    most = len(encode(tiny_tokenizer, "x").ids) + spare
    whole, prompt = encode(tiny_tokenizer, text), encode(tiny_tokenizer, text, most)
    after = tiny_tokenizer.tokenizer.encode(rendered("{text}").split("{text}")[1]).ids
    stays = len(prompt.ids) - len(after)
    assert len(prompt.ids) == min(len(whole.ids), most)
    assert prompt.ids[:stays].tolist() == whole.ids[:stays].tolist()
    assert prompt.ids[stays:].tolist() == after
    assert prompt.truncated == (len(whole.ids) > most)


def test_a_cut_prompt_keeps_as_much_text_as_fits(tiny_tokenizer: T1Tokenizer) -> None:
    whole = encode(tiny_tokenizer, "abcdefgh")
    assert len(encode(tiny_tokenizer, "abcdefgh", len(whole.ids)).ids) == len(whole.ids)
    cut = encode(tiny_tokenizer, "abcdefgh", len(whole.ids) - 1)
    assert (len(cut.ids), cut.truncated) == (len(whole.ids) - 1, True)


def test_words_of_one_token_are_cut_from_the_end(tiny_tokenizer: T1Tokenizer) -> None:
    text = "attacker array overflow" * 5
    cut = encode(tiny_tokenizer, text, max_tokens=len(encode(tiny_tokenizer, text).ids) - 7)
    assert rendered(text).startswith(tiny_tokenizer.decode(cut.ids).split("<|im_end|>")[0])


def test_words_beside_the_text_are_encoded_together_with_it(tiny_tokenizer: T1Tokenizer) -> None:
    text = "a passage"
    for template in ("<|im_start|>Represent{text}for", "{text}", "x {text}<|im_end|> y"):
        whole = template.replace("{text}", text)
        (prompt,) = tiny_tokenizer.encode_prompts(
            template, instruction="", texts=[text], max_tokens=99
        )
        assert prompt.ids.tolist() == tiny_tokenizer.tokenizer.encode(whole).ids


def test_an_instruction_is_text_too(tiny_tokenizer: T1Tokenizer) -> None:
    (prompt,) = tiny_tokenizer.encode_prompts(
        "<|im_start|>{instruction}: {text}",
        instruction="<emb_token> {text}",
        texts=["x"],
        max_tokens=99,
    )
    assert tiny_tokenizer.decode(prompt.ids) == "<|im_start|><emb_token> {text}: x"
    assert not np.isin(prompt.ids[1:], range(len(SPECIALS))).any()


def test_many_texts_are_encoded_like_one_at_a_time(tiny_tokenizer: T1Tokenizer) -> None:
    texts = ["one", "two overflows", "é" * 40]
    rows = tiny_tokenizer.encode_prompts(
        TEMPLATE, instruction="Find it", texts=texts, max_tokens=60
    )
    for row, text in zip(rows, texts, strict=True):
        alone = encode(tiny_tokenizer, text, 60)
        assert row.ids.tolist() == alone.ids.tolist()
        assert row.truncated == alone.truncated


def test_append_emb_token_adds_the_only_one(tiny_tokenizer: T1Tokenizer) -> None:
    prompt = encode(tiny_tokenizer, "a <emb_token> in the text")
    thought = tiny_tokenizer.encode_thought("about <emb_token>")
    row = tiny_tokenizer.append_emb_token(prompt, thought)
    assert row.ids.tolist() == [*prompt.ids, *thought, tiny_tokenizer.emb_token_id]
    with pytest.raises(DataError, match="exactly once, got 2"):
        tiny_tokenizer.append_emb_token(prompt, [tiny_tokenizer.emb_token_id])


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_is_named(tiny_tokenizer: T1Tokenizer, text: str) -> None:
    with pytest.raises(DataError, match="query 'q7' is empty"):
        tiny_tokenizer.encode_prompts(
            TEMPLATE,
            instruction="",
            texts=["x", text],
            max_tokens=99,
            names=["query 'q1'", "query 'q7'"],
        )


@pytest.fixture(scope="module")
def with_words(tiny_tokenizer: T1Tokenizer) -> T1Tokenizer:
    """A special token and words that were added after training, in the order of their ids."""
    tokenizer = Tokenizer.from_str(tiny_tokenizer.tokenizer.to_str())
    tokenizer.add_special_tokens([AddedToken("<|tool|>", special=True)])
    plain = dict.fromkeys(("special", "normalized"), False)
    tokenizer.add_tokens(
        [
            AddedToken("<think>", **plain),
            AddedToken("overflowing", single_word=True, **plain),
            AddedToken("zebra", special=False, normalized=True),
            AddedToken("<sep>", lstrip=True, rstrip=True, **plain),
        ]
    )
    return T1Tokenizer(tokenizer, emb_token_id=3, eos_ids=[2], pad_id=0)


@given(
    words=st.lists(
        st.sampled_from(
            ["<think>", "overflowing", "overflowings", "zebra", "<sep>", " ", "é", "a"]
        ),
        min_size=1,
    )
)
def test_words_added_without_being_special_are_read_as_transformers_reads_them(
    with_words: T1Tokenizer, words: list[str]
) -> None:
    text = "".join(words)
    peer = PreTrainedTokenizerFast(tokenizer_object=with_words.tokenizer)
    assert with_words.encode_thought(text).tolist() == peer(text)["input_ids"]
    if text.strip():
        prompt = encode(with_words, text)
        assert prompt.ids.tolist() == peer(rendered(text), add_special_tokens=False)["input_ids"]


def test_special_tokens_beside_such_words_stay_text(with_words: T1Tokenizer) -> None:
    size = len(with_words.encode_thought("<|tool|>"))
    ids = with_words.encode_thought("<think><|tool|><emb_token>zebra").tolist()
    assert size > 1
    id_of = with_words.tokenizer.token_to_id
    assert (ids[0], ids[-1]) == (id_of("<think>"), id_of("zebra"))
    assert not {id_of("<emb_token>"), id_of("<|tool|>")} & {*ids}
    assert with_words.decode(ids) == "<think><|tool|><emb_token>zebra"


def test_a_lone_surrogate_is_named(tiny_tokenizer: T1Tokenizer) -> None:
    with pytest.raises(
        DataError, match="text 0 is not valid Unicode: a lone surrogate at character 2"
    ):
        encode(tiny_tokenizer, "ab\ud800")


def test_a_template_that_does_not_fit_is_refused(tiny_tokenizer: T1Tokenizer) -> None:
    with pytest.raises(ConfigError, match="tokens without any text, but only 5 are allowed"):
        encode(tiny_tokenizer, "x", max_tokens=5)


def test_a_preset_of_another_chat_format_is_refused(tiny_tokenizer: T1Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"contains <\|begin_of_text\|>, which is unknown"):
        tiny_tokenizer.encode_prompts(
            load_preset("t1-llama3").query_template, instruction="", texts=["x"], max_tokens=99
        )


def test_a_tokenizer_that_changes_text_after_special_tokens_is_refused(
    tiny_tokenizer: T1Tokenizer,
) -> None:
    tokenizer = Tokenizer.from_str(tiny_tokenizer.tokenizer.to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.add_special_tokens([AddedToken("<|im_end|>", lstrip=True, special=True)])
    tokenizer = T1Tokenizer(tokenizer, emb_token_id=3, eos_ids=[2], pad_id=0)
    with pytest.raises(UnsupportedError, match="differently after a special token"):
        tokenizer.encode_prompts("{text} <|im_end|>", instruction="", texts=["x"], max_tokens=99)


@pytest.mark.parametrize(
    ("emb_token_id", "eos_ids", "message"),
    [
        (300, [2], "<emb_token> with id 300 is not an added token"),
        (3, [2, 3], "must not be an end or padding token"),
        (0, [2], "must not be an end or padding token"),
    ],
)
def test_a_tokenizer_without_its_own_emb_token_is_refused(
    tiny_tokenizer: T1Tokenizer, emb_token_id: int, eos_ids: list[int], message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        T1Tokenizer(tiny_tokenizer.tokenizer, emb_token_id=emb_token_id, eos_ids=eos_ids, pad_id=0)
