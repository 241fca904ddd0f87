import pytest

from t1_jax.train.data import jaccard, normalized_text, shingles, text_key


@pytest.mark.parametrize(
    ("text", "same"),
    [(" Two\n\twords ", "two words"), ("ﬁle", "file"), ("STRASSE", "straße"), ("x=1", "X=1")],
)
def test_texts_that_a_reader_takes_for_one(text: str, same: str):
    assert normalized_text(text) == normalized_text(same)
    assert text_key(text) == text_key(same)


def test_punctuation_makes_another_text():
    assert text_key("a = b") != text_key("a == b")
    assert len(text_key("a")) == 32


def test_shingles_are_runs_of_the_normalized_text():
    assert shingles(" ABc  d", 3) == {"abc", "bc ", "c d"}
    assert shingles("ab", 3) == {"ab"}
    assert jaccard(shingles("abcd", 3), shingles("bcde", 3)) == 1 / 3
