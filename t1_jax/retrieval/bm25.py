"""The BM25 baseline: bm25s with English stop words and the Snowball stemmer.

bm25s tries JAX out when it is imported, which starts JAX's back end. It is imported here inside the
functions that need it, so that importing this room does not; with several processes, start
`jax.distributed` first.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import Stemmer

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.collection import Collection, Query
from t1_jax.retrieval.ranking import rank_documents
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
    """

    ids: tuple[str, ...]
    words: "bm25s.BM25"

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
        tokens = _tokenise([document.full_text for document in collection.documents])
        if not any(tokens):
            raise DataError(f"BM25 finds no word in the documents of {collection.name}")
        words = bm25s.BM25(method="lucene", k1=k1, b=b)
        words.index(tokens, show_progress=False)
        return cls(ids=tuple(document.id for document in collection.documents), words=words)

    def search(
        self,
        queries: Sequence[Query],
        k: int = 1000,
        excluded: Mapping[str, Set[str]] | None = None,
    ) -> Run:
        """The best `k` documents of each query among those that share a word with it.

        Excluded documents are taken out before the cut. A query without a known word has no result.
        """
        tokens = _tokenise([query.text for query in queries])
        return {
            query.id: self._search_one(words, k, (excluded or {}).get(query.id, ()))
            for query, words in zip(queries, tokens, strict=True)
        }

    def _search_one(self, words: list[str], k: int, excluded: Iterable[str]) -> dict[str, float]:
        known = self.words.get_tokens_ids(words)
        if not known:
            return {}
        scores = self.words.get_scores_from_ids(known)
        taken_out = set(excluded)
        matching = np.flatnonzero(scores > 0).tolist()
        rows = [row for row in matching if self.ids[row] not in taken_out]
        order = rank_documents(scores[rows], [self.ids[row] for row in rows], k)
        return {self.ids[rows[place]]: float(scores[rows[place]]) for place in order.tolist()}


def _tokenise(texts: list[str]) -> list[list[str]]:
    import bm25s

    words = bm25s.tokenize(
        texts,
        stopwords="en",
        stemmer=Stemmer.Stemmer("english"),
        return_ids=False,
        show_progress=False,
    )
    return cast("list[list[str]]", words)
