"""Explains the results of one query: the effect of the thought, its sentences, and its sampling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from t1_jax.evaluate.controls import thought_record
from t1_jax.evaluate.encoders import QueryEncoder
from t1_jax.evaluate.examples import Hit, make_hit
from t1_jax.evaluate.results import ThoughtRecord
from t1_jax.evaluate.sentences import SentenceEffect, ranks_of, sentence_effects
from t1_jax.generate import SamplingParams
from t1_jax.retrieval import Document, Index

_SPREAD_TEMPERATURE = 1.0


@dataclass(frozen=True, kw_only=True)
class ExplainedDocument:
    """A document among the best with or without the thought.

    Attributes:
        hit: rank and score with the thought, title, snippet.
        rank_without: rank without the thought.
        ranks: rank with each of the sampled thoughts.
    """

    hit: Hit
    rank_without: int
    ranks: tuple[int, ...]

    @property
    def gain(self) -> int:
        """Ranks gained by the thought; negative if it lost some."""
        return self.rank_without - self.hit.rank


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """What a query retrieves, and why.

    Attributes:
        query: the query.
        thoughts: the thought whose ranking is shown, then the further ones of the spread.
        hits: ranking with the thought.
        hits_without: ranking without a thought.
        documents: the documents of both rankings, by rank with the thought.
        sentences: effect of each sentence of the first thought.
        similarities: cosine of the first thought's query embedding with that of each thought.
        num_documents: documents in the index.
    """

    query: str
    thoughts: tuple[ThoughtRecord, ...]
    hits: tuple[Hit, ...]
    hits_without: tuple[Hit, ...]
    documents: tuple[ExplainedDocument, ...]
    sentences: tuple[SentenceEffect, ...]
    similarities: tuple[float, ...]
    num_documents: int

    @property
    def overlap(self) -> int:
        """Number of documents that both rankings have."""
        ids = {hit.document_id for hit in self.hits}
        return sum(hit.document_id in ids for hit in self.hits_without)


def explain_query(
    model: QueryEncoder,
    index: Index,
    query: str,
    *,
    documents: Mapping[str, Document],
    k: int = 10,
    n: int = 5,
    max_thought_tokens: int | None = None,
    sampling: SamplingParams,
    instruction: str | None = None,
) -> Explanation:
    """Ranks with and without the thought, without each of its sentences, and for `n` thoughts.

    The first thought is the one that a search with `sampling` has. Where that is greedy, the
    further thoughts are sampled at temperature 1. The embedding of a changed thought is compared
    with that of the whole thought encoded in the same way.

    Raises: as `T1.encode_query` and `Index.search`.
    """

    def encode(texts: Sequence[str], **options: object) -> Float[np.ndarray, "B D"]:
        vectors, _ = model.encode_query(
            texts,
            instruction=instruction,
            return_thoughts=True,
            **options,  # pyright: ignore[reportArgumentType]
        )
        return vectors

    def sample(count: int, params: SamplingParams):
        return model.encode_query(
            [query],
            n=count,
            max_thought_tokens=max_thought_tokens,
            sampling=params,
            instruction=instruction,
            return_thoughts=True,
        )[1][0]

    if sampling.temperature == 0:
        thoughts = sample(1, sampling)
        if n > 1:
            thoughts += sample(n - 1, replace(sampling, temperature=_SPREAD_TEMPERATURE))
    else:
        thoughts = sample(n, sampling)
    own = np.stack([thought.embedding for thought in thoughts])
    without = encode([query], think=False)
    k = min(k, len(index.ids))
    found, found_without = index.search(own[:1], k).rows[0], index.search(without, k).rows[0]
    shown = list(dict.fromkeys([*found.tolist(), *found_without.tolist()]))
    ranks = ranks_of(index, own, shown)
    ranks_without = ranks_of(index, without, shown)[0]

    def hits(vector: Float[np.ndarray, " D"], rows: Sequence[int], ranked: Int[np.ndarray, " R"]):
        return tuple(
            make_hit(
                index.ids[row],
                documents.get(index.ids[row]),
                rank=int(rank),
                score=float(index.vectors[row] @ vector),
            )
            for row, rank in zip(rows, ranked, strict=True)
        )

    by_rank = sorted(
        zip(hits(own[0], shown, ranks[0]), ranks_without.tolist(), ranks.T.tolist(), strict=True),
        key=lambda item: item[0].rank,
    )
    positions = np.arange(1, k + 1)
    return Explanation(
        query=query,
        thoughts=tuple(
            replace(thought_record(thought), sample=number)
            for number, thought in enumerate(thoughts)
        ),
        hits=hits(own[0], found.tolist(), positions),
        hits_without=hits(without[0], found_without.tolist(), positions),
        documents=tuple(
            ExplainedDocument(hit=hit, rank_without=rank, ranks=tuple(several))
            for hit, rank, several in by_rank
        ),
        sentences=sentence_effects(
            index,
            query,
            thoughts[0].text,
            lambda queries, changed: encode(queries, thoughts=changed),
            shown,
        ),
        similarities=tuple((own @ own[0]).tolist()),
        num_documents=len(index.ids),
    )
