"""Candidates: titles of the documents that a query finds without a thought, for its prompt.

The model thinks over them: it names the best, or says what is missing, and the embedding follows.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError
from t1_jax.generate import Choices
from t1_jax.retrieval import Document, Index, NearDuplicates, first_sentence, normalize_text
from t1_jax.text import T1Tokenizer, candidate_titles

_SIMILAR = 0.9
"""Jaccard similarity from which documents are near duplicates, of which one is shown."""
_SHINGLE, _COMPARED_CHARACTERS = 8, 2000
_FIRST_DEPTH, _LAST_DEPTH = 2, 64
"""Documents that are searched for each title, at first and at most: many may share one title."""


def thought_about(document: Document) -> str:
    """What a thought that means this document would say: its title, or else its first sentence."""
    return document.title.strip() or first_sentence(document.text)


def shown_titles(
    tokenizer: T1Tokenizer, candidates: Sequence[Sequence[str]] | None
) -> list[list[str]] | None:
    """Titles as prompts show them; see `candidate_titles`. Blank ones are left out."""
    if candidates is None:
        return None
    titles = iter(candidate_titles(tokenizer, [title for group in candidates for title in group]))
    shown = [list(islice(titles, len(group))) for group in candidates]
    return [[title for title in group if title] for group in shown]


class CandidateTitles:
    """The titles of documents as prompts show them; each is tokenized once."""

    def __init__(self, tokenizer: T1Tokenizer, documents: Mapping[str, Document]) -> None:
        self._tokenizer = tokenizer
        self._documents = documents
        self._titles: dict[str, str] = {}
        self._duplicates = NearDuplicates(
            lambda name: documents[name].full_text[:_COMPARED_CHARACTERS],
            threshold=_SIMILAR,
            size=_SHINGLE,
        )

    def __getitem__(self, name: str) -> str:
        """The title of a document, or the beginning of its text; may be empty.

        Raises:
            ConfigError: the document is not there.
        """
        self._tokenize([name])
        return self._titles[name]

    def _tokenize(self, names: Iterable[str]) -> None:
        """Makes the titles of these documents, in one batch."""
        new = [name for name in dict.fromkeys(names) if name not in self._titles]
        if not new:
            return
        if missing := next((name for name in new if name not in self._documents), None):
            raise ConfigError(
                f"the document {missing!r} has no text here, and its title is needed",
                hint="search an index that stores its documents, or leave out candidates or "
                "constrained",
            )
        texts = [thought_about(self._documents[name]) for name in new]
        self._titles |= zip(new, candidate_titles(self._tokenizer, texts), strict=True)

    def distinct(self, names: Iterable[str], k: int) -> list[str]:
        """The first `k` documents that have a title, and not the title or text of one before.

        Near duplicates count as equal: a Jaccard similarity of 0.9 or more between the 8-character
        shingles of the first 2,000 characters.
        """
        names = list(names)
        self._tokenize(names)
        chosen: list[str] = []
        titles: set[str] = set()
        for name in names:
            if len(chosen) == k:
                break
            title = normalize_text(self._titles[name])
            if not title or title in titles:
                continue
            if self._duplicates.contains(chosen, name):
                continue
            titles.add(title)
            chosen.append(name)
        return chosen

    def choices(self, names: Iterable[str]) -> Choices:
        """The titles of documents as the only thoughts, for constrained decoding.

        Such thoughts are transductive: they know the names of the documents that are searched.

        Raises:
            ConfigError: no document has a title.
        """
        names = list(names)
        self._tokenize(names)
        titles = list(dict.fromkeys(self._titles[name] for name in names))
        return Choices(
            [ids.tolist() for ids in self._tokenizer.encode_thoughts(titles)],
            end=self._tokenizer.emb_token_id,
        )


def nearest_candidates(
    titles: CandidateTitles,
    index: Index,
    vectors: Float[np.ndarray, "B D"],
    k: int,
    excluded: Sequence[Sequence[int]],
) -> list[list[str]]:
    """Titles of the `k` nearest distinct documents of each query, best first.

    There are fewer if the first 64 · `k` documents have fewer distinct titles.

    Args:
        titles: of the documents of the index.
        index: embeddings of documents.
        vectors: embeddings of the queries without a thought.
        k: number of candidates.
        excluded: rows of the index that a query must not find.

    Raises:
        ConfigError: `k` is below 1, or a document is not among those of `titles`.
    """
    if k < 1:
        raise ConfigError(f"the number of candidates must be at least 1, got {k}")
    groups: list[list[str]] = [[] for _ in vectors]
    missing, depth = list(range(len(vectors))), _FIRST_DEPTH * k
    while missing:
        found = index.search(
            vectors[missing], min(depth, len(index.ids)), [excluded[n] for n in missing]
        )
        for n, rows in zip(missing, found.rows.tolist(), strict=True):
            groups[n] = titles.distinct((index.ids[row] for row in rows if row >= 0), k)
        if depth >= min(_LAST_DEPTH * k, len(index.ids)):
            break
        missing = [n for n in missing if len(groups[n]) < k]
        depth *= 2
    return [[titles[name] for name in group] for group in groups]
