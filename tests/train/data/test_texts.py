import pytest

from t1_jax.train.data import jaccard, normalize_text, shingles, text_hash


@pytest.mark.parametrize(
    ("text", "same"),
    [(" Two\n\twords ", "two words"), ("ﬁle", "file"), ("STRASSE", "straße"), ("x=1", "X=1")],
)
def test_texts_that_a_reader_takes_for_one(text: str, same: str):
    assert normalize_text(text) == normalize_text(same)
    assert text_hash(text) == text_hash(same)


def test_punctuation_makes_another_text():
    assert text_hash("a = b") != text_hash("a == b")
    assert len(text_hash("a")) == 32


def test_shingles_are_runs_of_the_normalized_text():
    assert shingles(" ABc  d", 3) == {"abc", "bc ", "c d"}
    assert shingles("ab", 3) == {"ab"}
    assert jaccard(shingles("abcd", 3), shingles("bcde", 3)) == 1 / 3
