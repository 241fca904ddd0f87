"""Jobs of forward passes: rows to embed, and given thoughts to score."""

import time
from collections.abc import Sequence

import numpy as np

from t1_jax.errors import DataError
from t1_jax.retriever import T1, mean_log_probs, shares_prefix
from t1_jax.serve.failures import RequestError, backend_failure
from t1_jax.serve.jobs import EncodeJob, ScoreJob, fail, succeed
from t1_jax.serve.metrics import Metrics

ForwardJob = EncodeJob | ScoreJob


class ForwardPasses:
    """The jobs of forward passes that wait; only the engine's thread uses them.

    In a turn of the engine either rows are embedded or thoughts are scored; they alternate while
    both wait.

    Attributes:
        jobs: those that wait or are partly done.
    """

    def __init__(self, model: T1, metrics: Metrics, turn_tokens: int) -> None:
        self.jobs: list[ForwardJob] = []
        self._model, self._metrics, self._turn_tokens = model, metrics, turn_tokens
        self._shares_prefix = shares_prefix(model.decoder)
        self._scored_last = False

    def end_overdue(self, now: float) -> None:
        """Fails the jobs whose deadline has come."""
        for job in [job for job in self.jobs if job.deadline <= now]:
            self.jobs.remove(job)
            fail(job, _out_of_time())

    def run(self, budget: int) -> int:
        """One pass; returns its tokens.

        Args:
            budget: tokens of rows that are embedded, at least one row.
        """
        to_encode = [job for job in self.jobs if isinstance(job, EncodeJob)]
        to_score = [job for job in self.jobs if isinstance(job, ScoreJob)]
        self._scored_last = bool(to_score) and not (to_encode and self._scored_last)
        spent = self._score(to_score[0]) if self._scored_last else self._encode(to_encode, budget)
        # A job that was cancelled meanwhile is left to the engine, which counts it.
        self.jobs = [job for job in self.jobs if not job.future.done() or job.future.cancelled()]
        return spent

    def _begin(self, job: ForwardJob, started: float) -> None:
        if not job.attempts:
            job.attempts = 1
            self._metrics.phase("queue", started - job.submitted)

    # Encoding

    def _encode(self, jobs: Sequence[EncodeJob], budget: int) -> int:
        """Rows up to the budget, at least one, in one call; returns their tokens."""
        chosen: list[tuple[EncodeJob, int]] = []
        spent = 0
        for job in sorted(jobs, key=lambda job: (not job.urgent, job.order)):
            for index in range(len(job.rows)):
                if index in job.vectors:
                    continue
                if chosen and spent + len(job.rows[index].ids) > budget:
                    break
                chosen.append((job, index))
                spent += len(job.rows[index].ids)
            if spent >= budget:
                break
        if not chosen:
            return 0
        started = time.monotonic()
        involved = {id(job): job for job, _ in chosen}.values()
        for job in involved:
            self._begin(job, started)
        self._encode_rows(chosen)
        self._metrics.phase("encode", time.monotonic() - started)
        self._metrics.tokens("document", spent)
        for job in involved:
            if len(job.vectors) == len(job.rows):
                succeed(job, np.stack([job.vectors[i] for i in range(len(job.rows))]))
        return spent

    def _encode_rows(self, chosen: list[tuple[EncodeJob, int]]) -> None:
        """Encodes rows together; if that fails, one by one, so that only the bad one fails."""
        try:
            vectors = self._model.encoder.encode(
                [job.rows[index] for job, index in chosen],
                names=[job.names[index] for job, index in chosen],
                description="rows",
            )
        except Exception as error:
            if len(chosen) > 1:
                for one in chosen:
                    self._encode_rows([one])
                return
            if isinstance(error, DataError):  # the texts were checked before: not finite
                error = backend_failure(error.message, hint=error.hint or _NOT_FINITE_HINT)
            fail(chosen[0][0], error)
            return
        for (job, index), vector in zip(chosen, vectors, strict=True):
            job.vectors[index] = vector

    # Scoring

    def _score(self, job: ScoreJob) -> int:
        """The next thoughts of a job in one call; returns their tokens, with the prompt.

        How many does not depend on the other jobs, so the scores do not either.
        """
        started = time.monotonic()
        self._begin(job, started)
        first = len(job.scores)
        last, spent = first, 0
        while last < len(job.thoughts):
            repeated = len(job.prompt) if last == first or not self._shares_prefix else 0
            more = repeated + len(job.thoughts[last])
            if last > first and spent + more > self._turn_tokens:
                break
            last, spent = last + 1, spent + more
        try:
            (scores,) = mean_log_probs(self._model, [job.prompt], [job.thoughts[first:last]])
            if not np.isfinite(scores).all():
                raise backend_failure(
                    "the model's probability of a title is not finite", hint=_NOT_FINITE_HINT
                )
        except Exception as error:  # whatever is wrong, the other jobs go on
            fail(job, error)
        else:
            job.scores += scores.tolist()
            if len(job.scores) == len(job.thoughts):
                succeed(job, job.scores)
        self._metrics.phase("score", time.monotonic() - started)
        self._metrics.tokens("title", spent)
        return spent


_NOT_FINITE_HINT = "load the model in float32, or check the weights"


def _out_of_time() -> RequestError:
    return RequestError(
        504, "deadline", "the time of the request is over",
        hint="send fewer texts, or allow more time",
    )  # fmt: skip
