"""BM25, the lexical baseline: bm25s over the terms of `stemming.py`.

Importing bm25s initializes JAX's back end, so it is imported inside functions. With several
processes, start `jax.distributed` first.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.collection import Collection, Query
from t1_jax.retrieval.ranking import rank_documents
from t1_jax.retrieval.stemming import is_letters_only, single_letters, stem
from t1_jax.retrieval.trec import Run

if TYPE_CHECKING:
    import bm25s


@dataclass(frozen=True, kw_only=True)
class BM25:
    """BM25 index: score = Σ idf(t) · tf / (tf + k1 · (1 − b + b · length / mean length)).

    The sum is over the query's terms, with repetitions; the idf is Lucene's,
    ln(1 + (N − df + 0.5) / (df + 0.5)).

    Attributes:
        ids: document ids, in the row order of `words`.
        words: bm25s's sparse matrix of term weights.
        letters: the same for words of one letter, which serves queries such as "C" that have no
            longer word; None if no document has such a word.
    """

    ids: tuple[str, ...]
    words: "bm25s.BM25"
    letters: "bm25s.BM25 | None"

    @classmethod
    def build(cls, collection: Collection, *, k1: float = 1.5, b: float = 0.75) -> "BM25":
        """Indexes title and text of every document.

        Args:
            collection: collection with the documents.
            k1: saturation of term frequency. The defaults of `k1` and `b` are those of bm25s: on
                both collections of `t1_jax.retrieval.datasets` they give a stronger baseline than
                Anserini's 0.9 and 0.4.
            b: strength of length normalization, from 0 to 1.

        Raises:
            ConfigError: k1 is negative, or b is outside [0, 1].
            DataError: the documents contain no word.
        """
        check_parameters(k1, b)
        texts = [document.full_text for document in collection.documents]
        words, letters = stem(texts), single_letters(texts)
        return cls(
            ids=tuple(document.id for document in collection.documents),
            words=build_terms(collection.name, words, k1=k1, b=b),
            letters=build_terms(collection.name, letters, k1=k1, b=b) if any(letters) else None,
        )

    def search(
        self,
        queries: Sequence[Query],
        k: int = 1000,
        excluded: Mapping[str, Set[str]] | None = None,
    ) -> Run:
        """The top `k` documents of each query, among those that share a term with it.

        `excluded` is query id -> ids of documents to remove before the top-k cut.
        """
        texts = [query.text for query in queries]
        tokens = zip(queries, stem(texts), single_letters(texts), strict=True)
        return {
            query.id: self._search_one(
                *((self.letters, letters) if is_letters_only(query.text) else (self.words, words)),
                k,
                (excluded or {}).get(query.id, ()),
            )
            for query, words, letters in tokens
        }

    def _search_one(
        self, index: "bm25s.BM25 | None", terms: list[str], k: int, excluded: Iterable[str]
    ) -> dict[str, float]:
        term_ids = index.get_tokens_ids(terms) if index is not None else []
        if index is None or not term_ids:
            return {}
        return rank_matching(index.get_scores_from_ids(term_ids), self.ids, k, excluded)


def check_parameters(k1: float, b: float) -> None:
    """Raises ConfigError for parameters out of range."""
    if k1 < 0 or not 0 <= b <= 1:
        raise ConfigError(f"BM25 needs k1 >= 0 and 0 <= b <= 1, got k1={k1} and b={b}")


def build_terms(name: str, tokens: list[list[str]], *, k1: float, b: float) -> "bm25s.BM25":
    """bm25s's sparse matrix of term weights with Lucene's formula; `name` is that of the corpus.

    Raises:
        DataError: there is no token.
    """
    import bm25s

    # bm25s logs at debug level, which becomes visible once a library adds a root handler.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    if not any(tokens):
        raise DataError(f"the documents of {name} contain no word, so BM25 cannot index them")
    index = bm25s.BM25(method="lucene", k1=k1, b=b)
    index.index(tokens, show_progress=False)
    return index


def rank_matching(
    scores: Float[np.ndarray, " C"], ids: Sequence[str], k: int, excluded: Iterable[str]
) -> dict[str, float]:
    """The top `k` documents with a positive score that are not excluded; `ids` has their ids."""
    excluded = set(excluded)
    matching: list[int] = np.flatnonzero(scores > 0).tolist()
    rows = [row for row in matching if ids[row] not in excluded]
    order: list[int] = rank_documents(scores[rows], [ids[row] for row in rows], k).tolist()
    return {ids[rows[i]]: float(scores[rows[i]]) for i in order}
