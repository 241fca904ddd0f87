"""Candidates in a request: titles of the documents that its queries find without a thought."""

import asyncio
import dataclasses
from collections.abc import Sequence

import numpy as np

from t1_jax.errors import T1Error
from t1_jax.serve.failures import from_t1_error, invalid
from t1_jax.serve.queries import ThinkOptions
from t1_jax.serve.service import Service


async def candidate_titles(
    service: Service, texts: Sequence[str], k: int, options: ThinkOptions, excluded: Sequence[int]
) -> list[list[str]]:
    """Titles of the `k` documents that each query finds without a thought, for its prompt.

    Raises:
        RequestError: 404 without an index; 422 for a model whose prompts show no candidates, an
            index without texts, or more candidates than this server allows.
    """
    corpus, config = service.require_corpus(), service.config
    if not service.preset.shows_candidates:
        raise invalid(
            f"the prompts {service.preset.name!r} of this model show no candidates",
            field="candidates",
            hint="leave it out, or serve a model that was trained so",
        )
    if k > config.max_k:
        raise invalid(
            f"candidates is {k}, and this server allows {config.max_k}",
            field="candidates",
            hint=f"send at most {config.max_k}",
        )
    without = dataclasses.replace(options, max_tokens=0, prefix=None, n=1)
    found = await service.embed_queries(texts, without, field="query")
    vectors = np.stack([result.vector for result in found])
    try:
        return await asyncio.to_thread(corpus.candidates, service.titles, vectors, k, excluded)
    except T1Error as error:
        raise from_t1_error(error, field="candidates") from error
