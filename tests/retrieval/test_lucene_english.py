"""Terms of Lucene's English analyzer; the expected ones are the output of Anserini 0.22 in Java."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.retrieval.lucene_english import STOP_WORDS, analyze

LUCENE = {
    "It's the biology of geology; possibly": "biologi geologi possibl",
    "U.S.A. 3.14 1,000 foo_bar __ _a a_ can't O’Neil's": "u.s.a 3.14 1,000 foo_bar _a a_ can't "
    "o’neil",
    "e-mail a.b c:d http://www.x.com/a_b?q=1 5'6": "e mail a.b c:d http www.x.com a_b q 1 5'6",
    "naïve 東京タワー กรุงเทพ 서울 😀": "naïv 東 京 タワー กรุงเทพ 서울 😀",
    "İstanbul ΣΑΣ tables running 10⁹ log₂(3)": "istanbul σασ tabl run 10 log 3",
    "psychology psychological ecologies logy technologies": "psycholog psycholog ecolog logi "
    "technolog",
    "assembly assemblies ably terribly humbly bubbly": "assembl assembl abli terribl humbl bubbl",
    "agreed flies dies us as using skies sky happily": "agre fli di us us ski sky happili",
}


@pytest.mark.parametrize("text", LUCENE)
def test_terms_are_those_of_lucene(text: str):
    (terms,) = analyze([text])
    assert terms == LUCENE[text].split()


def test_long_tokens_are_cut_and_stop_words_left_out():
    assert [len(term) for term in analyze(["x" * 600])[0]] == [255, 255, 90]
    assert len(STOP_WORDS) == 33
    assert analyze([" ".join(STOP_WORDS), "", "!?"]) == [[], [], []]


@given(st.lists(st.text()))
def test_every_text_has_terms_or_none(texts: list[str]):
    terms = analyze(texts)
    assert len(terms) == len(texts)
    assert all(term and not term.isspace() for found in terms for term in found)
