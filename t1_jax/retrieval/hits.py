"""The documents that a search found, with the thoughts that found them, for people and programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, overload

from t1_jax.notebook import card
from t1_jax.progress import counted, shorten
from t1_jax.retrieval.collection import Document
from t1_jax.retrieval.snippets import Snippet

Ranking: TypeAlias = Literal["bm25", "dense", "hybrid"]
"""What ranks documents: BM25, the cosine of embeddings, or both fused."""

Line: TypeAlias = Literal["thought", "heading", "sentence"]

_EXCERPT = 160
"""Characters that are shown before and after the sentence that matches."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A document that was found.

    Attributes:
        id: document id.
        score: what the ranking is sorted by: BM25, cosine, or their fusion, see `fuse_runs`.
        bm25: BM25 score; None if BM25 did not find it.
        cosine: cosine of the embeddings; None if the vectors did not find it.
        document: title, text and location; None if the index has vectors only.
        snippet: the sentence that matches query and thoughts best, and where it is; None without a
            document.
    """

    id: str
    score: float
    bm25: float | None
    cosine: float | None
    document: Document | None
    snippet: Snippet | None

    @property
    def title(self) -> str:
        """Title of the document; may be empty."""
        return "" if self.document is None else self.document.title

    @property
    def text(self) -> str:
        """The whole text; empty for an index of vectors only."""
        return "" if self.document is None else self.document.text

    @property
    def sentence(self) -> str:
        """The sentence that matches query and thoughts best, on one line."""
        return "" if self.snippet is None else self.snippet.text

    @property
    def path(self) -> Path | None:
        """File of the sentence; None for documents that are not from files."""
        location = None if self.snippet is None else self.snippet.location
        return None if location is None else location.path

    @property
    def line(self) -> int | None:
        """Line of the sentence in its file, counted from 1; None without a file."""
        location = None if self.snippet is None else self.snippet.location
        return None if location is None else location.line

    @property
    def heading(self) -> str:
        """Score, place and title, on one line.

        The place is file and line for a passage of a file, and else the id.
        """
        return f"{self.score:.4f}  {self._place}  {self.title}".rstrip()

    @property
    def _place(self) -> str:
        file, _, _ = self.id.rpartition(":")  # the id of a passage is its file and first line
        is_passage = self.path is not None and file and self.path.as_posix().endswith(file)
        return f"{self.path}:{self.line}" if is_passage else self.id

    def _repr_html_(self) -> str:
        return self._card()

    def _card(self, rank: int | None = None) -> str:
        number = "" if rank is None else f"{rank}. "
        footer = f"{self._place}, score {self.score:.3f}"
        return card(number + (self.title or self.id), self._excerpt, footer, mark=self.sentence)

    @property
    def _excerpt(self) -> str:
        """The sentence within its text, on one line."""
        text = " ".join(self.text.split())
        start = text.find(self.sentence)
        if start < 0:
            return self.sentence
        end = start + len(self.sentence)
        before, after = text[max(start - _EXCERPT, 0) : start], text[end : end + _EXCERPT]
        if start > _EXCERPT:  # cut between words
            before = "… " + before.partition(" ")[2]
        if len(text) - end > _EXCERPT:
            after = after.rpartition(" ")[0] + " …"
        return before + self.sentence + after


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Hits(Sequence[Hit]):
    """The documents that one query found, best first: a sequence of `Hit`.

    `print` shows thoughts and documents as `t1 search` does, and a notebook as a page.

    Attributes:
        query: the query.
        ranking: what ranked the documents.
        thoughts: the text of each thought about the query; empty without thinking.
    """

    query: str
    ranking: Ranking
    thoughts: tuple[str, ...]
    hits: tuple[Hit, ...]

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __repr__(self) -> str:
        return f"Hits({shorten(self.query, 60)!r}, {counted(len(self), 'documents')})"

    def __str__(self) -> str:
        return "\n".join(text for _, text in self.lines())

    def lines(self) -> Iterator[tuple[Line, str]]:
        """What is printed, line by line, and what each line is."""
        for text in self.thoughts:
            yield "thought", f"thought: {text.strip() or '(nothing)'}"
        for rank, hit in enumerate(self, 1):
            yield "heading", f"{rank:>2}. {hit.heading}"
            if hit.sentence:
                yield "sentence", f"    {shorten(hit.sentence, 240)}"

    def _repr_html_(self) -> str:
        thoughts = [card("thought", text.strip() or "(nothing)") for text in self.thoughts]
        hits = [hit._card(rank) for rank, hit in enumerate(self, 1)]
        return card("query", self.query, f"ranking: {self.ranking}") + "".join(thoughts + hits)
