"""Shortens English text for thoughts: first sentences, clauses that fit, one clean paragraph.

Lengths are counted in pieces, an estimate of tokens that needs no tokenizer.
"""

import hashlib
import re
from collections.abc import Sequence

_PIECE = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]+")
_LETTERS_A_PIECE = 7
_NO_END = re.compile(r"(?:\be\.g|\bi\.e|\betc|\bvs|\bcf|\bNo|\bFig)\.$")
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z`\"'(\[*])")
_BREAK = re.compile(r"[,;:(]|\s[-–]\s")
_LINK = re.compile(r"\[([^\]]+)\](?:\[[^\]]*\]|\([^)]*\))")
_REFERENCE = re.compile(r"(?<!\w)\[([^\]]+)\]")
_EMPHASIS = re.compile(r"(?<![\w*])(\*\*?|_)(?=\w)([^*_]+)(?<=\w)\1(?![\w*])")
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\S+",
        "a an and are as at be because but by can e.g for from had has have if i.e in into is it "
        "may of on or so such than that the then this to using via when where which while who "
        "with within",
    )
)


def count_pieces(text: str) -> int:
    """Estimates the tokens of a byte-level BPE for English, within about a tenth."""
    return sum(
        1 + (len(piece) - 1) // _LETTERS_A_PIECE if piece[0].isalpha() else len(piece)
        for piece in _PIECE.findall(text)
    )


def one_line(text: str) -> str:
    """The text with each run of white space replaced by one space."""
    return " ".join(text.split())


def plain_words(markdown: str) -> str:
    """Markdown as plain text on one line: link texts, no emphasis, code unchanged."""
    parts = _LINK.sub(r"\1", markdown).split("`")
    for place in range(0, len(parts), 2):  # odd parts are code
        parts[place] = _EMPHASIS.sub(r"\2", _REFERENCE.sub(r"\1", parts[place]))
    return one_line("".join(parts))


def sentences(text: str) -> list[str]:
    """The sentences of a text; an abbreviation does not end one."""
    result: list[str] = []
    for part in _END.split(one_line(text)):
        if result and _NO_END.search(result[-1]):
            result[-1] = f"{result[-1]} {part}"
        elif part:
            result.append(part)
    return result


def shortened(text: str, pieces: int) -> str:
    """The text without its full stop, cut to at most `pieces` pieces.

    It is cut before a comma, colon, semicolon or bracket if that keeps most of what fits, else
    between two words, and never after an article, preposition or conjunction.
    """
    text = one_line(text).rstrip(" .;:,")
    if count_pieces(text) <= pieces:
        return text
    words, size = [], 0
    for word in text.split(" "):
        size += count_pieces(word)
        if size > pieces:
            break
        words.append(word)
    result = " ".join(words)
    starts = [match.start() for match in _BREAK.finditer(result)]
    breaks = [start for start in starts if start >= 0.7 * len(result)]
    if breaks:
        result = result[: breaks[-1]]
    words = result.rstrip(" ,;:(-–").split(" ")
    while len(words) > 1 and words[-1].casefold().strip("(,;:.") in FUNCTION_WORDS:
        words.pop()
    return " ".join(words).rstrip(" ,;:(-–")


def capitalized(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def draw(seed: str) -> int:
    """A 64-bit number that depends only on the seed, on every machine."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")


def pick(options: Sequence[str], seed: str) -> str:
    """One of the options, chosen by the seed."""
    return options[draw(seed) % len(options)]
