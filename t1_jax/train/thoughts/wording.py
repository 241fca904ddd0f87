"""Short English from longer English: first sentences, clauses that fit, one clean paragraph.

Thoughts are written with these, so that each stays within a budget and says its most telling words
first. Nothing here knows a tokenizer: lengths are counted in pieces, which come close to tokens.
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
_DANGLING = frozenset(
    re.findall(
        r"\S+",
        "a an and are as at be because but by can e.g for from had has have if i.e in into is it "
        "may of on or so such than that the then this to using via when where which while who "
        "with within",
    )
)


def count_pieces(text: str) -> int:
    """About how many tokens a byte-level BPE of English makes of a text: within a tenth or so."""
    return sum(
        1 + (len(piece) - 1) // _LETTERS_A_PIECE if piece[0].isalpha() else len(piece)
        for piece in _PIECE.findall(text)
    )


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def plain_words(markdown: str) -> str:
    """Markdown as plain words on one line: links by their text, no emphasis, code as it is."""
    parts = _LINK.sub(r"\1", markdown).split("`")
    for place in range(0, len(parts), 2):  # between backticks stands code
        parts[place] = _EMPHASIS.sub(r"\2", _REFERENCE.sub(r"\1", parts[place]))
    return one_line("".join(parts))


def sentences(text: str) -> list[str]:
    """The sentences of a text on one line each; an abbreviation ends none."""
    found: list[str] = []
    for part in _END.split(one_line(text)):
        if found and _NO_END.search(found[-1]):
            found[-1] = f"{found[-1]} {part}"
        elif part:
            found.append(part)
    return found


def shortened(text: str, pieces: int) -> str:
    """The text without its full stop, cut after at most so many pieces where it can be cut best.

    That is before a comma, colon, semicolon or bracket if this keeps most of what would fit,
    else between two words; no article, preposition or conjunction is left hanging.
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
    kept = " ".join(words)
    breaks = [found.start() for found in _BREAK.finditer(kept) if found.start() >= 0.7 * len(kept)]
    if breaks:
        kept = kept[: breaks[-1]]
    words = kept.rstrip(" ,;:(-–").split(" ")
    while len(words) > 1 and words[-1].casefold().strip("(,;:.") in _DANGLING:
        words.pop()
    return " ".join(words).rstrip(" ,;:(-–")


def capitalized(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def draw(seed: str) -> int:
    """A number of 64 bits that depends on the seed alone, on every machine and in any order."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")


def pick(options: Sequence[str], seed: str) -> str:
    """One of the options, of which there must be at least one; see `draw`."""
    return options[draw(seed) % len(options)]
