"""Verified rankings in a request: the engine scores titles of the nearest documents as thoughts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from t1_jax.errors import T1Error
from t1_jax.retrieval import Query
from t1_jax.retriever import Verification, verify_run
from t1_jax.serve.failures import from_t1_error, invalid
from t1_jax.serve.jobs import ScoreJob
from t1_jax.serve.ranking import Verify
from t1_jax.serve.schemas import SearchRequest
from t1_jax.serve.service import Service

_QUERY = "q"


def check_verify(service: Service, body: SearchRequest) -> Verification | None:
    """How the rankings of a request are verified; None if they are not.

    Raises:
        RequestError: 422 for a number out of range, an index without texts, or a ranking that has
            no cosines.
    """
    if not body.verify:
        return None
    corpus, most = service.require_corpus(), service.config.max_k
    if not 2 <= body.verify <= most:
        raise invalid(
            f"verify is {body.verify} documents, and this server allows 2 to {most}",
            field="verify",
            hint="send 16",
        )
    if not corpus.documents:
        raise invalid(
            "verifying needs titles, and this index has vectors only", field="verify",
            hint="leave it out",
        )  # fmt: skip
    if body.ranking == "bm25" or body.fusion == "rank":
        raise invalid(
            "cosines are verified, and this ranking has none", field="verify",
            hint="leave out ranking and fusion, or verify",
        )  # fmt: skip
    return Verification(k=body.verify)


def verify_on_engine(
    service: Service, query: str, verification: Verification, deadline: float
) -> Verify:
    """A function that reorders the documents of a query by `verify_run`.

    It waits for the engine, so it is called in a thread of its own.
    """
    scorer = _EngineScorer(service, deadline)

    def reorder(scores: Mapping[str, float]) -> dict[str, float]:
        asked = Query(id=_QUERY, text=query)
        documents = service.require_corpus().documents
        try:
            run = verify_run(
                scorer,
                {_QUERY: dict(scores)},
                [asked],
                documents,
                verification,
                instruction=service.instruction,
            )
        except T1Error as error:
            raise from_t1_error(error, field="verify") from error
        return dict(run[_QUERY])

    return reorder


class _EngineScorer:
    """`T1.score_thoughts` on the engine."""

    def __init__(self, service: Service, deadline: float) -> None:
        self._service, self._deadline = service, deadline

    def score_thoughts(
        self,
        texts: Sequence[str],
        thoughts: Sequence[Sequence[str]],
        *,
        instruction: str | None = None,
        **_: Any,
    ) -> list[Float[np.ndarray, " _"]]:
        """See `T1.score_thoughts`; names and progress of a request have no use here."""
        job = ScoreJob(
            deadline=self._deadline,
            texts=texts,
            thoughts=thoughts,
            instruction=instruction,
            cost=self._tokens(texts) + sum(map(self._tokens, thoughts)),
        )
        self._service.engine.submit(job)
        return job.future.result()

    def _tokens(self, texts: Sequence[str]) -> int:
        encode = self._service.model.tokenizer.encode_thought
        return sum(len(encode(text)) for text in texts)
