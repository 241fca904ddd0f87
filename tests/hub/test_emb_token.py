"""`<emb_token>`: every mode keeps every other id, and a taken row is never taken again."""

import dataclasses

import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.hub.emb_token import add_emb_token

ENDS = ("<|end|>", "<|im_start|>", "<empty_output>")


@pytest.mark.parametrize(
    ("mode", "rows", "options", "expected"),
    [
        ("append", 264, {}, (264, "append", 265)),
        ("append", 300, {}, (264, "append", 265)),
        ("unused", 300, {}, (264, "unused", 300)),
        ("unused", 300, {"token_id": 280}, (280, "unused", 300)),
        ("auto", 300, {}, (264, "unused", 300)),
        ("auto", 264, {}, (264, "append", 265)),
    ],
)
def test_a_row_without_a_token(tiny_tokenizer, mode, rows, options, expected) -> None:
    before = tiny_tokenizer()
    after, emb = add_emb_token(before, rows, mode=mode, **options)
    assert (emb.id, emb.mode, emb.vocab_size) == expected
    assert emb.untrained
    assert after.emb_token_id == emb.id
    assert before.emb_token_id is None
    vocabulary = before.backend.get_vocab()
    assert after.backend.get_vocab() == {**vocabulary, "<emb_token>": emb.id}
    assert np.flatnonzero(after.assigned(emb.vocab_size)).tolist() == [*range(264), emb.id]


@pytest.mark.parametrize("mode", ["spare", "auto"])
def test_a_spare_token_is_renamed(tiny_tokenizer, mode) -> None:
    before = tiny_tokenizer(ENDS)
    after, emb = add_emb_token(before, 265, mode=mode)
    assert (emb.id, emb.mode, emb.vocab_size) == (264, "spare", 265)
    assert after.backend.token_to_id("<empty_output>") is None
    assert after.backend.get_vocab_size() == 265
    assert after.backend.encode("hello<emb_token>").ids[-1] == 264
    assert after.backend.encode("<empty_output>").ids != [264]


@pytest.mark.parametrize("options", [{}, {"token_id": 290}])
def test_the_token_is_special_and_text_goes_on_as_before(tiny_tokenizer, options) -> None:
    before = tiny_tokenizer()
    after, emb = add_emb_token(before, 300, mode="unused", **options)
    text = "hello 12 <|im_start|>x<|end|>"
    assert after.backend.encode(text).ids == before.backend.encode(text).ids
    assert after.backend.encode("a<emb_token>").ids[-1] == emb.id
    assert after.backend.decode(after.backend.encode("a<emb_token>").ids) == "a"
    plain = after.backend
    plain.encode_special_tokens = True
    assert emb.id not in plain.encode("a<emb_token>").ids


def test_a_tokenizer_that_has_it_is_used_as_it_is(tiny_tokenizer) -> None:
    before = tiny_tokenizer(("<|end|>", "<emb_token>"))
    after, emb = add_emb_token(before, 300, mode="append")
    assert after is before
    assert (emb.id, emb.mode, emb.vocab_size) == (263, "existing", 300)
    assert not emb.untrained


@pytest.mark.parametrize(
    ("mode", "rows", "options", "message"),
    [
        ("unused", 265, {}, "all 265 rows"),
        ("unused", 300, {"token_id": 3}, "row 3 is not free among 300 rows"),
        ("unused", 300, {"token_id": 300}, "row 300 is not free"),
        ("unused", 265, {"token_id": 3}, "row 3 is not free"),
        ("spare", 265, {"spare": "<|end|>"}, "<|end|> is not a special token, or is in use"),
        ("spare", 265, {"spare": "<|im_start|>"}, "or is in use"),
        ("spare", 265, {"spare": "hello"}, "not a special token"),
        ("spare", 265, {"spare": "<nothing>"}, "not a special token"),
    ],
)
def test_rows_and_tokens_in_use_are_not_taken(
    tiny_tokenizer, mode, rows, options, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        add_emb_token(tiny_tokenizer(ENDS), rows, mode=mode, **options)
    assert message in str(caught.value)


def test_no_known_spare_token_is_said(tiny_tokenizer) -> None:
    with pytest.raises(ConfigError, match="<empty_output> is not a special token"):
        add_emb_token(tiny_tokenizer(), 264, mode="spare")


def test_a_spare_token_that_the_template_writes_is_in_use(tiny_tokenizer) -> None:
    tokenizer = dataclasses.replace(tiny_tokenizer(ENDS), chat_template="x<empty_output>")
    assert add_emb_token(tokenizer, 265)[1].mode == "append"
