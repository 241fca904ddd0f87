"""How much of a text repeats itself: a language model that is stuck writes the same words again."""

import re

_NGRAM = 4
REPETITIVE = 0.25
"""From this repetition on a thought counts as repetitive; texts that people write stay below."""

# A word, or one character of a script that has no spaces between words.
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u9fff\uac00-\ud7af]|[^\W]+")


def repetition(text: str) -> float:
    """Fraction of the text's 4-grams of words that occur earlier in it, from 0 to 1.

    It is seq-rep-4 of arXiv:1908.04319, of words instead of tokens. A text of fewer than four words
    has none.
    """
    words = _WORD.findall(text.lower())
    grams = list(zip(*(words[start:] for start in range(_NGRAM)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
