"""Cuts a text into passages that a retriever can embed, each with its position and its title."""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt

MAX_CHARACTERS = 1000
"""Upper bound of a passage: about 250 tokens of English."""

# Where a passage may end, best first: blank line, line, sentence, word.
_BOUNDARIES = tuple(map(re.compile, (r"\n[^\S\n]*\n\s*", r"\n\s*", r"(?<=[.!?])\s+", r"\s+")))
_WORD = re.compile(r"\w")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A part of a text.

    Attributes:
        text: a slice of the file, without space around it.
        line: the line on which it starts, from 1.
        title: headings above it, or "".
    """

    text: str
    line: int
    title: str = ""


def split_text(text: str) -> list[Passage]:
    """The passages of a text, each at most `MAX_CHARACTERS` long; blank ones are left out."""
    passages = []
    line, position = 1, 0
    for start, end in _spans(text, 0, len(text), _BOUNDARIES):
        body = text[start:end]
        start += len(body) - len(body.lstrip())
        line, position = line + text.count("\n", position, start), start
        if _WORD.search(body):
            passages.append(Passage(text=body.strip(), line=line))
    return passages


def split_markdown(text: str, name: str) -> list[Passage]:
    """The passages of each section of a Markdown text; titles are paths of headings.

    `name` begins the path of a file without a heading of level 1.
    """
    passages = []
    lines = text.split("\n")  # as the parser counts them
    for section in _sections(text, name, len(lines)):
        for passage in split_text("\n".join(lines[section.start : section.end])):
            passages.append(
                Passage(text=passage.text, line=passage.line + section.start, title=section.title)
            )
    return passages


@dataclass(frozen=True, kw_only=True)
class _Section:
    """Lines `start` to `end` (from 0, exclusive) below a heading."""

    title: str
    start: int
    end: int


def _sections(text: str, name: str, count: int) -> Iterator[_Section]:
    headings: list[tuple[int, str]] = []
    start = 0
    tokens = _markdown().parse(text)
    for token, inline in itertools.pairwise(tokens):
        # Headings inside of lists and quotations begin no section.
        if token.type != "heading_open" or token.level > 0 or token.map is None:
            continue
        yield _Section(title=_title(headings, name), start=start, end=token.map[0])
        level = int(token.tag[1:])
        headings = [heading for heading in headings if heading[0] < level]
        headings.append((level, " ".join(inline.content.split())))
        start = token.map[1]
    yield _Section(title=_title(headings, name), start=start, end=count)


def _title(headings: Sequence[tuple[int, str]], name: str) -> str:
    parts = [text for _, text in headings if text]
    if not headings or headings[0][0] > 1:
        parts.insert(0, name)
    return " > ".join(parts)


@functools.cache
def _markdown() -> MarkdownIt:
    """A parser of blocks only."""
    parser = MarkdownIt("commonmark")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _spans(
    text: str, start: int, end: int, boundaries: Sequence[re.Pattern[str]]
) -> list[tuple[int, int]]:
    """Consecutive parts of `text[start:end]`, as few and as whole as their length allows."""
    if end - start <= MAX_CHARACTERS:
        return [(start, end)]
    if not boundaries:
        return [(cut, min(cut + MAX_CHARACTERS, end)) for cut in range(start, end, MAX_CHARACTERS)]
    boundary, *finer = boundaries
    ends = [match.end() for match in boundary.finditer(text, start, end)]
    merged: list[tuple[int, int]] = []
    for first, last in zip([start, *ends], [*ends, end], strict=True):
        for part in _spans(text, first, last, finer):
            if merged and part[1] - merged[-1][0] <= MAX_CHARACTERS:
                merged[-1] = (merged[-1][0], part[1])
            else:
                merged.append(part)
    return merged
