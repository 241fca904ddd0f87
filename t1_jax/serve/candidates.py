"""Candidates in a request: titles of the documents that its queries find without a thought."""

import asyncio
import dataclasses
from collections.abc import Sequence

import numpy as np

from t1_jax.errors import T1Error
from t1_jax.serve.failures import from_t1_error, invalid
from t1_jax.serve.queries import ThinkOptions
from t1_jax.serve.service import Service

MAX_CANDIDATES = 32
"""Titles that a prompt may show: each takes up to 25 tokens, and is compared with all others."""


async def candidate_titles(
    service: Service, texts: Sequence[str], k: int, options: ThinkOptions, excluded: Sequence[int]
) -> list[list[str]]:
    """Titles of the `k` documents that each query finds without a thought, for its prompt.

    Raises:
        RequestError: 404 without an index; 422 for a model whose prompts show no candidates, an
            index without texts, or more candidates than this server allows.
    """
    corpus = service.require_corpus()
    if not service.preset.shows_candidates:
        raise invalid(
            f"the prompts {service.preset.name!r} of this model show no candidates",
            field="candidates",
            hint="leave it out, or serve a model that was trained so",
        )
    if k > MAX_CANDIDATES:
        raise invalid(
            f"candidates is {k}, and this server allows {MAX_CANDIDATES}",
            field="candidates",
            hint=f"send at most {MAX_CANDIDATES}",
        )
    without = dataclasses.replace(options, max_tokens=0, prefix=None, n=1)
    found = await service.embed_queries(texts, without, field="query")
    vectors = np.stack([result.vector for result in found])
    try:
        return await asyncio.to_thread(corpus.candidates, service.titles, vectors, k, excluded)
    except T1Error as error:
        raise from_t1_error(error, field="candidates") from error
