"""The BM25 baseline: bm25s over the terms of `words.py`.

bm25s tries JAX out when it is imported, which starts JAX's back end. It is imported here inside the
functions that need it, so that importing this room does not; with several processes, start
`jax.distributed` first.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.collection import Collection, Query
from t1_jax.retrieval.ranking import rank_documents
from t1_jax.retrieval.stemming import is_letters_only, letters, stems
from t1_jax.retrieval.trec import Run

if TYPE_CHECKING:
    import bm25s


@dataclass(frozen=True, kw_only=True)
class BM25:
    """An index of words: score = Σ idf(t) · tf / (tf + k1 · (1 − b + b · length / mean length)).

    The idf is Lucene's, ln(1 + (N − df + 0.5) / (df + 0.5)); a word that a query repeats counts as
    often as it stands there.

    Attributes:
        ids: the documents, as rows of `words`.
        words: bm25s's sparse matrix of term weights.
        letters: the same of words of one letter, for queries that have no others, such as "C";
            None where no document has one.
    """

    ids: tuple[str, ...]
    words: "bm25s.BM25"
    letters: "bm25s.BM25 | None"

    @classmethod
    def build(cls, collection: Collection, *, k1: float = 1.5, b: float = 0.75) -> "BM25":
        """Indexes title and text of every document.

        Args:
            collection: whose documents are to be found.
            k1: saturation of term frequency. The defaults are bm25s's own; on both collections of
                `t1_jax.retrieval.datasets` they beat the 0.9 and 0.4 of Anserini, and a baseline
                should be no straw man.
            b: how far a document's length counts, from 0 to 1.

        Raises:
            ConfigError: k1 is negative, or b lies outside [0, 1].
            DataError: no document has a single word.
        """
        if k1 < 0 or not 0 <= b <= 1:
            raise ConfigError(f"BM25 needs k1 >= 0 and 0 <= b <= 1, not k1={k1} and b={b}")
        import bm25s

        # bm25s asks for debug messages, which show once any library gives the root a handler.
        logging.getLogger("bm25s").setLevel(logging.WARNING)
        texts = [document.full_text for document in collection.documents]

        def indexed(tokens: list[list[str]]) -> "bm25s.BM25 | None":
            if not any(tokens):
                return None
            index = bm25s.BM25(method="lucene", k1=k1, b=b)
            index.index(tokens, show_progress=False)
            return index

        words = indexed(stems(texts))
        if words is None:
            raise DataError(f"BM25 finds no word in the documents of {collection.name}")
        return cls(
            ids=tuple(document.id for document in collection.documents),
            words=words,
            letters=indexed(letters(texts)),
        )

    def search(
        self,
        queries: Sequence[Query],
        k: int = 1000,
        excluded: Mapping[str, Set[str]] | None = None,
    ) -> Run:
        """The best `k` documents of each query among those that share a word with it.

        Excluded documents are taken out before the cut. A query without a known word has no result.
        """
        texts = [query.text for query in queries]
        tokens = zip(queries, stems(texts), letters(texts), strict=True)
        return {
            query.id: self._search_one(
                *((self.letters, own) if is_letters_only(query.text) else (self.words, terms)),
                k,
                (excluded or {}).get(query.id, ()),
            )
            for query, terms, own in tokens
        }

    def _search_one(
        self, index: "bm25s.BM25 | None", terms: list[str], k: int, excluded: Iterable[str]
    ) -> dict[str, float]:
        known = index.get_tokens_ids(terms) if index is not None else []
        if index is None or not known:
            return {}
        scores = index.get_scores_from_ids(known)
        taken_out = set(excluded)
        matching = np.flatnonzero(scores > 0).tolist()
        rows = [row for row in matching if self.ids[row] not in taken_out]
        order = rank_documents(scores[rows], [self.ids[row] for row in rows], k)
        return {self.ids[rows[place]]: float(scores[rows[place]]) for place in order.tolist()}
