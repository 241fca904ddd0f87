import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.train.thoughts.wording import (
    count_pieces,
    draw,
    pick,
    plain_words,
    sentences,
    shortened,
)


@pytest.mark.parametrize(
    ("markdown", "plain"),
    [
        ("Checks for `os.path`\nand [PEP 8].", "Checks for os.path and PEP 8."),
        ("See [`m.Markup`][m] (or [docs](https://x.y/z)).", "See m.Markup (or docs)."),
        ("`[x for x in y]` and `list[int]`", "[x for x in y] and list[int]"),
        ("_very_ **bold** `__future__` snake_case_name", "very bold __future__ snake_case_name"),
    ],
)
def test_markdown_becomes_plain_and_code_stays(markdown: str, plain: str):
    assert plain_words(markdown) == plain


def test_abbreviations_and_numbers_end_no_sentence():
    text = 'Use it, e.g. Python 3.10 or "x". Then stop! Why? `foo` knows.'
    first, *others = sentences(text)
    assert first == 'Use it, e.g. Python 3.10 or "x".'
    assert others == ["Then stop!", "Why?", "`foo` knows."]


@pytest.mark.parametrize(
    ("text", "pieces", "short"),
    [
        ("The product fails.", 10, "The product fails"),
        ("one two three four, five six", 5, "one two three four"),  # at the comma
        ("one, two three four five six", 5, "one, two three four"),  # the comma comes too early
        ("it reads the name of the file", 6, "it reads the name"),  # "of the" would dangle
        ("uses a test (e.g. with x)", 4, "uses a test"),
    ],
)
def test_what_is_too_long_is_cut_where_it_reads_well(text: str, pieces: int, short: str):
    assert shortened(text, pieces) == short


@given(st.text(alphabet="ab ,.;:(12-é", max_size=60), st.integers(1, 30))
def test_a_cut_text_fits_unless_it_is_one_word(text: str, pieces: int):
    cut = shortened(text, pieces)
    assert count_pieces(cut) <= pieces or len(cut.split(" ")) == 1
    assert " ".join(text.split()).startswith(cut)


def test_a_draw_depends_on_the_seed_alone():
    assert draw("a") == 14598278634844962250  # the first 8 bytes of SHA-256
    assert {pick("xyz", str(seed)) for seed in range(20)} == set("xyz")
