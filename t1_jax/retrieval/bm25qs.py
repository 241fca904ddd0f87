"""BM25 with a weighted query: the BM25 baseline of BRIGHT, `bm25qs` in pyserini.

Importing bm25s initializes JAX's back end, so it is imported inside functions.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from t1_jax.retrieval.bm25 import build_terms, check_parameters, rank_matching
from t1_jax.retrieval.collection import Collection, Query
from t1_jax.retrieval.lucene_english import analyze
from t1_jax.retrieval.trec import Run

if TYPE_CHECKING:
    import bm25s


@dataclass(frozen=True, kw_only=True)
class BM25QS:
    """BM25 index with the scores of gensim's `LuceneBM25Model`, arXiv:2407.12883.

    score = Σ w(t, query) · w(t, document), over the terms of both, with
    w(t, x) = idf(t) · tf / (tf + k1 · (1 − b + b · length / mean length)), where tf and length are
    those of x, and the mean length is that of the documents; the length of a query counts the terms
    that the documents have. idf(t) = ln((N + 1) / (df + 0.5)). Terms are those of Lucene's English
    analyzer, see `lucene_english.py`.

    A long query weighs its frequent terms less than with `BM25`, which adds w(t, document) for
    every occurrence of t: on BRIGHT, whose queries are whole posts, mean nDCG@10 is 14.5 and 13.7.

    Attributes:
        ids: document ids, in the row order of `terms`.
        terms: bm25s's sparse matrix of w(t, document).
        mean_length: mean number of terms of a document.
        k1: saturation of term frequency.
        b: strength of length normalization.
    """

    ids: tuple[str, ...]
    terms: "bm25s.BM25"
    mean_length: float
    k1: float
    b: float

    @classmethod
    def build(cls, collection: Collection, *, k1: float = 0.9, b: float = 0.4) -> "BM25QS":
        """Indexes title and text of every document; the defaults are those of BRIGHT and Anserini.

        Raises:
            ConfigError: k1 is negative, or b is outside [0, 1].
            DataError: the documents contain no word.
        """
        check_parameters(k1, b)
        tokens = analyze([document.full_text for document in collection.documents])
        return cls(
            ids=tuple(document.id for document in collection.documents),
            terms=build_terms(collection.name, tokens, k1=k1, b=b),
            mean_length=sum(map(len, tokens)) / len(tokens),
            k1=k1,
            b=b,
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
        terms = analyze([query.text for query in queries])
        return {
            query.id: rank_matching(
                self._scores(words), self.ids, k, (excluded or {}).get(query.id, ())
            )
            for query, words in zip(queries, terms, strict=True)
        }

    def _scores(self, words: list[str]) -> Float[np.ndarray, " C"]:
        """Score of every document."""
        scores = np.zeros(len(self.ids), np.float32)
        data, rows, starts = (self.terms.scores[key] for key in ("data", "indices", "indptr"))
        counts = Counter(self.terms.get_tokens_ids(words))
        norm = self.k1 * (1 - self.b + self.b * counts.total() / self.mean_length)
        for term, tf in counts.items():
            columns = slice(starts[term], starts[term + 1])
            df = starts[term + 1] - starts[term]
            idf = np.log((len(self.ids) + 1) / (df + 0.5))
            scores[rows[columns]] += data[columns] * np.float32(idf * tf / (tf + norm))
        return scores
