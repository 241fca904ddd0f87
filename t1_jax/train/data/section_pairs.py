"""Training pairs from a folder of files: headings, file names and sentences as queries.

A query that stands word for word in its passage would teach nothing but matching words. Its
positive is therefore the passage without it (inverse cloze task, arXiv:1906.00300): without its
title for a heading or a file name, without the sentence for a sentence. The other forms of that
passage are excluded for the query.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from t1_jax.errors import DataError
from t1_jax.retrieval import Document, normalize_text
from t1_jax.train.data.pair_files import Pairs
from t1_jax.train.data.records import TrainingRecord

MAX_PASSAGES = 4000
"""Passages that pairs are made of, evenly over the folder: more than a quarter of an hour sees."""

_LEAST_WORDS, _MOST_WORDS = 4, 40
_LEAST_REST = 40
"""Characters that a passage must keep without its sentence."""

_LETTERS = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"\w+")
_END = re.compile(r"(?<=[.!?。])\s+|\n{2,}|(?<=。)")
_NAME_PARTS = re.compile(r"[-_.\s]+|(?<=[a-z])(?=[A-Z])")
_MARKUP = re.compile(r"^\s*(```|~~~|\||<!--|---|[$>]\s)", re.MULTILINE)
"""Lines of code, tables, comments, rules and quotations in Markdown."""

_FIELD = re.compile(r"^\s*[\w-]+:(\s|$)", re.MULTILINE)
"""A line `name: value`, as in front matter and settings."""

_BULLET = re.compile(r"^([-*+]|\d+[.)])\s+")
_PATH = " > "
"""Between the headings of a title, see `t1_jax.retrieval.read_folder`."""


@dataclass(frozen=True, kw_only=True)
class SectionPairs:
    """Pairs of a folder.

    Attributes:
        pairs: the passages, in whole and without a query, and the queries.
        groups: query id -> section; a section is held out as a whole.
        counts: kind of query -> how many there are.
    """

    pairs: Pairs
    groups: dict[str, str]
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A text that may serve as a query.

    Attributes:
        kind: "headings", "file names", "first sentences" or "sentences".
        text: the query.
        passage: the whole passage.
        positive: the passage without the query.
    """

    kind: str
    text: str
    passage: Document
    positive: Document


def section_pairs(documents: Sequence[Document], *, least: int = 30) -> SectionPairs:
    """Pairs from the passages of a folder, as `t1_jax.retrieval.read_folder` returns them.

    A text that would be the query of several passages is left out: it is too general.

    Raises:
        DataError: fewer than `least` queries.
    """
    passages = documents[:: max(-(-len(documents) // MAX_PASSAGES), 1)]
    candidates = [found for passage in passages for found in _candidates(passage)]
    candidates += _file_names(passages)
    uses = Counter(normalize_text(candidate.text) for candidate in candidates)
    chosen = [each for each in candidates if uses[normalize_text(each.text)] == 1]
    if len(chosen) < least:
        raise DataError(
            f"the files give {len(chosen)} headings, names and sentences to learn from, and at "
            f"least {least} are needed",
            hint="give a folder with more text; `t1 search` needs no training",
        )
    corpus = {document.id: document for document in documents}
    forms: dict[str, set[str]] = defaultdict(set)
    for each in chosen:
        corpus[each.positive.id] = each.positive
        forms[each.passage.id] |= {each.passage.id, each.positive.id}
    records = [
        TrainingRecord(
            query_id=f"{each.positive.id} {number}",
            query=each.text,
            positives={each.positive.id: 1},
            excluded=frozenset(forms[each.passage.id] - {each.positive.id}),
        )
        for number, each in enumerate(chosen)
    ]
    return SectionPairs(
        pairs=Pairs(documents=tuple(corpus.values()), records=tuple(records), notes={}),
        groups={
            record.query_id: _section(each.passage)
            for record, each in zip(records, chosen, strict=True)
        },
        counts=dict(Counter(each.kind for each in chosen)),
    )


def _candidates(passage: Document) -> Iterator[_Candidate]:
    heading = _heading(passage)
    if heading is not None and len(passage.text) >= _LEAST_REST:
        yield _Candidate(
            kind="headings",
            text=heading,
            passage=passage,
            positive=_without_title(passage),
        )
    parts = [part.strip() for part in _END.split(passage.text)]
    sentences = [part for part in parts if _is_prose(part)]
    # The first sentence, and one from the second half.
    for kind, sentence in zip(
        ("first sentences", "sentences"),
        dict.fromkeys([*sentences[:1], *sentences[len(sentences) // 2 :][:1]]),
        strict=False,
    ):
        rest = passage.text.replace(sentence, " ", 1).strip()
        if len(rest) >= _LEAST_REST:
            yield _Candidate(
                kind=kind,
                text=_BULLET.sub("", " ".join(sentence.split())),
                passage=passage,
                positive=Document(
                    id=f"{passage.id} without {kind}", title=passage.title, text=rest
                ),
            )


def _file_names(passages: Sequence[Document]) -> Iterator[_Candidate]:
    """The words of each file's name, about its first passage."""
    first: dict[str, Document] = {}
    for passage in passages:
        if passage.location is not None:
            first.setdefault(str(passage.location.path), passage)
    for name, passage in first.items():
        words = [part for part in _NAME_PARTS.split(PurePath(name).stem) if part]
        is_heading = _heading(passage) is not None and passage.title.count(_PATH) == 0
        if len(words) > 1 and not is_heading and len(passage.text) >= _LEAST_REST:
            yield _Candidate(
                kind="file names",
                text=" ".join(words),
                passage=passage,
                positive=_without_title(passage),
            )


def _without_title(passage: Document) -> Document:
    return Document(id=f"{passage.id} without title", text=passage.text)


def _heading(passage: Document) -> str | None:
    """The last heading above a passage of Markdown, with the one before it if it is short."""
    if passage.location is None or passage.title == passage.location.path.as_posix():
        return None
    parts = passage.title.split(_PATH)
    if parts == [passage.location.path.stem]:
        return None
    text = parts[-1]
    if len(_WORD.findall(text)) < 2 and len(parts) > 1:
        text = f"{parts[-2]}: {text}"
    return text if len(_LETTERS.findall(text)) >= 4 else None


def _is_prose(text: str) -> bool:
    """Whether a part of a text is a sentence: a few words, mostly letters, and no markup."""
    if _MARKUP.search(text) or len(_FIELD.findall(text)) > 1:
        return False
    words = _WORD.findall(text)
    letters = len(_LETTERS.findall(text))
    has_words = _LEAST_WORDS <= len(words) <= _MOST_WORDS or (len(words) < 4 and letters >= 15)
    return has_words and letters >= 0.7 * len("".join(text.split()))


def _section(passage: Document) -> str:
    """The file and headings of a passage; a passage without headings is one of its own."""
    if passage.location is None or _heading(passage) is None:
        return passage.id
    return f"{passage.location.path}\n{passage.title}"
