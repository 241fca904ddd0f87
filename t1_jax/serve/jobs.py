"""What the engine works on: queries to think about, rows to encode, thoughts to score."""

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from t1_jax.errors import T1Error
from t1_jax.generate import Prompt, RunningThought, Thought
from t1_jax.serve.failures import RequestError, backend_failure, from_t1_error
from t1_jax.text import PromptTokens

OnTokens = Callable[[int, Sequence[int]], None]
"""Called in the engine's thread with the sample number and all tokens of the thought so far."""

_LOG = logging.getLogger("t1_jax.serve")
_ORDER = itertools.count()


@dataclass(kw_only=True, eq=False)
class Job:
    """Base of all kinds. `future` may be cancelled at any time, and the engine then drops the job.

    Attributes:
        deadline: time of `time.monotonic` at which it must end.
        submitted: when it was made.
        order: later jobs have higher numbers.
        attempts: how often its work was begun.
    """

    deadline: float
    submitted: float = field(default_factory=time.monotonic)
    order: int = field(default_factory=lambda: next(_ORDER))
    attempts: int = 0


@dataclass(kw_only=True, eq=False)
class ThinkJob(Job):
    """Thoughts about one query.

    Attributes:
        prompt: the query.
        row: the prompt as it was tokenized.
        n: number of thoughts.
        seed: with the query id it gives their random streams.
        max_thought_tokens: most tokens of each.
        stop_when_settled: whether a thought ends once its embedding no longer changes.
        on_tokens: called as tokens are chosen; None if they are not streamed.
        future: the thoughts, ordered by sample number.
    """

    prompt: Prompt
    row: PromptTokens
    n: int
    seed: int
    max_thought_tokens: int
    stop_when_settled: bool = False
    on_tokens: OnTokens | None = None
    future: "Future[list[Thought]]" = field(default_factory=Future)
    running: list[RunningThought] = field(default_factory=list)
    finished: dict[int, Thought] = field(default_factory=dict)
    admitted: float | None = None
    first_token: float | None = None

    @property
    def cost(self) -> int:
        """Tokens that it may take, those of the prompt included."""
        return len(self.prompt.token_ids) + self.n * self.max_thought_tokens

    def restart(self) -> None:
        """Forgets the work so far, which gives the same thoughts again."""
        self.running, self.finished, self.admitted = [], {}, None


@dataclass(kw_only=True, eq=False)
class EncodeJob(Job):
    """Rows to embed in one pass.

    Attributes:
        rows: with exactly one `<emb_token>` each.
        names: of the rows, for errors.
        future: their embeddings, [B, D].
        urgent: whether it goes before other jobs, as queries do before documents.
    """

    rows: Sequence[PromptTokens]
    names: Sequence[str]
    urgent: bool = False
    future: "Future[Float[np.ndarray, 'B D']]" = field(default_factory=Future)
    vectors: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        """Tokens that it takes."""
        return sum(len(row.ids) for row in self.rows)


@dataclass(kw_only=True, eq=False)
class ScoreJob(Job):
    """Given thoughts about one query, of which the model says how likely they are.

    Attributes:
        prompt: token ids of the query's prompt.
        thoughts: token ids of each thought, none empty.
        scores: of the thoughts that are scored already.
        future: their mean log-probabilities, as `T1.score_thoughts` gives them.
    """

    prompt: Int[np.ndarray, " _"]
    thoughts: Sequence[Int[np.ndarray, " _"]]
    scores: list[float] = field(default_factory=list)
    future: "Future[list[float]]" = field(default_factory=Future)

    @property
    def cost(self) -> int:
        """Tokens that are left."""
        return len(self.prompt) + sum(map(len, self.thoughts[len(self.scores) :]))


AnyJob = ThinkJob | EncodeJob | ScoreJob


def succeed(job: AnyJob, result: Any) -> None:
    """Gives a job its result, unless it was cancelled."""
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_result(result)


def fail(job: AnyJob, error: BaseException) -> None:
    """Fails a job with an error for its client."""
    if job.future.done():
        return
    if isinstance(error, T1Error):
        error = from_t1_error(error)
    elif not isinstance(error, RequestError):
        _LOG.error("a request failed", exc_info=error)
        error = backend_failure("the model failed on this request", hint="send it again")
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
