"""Queries and documents in the words of a preset."""

import pytest

from t1_jax.text import T1Tokenizer, load_preset, tokenize_documents, tokenize_queries

PRESET = load_preset("t1")


@pytest.mark.parametrize("think", [True, False])
def test_a_query_ends_where_the_thought_begins(tiny_tokenizer: T1Tokenizer, think: bool) -> None:
    (prompt,) = tokenize_queries(
        tiny_tokenizer, PRESET, ["x = 1"], task="ruff", think=think, max_tokens=500
    )
    request = " First reason about what a relevant document must contain." if think else ""
    assert tiny_tokenizer.decode(prompt.ids) == (
        f"<|im_start|>user\n{PRESET.instructions['ruff']}.{request}\nQuery: x = 1<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_document_is_cut_before_its_emb_token_is_appended(tiny_tokenizer: T1Tokenizer) -> None:
    rows = tokenize_documents(tiny_tokenizer, PRESET, ["short", "long " * 500], max_tokens=100)
    assert [row.truncated for row in rows] == [False, True]
    assert len(rows[1].ids) == 100
    for row in rows:
        assert row.ids[-1] == tiny_tokenizer.emb_token_id
        assert tiny_tokenizer.decode(row.ids).endswith(
            "<|im_end|>\n<|im_start|>assistant\n<emb_token>"
        )
