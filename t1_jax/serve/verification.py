"""Verified rankings in a request: the engine scores titles of the nearest documents as thoughts."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from t1_jax.errors import T1Error
from t1_jax.retrieval import Document, Ranking
from t1_jax.retriever import NO_QUERY, T1, Verification, thought_tokens
from t1_jax.serve.engine import Engine
from t1_jax.serve.failures import from_t1_error, invalid
from t1_jax.serve.jobs import ScoreJob
from t1_jax.serve.ranking import Corpus, Fusion
from t1_jax.text import PromptPreset, tokenize_queries

MAX_VERIFIED = 64
"""Documents per query that a request may have verified: each takes the tokens of its title."""

_PRIORS = 100_000
"""Titles whose log-probability without a query is kept: about 20 MB."""


def check_verify(
    verify: int, corpus: Corpus, ranking: Ranking, fusion: Fusion
) -> Verification | None:
    """How the rankings of a request are verified; None if `verify` is 0.

    Raises:
        RequestError: 422 for a number out of range, an index without texts, or a ranking that has
            no cosines.
    """
    if not verify:
        return None
    if not 2 <= verify <= MAX_VERIFIED:
        raise invalid(
            f"verify is {verify} documents, and this server allows 2 to {MAX_VERIFIED}",
            field="verify",
            hint="send 16",
        )
    if not corpus.documents:
        raise invalid(
            "verifying needs titles, and this index has vectors only", field="verify",
            hint="leave it out",
        )  # fmt: skip
    if ranking == "bm25" or fusion == "rank":
        raise invalid(
            "cosines are verified, and this ranking has none", field="verify",
            hint="leave out ranking and fusion, or verify",
        )  # fmt: skip
    return Verification(k=verify)


class Verifier:
    """Reorders rankings as `verify_run` does; what titles score without a query is kept."""

    def __init__(self, model: T1, preset: PromptPreset, engine: Engine) -> None:
        self._model, self._preset, self._engine = model, preset, engine
        self._priors: OrderedDict[str, float] = OrderedDict()  # only the event loop uses it

    async def reorder(
        self,
        queries: Sequence[str],
        rankings: Sequence[Mapping[str, float]],
        documents: Mapping[str, Document],
        verification: Verification,
        *,
        deadline: float,
    ) -> list[dict[str, float]]:
        """The ranking of each query with its first documents reordered, best first.

        Args:
            queries: texts of the queries.
            rankings: of each query, document id -> cosine.
            documents: document id -> document.
            verification: how many documents, and with which weight.
            deadline: time of `time.monotonic`.

        Raises:
            RequestError: a document has no text, the server is full, or the deadline has come.
        """
        try:
            titles = [verification.titles(scores, documents) for scores in rankings]
        except T1Error as error:
            raise from_t1_error(error, field="verify") from error
        groups = [list(dict.fromkeys(group.values())) for group in titles]
        texts = list(dict.fromkeys(text for group in groups for text in group))
        priors = {text: self._priors[text] for text in texts if text in self._priors}
        new = [text for text in texts if text not in priors]
        (without_query, *prompts), tokens = await asyncio.to_thread(self._tokenize, queries, texts)
        asked = [*zip(prompts, groups, strict=True), (without_query, new)]
        jobs = {
            number: ScoreJob(deadline=deadline, prompt=prompt, thoughts=[tokens[t] for t in group])
            for number, (prompt, group) in enumerate(asked)
            if group
        }
        scores = dict(zip(jobs, await self._engine.run(*jobs.values()), strict=True))
        *by_query, new_priors = [
            dict(zip(group, scores.get(number, ()), strict=True))
            for number, (_, group) in enumerate(asked)
        ]
        priors |= new_priors
        self._keep(priors)
        return [
            verification.reorder(
                ranking, {name: found[text] - priors[text] for name, text in group.items()}
            )
            for ranking, group, found in zip(rankings, titles, by_query, strict=True)
        ]

    def _tokenize(
        self, queries: Sequence[str], titles: Sequence[str]
    ) -> tuple[list[Int[np.ndarray, " _"]], dict[str, Int[np.ndarray, " _"]]]:
        """Prompts of no query and of each query, and the tokens of titles."""
        prompts = tokenize_queries(
            self._model.tokenizer,
            self._preset,
            [NO_QUERY, *queries],
            max_tokens=self._model.options.max_query_tokens,
        )
        tokens = thought_tokens(self._model, titles)
        return [prompt.ids for prompt in prompts], dict(zip(titles, tokens, strict=True))

    def _keep(self, priors: Mapping[str, float]) -> None:
        """Stores priors; those that were not used for the longest time make room."""
        for text, prior in priors.items():
            self._priors[text] = prior
            self._priors.move_to_end(text)
        while len(self._priors) > _PRIORS:
            self._priors.popitem(last=False)
