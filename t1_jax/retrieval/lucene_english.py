"""Terms of Lucene's English analyzer, as Anserini and BRIGHT use it, without Java.

StandardTokenizer (the word boundaries of Unicode's annex 29), possessives removed, lower case, 33
stop words, and the Porter stemmer. tests/retrieval/test_lucene_english.py has Lucene's own output.
"""

import functools
import re
from collections.abc import Iterator

import regex
import Stemmer

# fmt: off
STOP_WORDS = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
))
# fmt: on
_MAX_TOKEN_LENGTH = 255

# Annex 29 for ASCII: letters join over . ' : and digits over . ' , ; and both over underscores.
_ASCII_WORD = re.compile(
    r"\w+(?:(?:(?<=[A-Za-z])[.':](?=[A-Za-z])|(?<=[0-9])[.',;](?=[0-9]))\w+)*", re.ASCII
)
_BOUNDARY = regex.compile(r"(?V1w)\b")
_IS_WORD = regex.compile(r"[\p{Alphabetic}\p{Nd}\p{Extended_Pictographic}]")
_UNSPACED = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+")
_POSSESSIVE = re.compile("['\u2019\uff07][sS]$")


def analyze(texts: list[str]) -> list[list[str]]:
    """The terms of each text."""
    stemmer = Stemmer.Stemmer("porter")
    return [stem_words(list(_words(text)), stemmer) for text in texts]


def _words(text: str) -> Iterator[str]:
    """Words in lower case without possessives and stop words."""
    for token in _tokens(text):
        word = _lower(_POSSESSIVE.sub("", token))
        if word not in STOP_WORDS:
            yield word


def _tokens(text: str) -> Iterator[str]:
    # White space is always a boundary, and most chunks of most texts are ASCII.
    for chunk in [text] if text.isascii() else text.split():
        words = _ASCII_WORD.findall(chunk) if chunk.isascii() else _unicode_words(chunk)
        for word in words:
            if word.strip("_"):
                for start in range(0, len(word), _MAX_TOKEN_LENGTH):
                    yield word[start : start + _MAX_TOKEN_LENGTH]


def _unicode_words(chunk: str) -> Iterator[str]:
    """The words of a chunk; scripts that need a dictionary, such as Thai, stay together."""
    pending = ""
    for part in _BOUNDARY.split(chunk):
        if part and _UNSPACED.fullmatch(part):
            pending += part
            continue
        if pending:
            yield pending
            pending = ""
        if _IS_WORD.search(part):
            yield part
    if pending:
        yield pending


def _lower(word: str) -> str:
    """Lower case of each character by itself, as in Java: no final sigma, and one for one."""
    return word.lower() if word.isascii() else "".join(c.lower()[0] for c in word)


# Lucene's Porter stemmer follows Porter's revised program, with two rules that differ from his
# paper and so from Snowball's: after steps 1a to 1c, -bli becomes -ble (not only -abli), and -logi
# becomes -log, both if the rest has a vowel followed by a consonant. Words that reach these rules
# are replaced by words that Snowball's stemmer takes to the same stem.
_REVISED = re.compile(r"(.*)(bl|log)(?:[iy](?:ed|ing)?s?|ies)", re.DOTALL)


def stem_words(words: list[str], stemmer: "Stemmer.Stemmer") -> list[str]:
    """Stems of words in lower case by Lucene's Porter stemmer; `stemmer` is Snowball's `porter`."""
    stems = stemmer.stemWords([_revised(word) for word in words])
    return [word if len(word) < 3 else stem for word, stem in zip(words, stems, strict=True)]


@functools.lru_cache(maxsize=1 << 16)
def _revised(word: str) -> str:
    match = _REVISED.fullmatch(word)
    if match is None or not _has_measure(match[1]):
        return word
    return f"{match[1]}ble" if match[2] == "bl" else f"{match[1]}log"


def _has_measure(stem: str) -> bool:
    """Whether a vowel is followed by a consonant: Porter's m > 0."""
    kinds = ""
    for letter in stem:
        is_vowel = letter in "aeiou" or (letter == "y" and kinds.endswith("c"))
        kinds += "v" if is_vowel else "c"
    return "vc" in kinds
