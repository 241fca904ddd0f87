"""BM25 terms: English stems, and character bigrams in scripts without spaces between words.

Bigrams are what Lucene's CJK analyzer uses for Chinese, Japanese and Korean. Thai, Lao, Khmer and
Burmese, which would need dictionaries, get bigrams too.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator

import Stemmer

# Han, kana, Hangul, Thai, Lao, Burmese, Khmer; the last range is Han extensions.
_UNSPACED = (
    "々〇\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3041-\u3096\u30a1-\u30fa\u30fc-\u30ff"
    "\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7ff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_LAST_MARK = 0x1FFFF
_ONE_LETTER = re.compile(rf"[{_UNSPACED}]|\b[^\W\d_]\b")


def stem(texts: list[str]) -> list[list[str]]:
    """Terms of each text: stems of words of at least two letters, without stop words, and bigrams.

    For ASCII texts the result equals `bm25s.tokenize` with English stop words and this stemmer.
    """
    from bm25s.stopwords import STOPWORDS_EN

    stop_words = frozenset(STOPWORDS_EN)
    stemmer = Stemmer.Stemmer("english")
    return [
        stemmer.stemWords([word for word in _words(_plain(text)) if word not in stop_words])
        for text in texts
    ]


def single_letters(texts: list[str]) -> list[list[str]]:
    """Words of one letter, such as the names C and R, and the characters of unspaced scripts."""
    return [_ONE_LETTER.findall(_plain(text)) for text in texts]


def is_letters_only(text: str) -> bool:
    """Whether all words of a text have one letter; `stem` gives no terms for such a text."""
    words = re.findall(r"\w+", _plain(text))
    return bool(words) and all(len(word) == 1 and word.isalpha() for word in words)


def _plain(text: str) -> str:
    """The text in NFKC form (no full-width letters, no half-width kana) and in lower case."""
    return unicodedata.normalize("NFKC", text).lower()


def _words(text: str) -> Iterator[str]:
    if text.isascii():
        yield from re.findall(r"\w\w+", text)
        return
    for match in _pattern().finditer(text):
        run = match[1]
        if run is None:
            yield match[0]
        elif len(run) == 1:
            yield run
        else:
            yield from (run[i : i + 2] for i in range(len(run) - 1))


@functools.cache
def _pattern() -> re.Pattern[str]:
    r"""A run of an unspaced script (group 1), or a word of at least two letters with their marks.

    Python's \w excludes combining marks, so \w+ would split words of Hindi or Tamil.
    """
    marks = "".join(
        chr(code)
        for code in range(0x300, _LAST_MARK)
        if unicodedata.category(chr(code)).startswith("M")
    )
    letter = rf"[^\W{_UNSPACED}]"
    return re.compile(rf"([{_UNSPACED}]+)|{letter}[{marks}]*(?:{letter}[{marks}]*)+")
