"""The engine: one thread that owns the device, and in which all requests share their batches.

A turn of the engine: drop what is no longer wanted, end what is out of time, admit queries to free
rows, decode one chunk, and run one forward pass over rows to embed or thoughts to score. Prefill
and passes have a budget of tokens per turn, so a long list of documents never holds up the thoughts
that are running.
"""

import asyncio
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from t1_jax.generate import ContinuousBatch, FinishReason, RunningThought, SamplingParams, Thought
from t1_jax.retriever import T1
from t1_jax.serve.adaptive import Settling
from t1_jax.serve.config import ServerConfig
from t1_jax.serve.failures import RequestError, backend_failure, overloaded, unavailable
from t1_jax.serve.forward import ForwardPasses
from t1_jax.serve.jobs import AnyJob, EncodeJob, ThinkJob, fail, succeed
from t1_jax.serve.metrics import Metrics

_LOG = logging.getLogger("t1_jax.serve")

_GroupKey = tuple[int, bool, int | None]
"""Prefix size, whether thoughts are sampled, and the order of a job that is tried again alone."""

_MAX_PREFIX_TOKENS = 8192
"""Rows x prefix size of a batch, as far as `max_n` rows allow: bounds the memory of its cache."""
_IDLE_SECONDS = 30.0
"""An empty batch is kept so long, and then its memory is freed."""
_LAST_TURN_SECONDS = 5.0


@dataclass(kw_only=True, eq=False)
class _Group:
    """Queries of one prefix size and one kind of sampling, which are decoded together."""

    batch: ContinuousBatch
    jobs: dict[RunningThought, ThinkJob] = field(default_factory=dict)
    last_used: float = 0.0


class Engine:
    """Runs jobs until it is stopped.

    Attributes:
        config: limits.
        chunk_steps: decoding steps of a chunk.
        turn_tokens: tokens that are prefilled, encoded or scored in a turn.
    """

    def __init__(self, model: T1, config: ServerConfig, metrics: Metrics) -> None:
        on_cpu = model.mesh_context.mesh.devices.flat[0].platform == "cpu"
        self.config = config
        self.chunk_steps = config.chunk_steps or (1 if on_cpu else 8)
        self.turn_tokens = config.turn_tokens or (256 if on_cpu else 8192)
        self._model = model
        self._metrics = metrics
        self._shapes = model.options.shapes
        self._groups: dict[_GroupKey, _Group] = {}
        self._to_think: list[ThinkJob] = []
        self._forward = ForwardPasses(model, metrics, self.turn_tokens)
        self._settling: dict[RunningThought, Settling] = {}
        self._condition = threading.Condition()
        self._incoming: list[AnyJob] = []
        self._waiting_tokens = 0
        self._tokens_per_second = 100.0
        self._is_stopping = self._is_aborted = False
        self._in_turn = False
        self._thread = threading.Thread(target=self._run, name="t1-engine", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ends the thread once all accepted jobs are done; after `timeout` seconds they fail."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        self._thread.join(timeout)
        self.abort()
        self._thread.join(_LAST_TURN_SECONDS)

    def abort(self) -> None:
        """Fails all jobs after the turn that runs, and ends the thread; returns at once."""
        with self._condition:
            self._is_stopping = self._is_aborted = True
            self._condition.notify()

    def sampling(self, n: int, seed: int) -> SamplingParams:
        """How `n` thoughts about a query are sampled: one greedily, several at a temperature."""
        temperature = self.config.temperature if n > 1 else 0.0
        return SamplingParams(temperature=temperature, seed=seed)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or runs."""
        with self._condition:
            return not (self._incoming or self._has_work or self._in_turn)

    def submit(self, *jobs: AnyJob) -> None:
        """Queues the jobs of one request.

        Raises:
            RequestError: status 429, as too many tokens are waiting already; 503 after `stop`.
        """
        cost = sum(job.cost for job in jobs)
        with self._condition:
            if self._is_stopping:
                raise unavailable("draining")
            if (
                self._waiting_tokens
                and self._waiting_tokens + cost > self.config.max_waiting_tokens
            ):
                seconds = math.ceil(self._waiting_tokens / self._tokens_per_second)
                raise overloaded(self._waiting_tokens, min(max(seconds, 1), 60))
            self._incoming += jobs
            self._waiting_tokens += cost
            self._condition.notify()
        for job in jobs:
            job.future.add_done_callback(lambda _: self.wake())

    async def run(self, *jobs: AnyJob) -> list[Any]:
        """The results of the jobs of one request; cancels them all if one fails.

        Raises:
            RequestError: as `submit`, or what a job failed with.
        """
        self.submit(*jobs)
        futures: list[Future[Any]] = [job.future for job in jobs]
        try:
            return await asyncio.gather(*map(asyncio.wrap_future, futures))
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def wake(self) -> None:
        """Makes an idle engine look at its jobs again, as one may have been cancelled."""
        with self._condition:
            self._condition.notify()

    @property
    def _has_work(self) -> bool:
        groups = list(self._groups.values())  # other threads ask too
        waits = self._to_think or self._forward.jobs
        return bool(waits or any(group.jobs for group in groups))

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._incoming or self._has_work or self._is_stopping):
                    self._condition.wait(_IDLE_SECONDS)
                    self._drop_empty_groups()
                if self._is_stopping and not (self._incoming or self._has_work):
                    return
                for job in self._incoming:
                    if isinstance(job, ThinkJob):
                        self._to_think.append(job)
                    else:
                        self._forward.jobs.append(job)
                self._incoming = []
                self._in_turn = True
            try:
                if self._is_aborted:
                    self._fail_all(unavailable("draining"))
                else:
                    self._turn()
            except Exception:  # a bug must not end the thread: every job would wait forever
                _LOG.exception("the engine failed; its jobs are dropped")
                self._fail_all(backend_failure("the engine failed", hint="send it again"))
            with self._condition:
                self._in_turn = False

    def _turn(self) -> None:
        started = time.monotonic()
        self._drop_cancelled()
        self._end_overdue(started)
        budget = self.turn_tokens
        spent = self._admit(budget)
        for key, group in list(self._groups.items()):
            if group.jobs:
                spent += self._guarded(key, group, self._decode)
        spent += self._forward.run(max(budget - spent, 1))
        self._drop_empty_groups()
        seconds = time.monotonic() - started
        if spent and seconds > 0:
            rate = spent / seconds
            self._tokens_per_second += 0.1 * (rate - self._tokens_per_second)
        with self._condition:
            waiting = [*self._to_think, *self._forward.jobs, *self._incoming]
            self._waiting_tokens = sum(job.cost for job in waiting)
        self._metrics.queue(len(waiting), self._waiting_tokens)
        batches = [group.batch for group in self._groups.values()]
        rows = sum(batch.rows for batch in batches)
        self._metrics.batch_fill.set(sum(batch.running for batch in batches) / max(rows, 1))

    # Thinking

    def _admit(self, budget: int) -> int:
        """Queries take free rows, in the order in which they came; returns the prefilled tokens."""
        spent, full = 0, set[_GroupKey]()
        for job in list(self._to_think):
            if spent >= budget:
                break
            key = self._group_key(job)
            if key in full:
                continue
            group = self._group(key)
            if group.batch.free < job.n:
                full.add(key)
                continue
            self._to_think.remove(job)
            spent += len(job.prompt.token_ids)
            job.attempts += 1
            job.admitted = time.monotonic()
            self._metrics.phase("queue", job.admitted - job.submitted)
            try:
                job.running = group.batch.insert(
                    job.prompt,
                    seed=job.seed,
                    samples=range(job.n),
                    max_thought_tokens=job.max_thought_tokens,
                )
            except Exception as error:  # whatever is wrong, the other jobs go on
                fail(job, error)
                continue
            group.jobs |= dict.fromkeys(job.running, job)
            if job.stop_when_settled:
                self._settling |= {thought: Settling() for thought in job.running}
            self._metrics.phase("prefill", time.monotonic() - job.admitted)
            self._metrics.tokens("prompt", len(job.prompt.token_ids))
        return spent

    def _group_key(self, job: ThinkJob) -> _GroupKey:
        size = min(
            self._shapes.prefix_size(len(job.prompt.token_ids)),
            self._model.decoder.config.max_positions,
        )
        return size, job.n > 1, job.order if job.attempts else None

    def _group(self, key: _GroupKey) -> _Group:
        prefix_size, is_sampled, _ = key
        if key not in self._groups:
            config = self.config
            rows = max(min(config.rows, _MAX_PREFIX_TOKENS // prefix_size), config.max_n)
            shapes = dataclasses.replace(self._shapes, max_rows=rows, chunk_steps=self.chunk_steps)
            self._groups[key] = _Group(
                batch=self._model.sampler.continuous_batch(
                    prefix_size=prefix_size,
                    max_thought_tokens=config.max_thought_tokens,
                    sampling=self.sampling(2 if is_sampled else 1, seed=0),
                    shapes=shapes,
                )
            )
        group = self._groups[key]
        group.last_used = time.monotonic()
        return group

    def _decode(self, group: _Group) -> int:
        """One chunk; returns the number of new tokens."""
        started = time.monotonic()
        before = {thought: len(thought.tokens) for thought in group.jobs}
        finished = group.batch.decode_chunk()
        now = group.last_used = time.monotonic()
        self._metrics.phase("decode", now - started)
        count = sum(len(thought.tokens) - length for thought, length in before.items())
        self._metrics.tokens("thought", count)
        for thought, length in before.items():
            job = group.jobs[thought]
            if len(thought.tokens) > length:
                if job.first_token is None:
                    job.first_token = now
                    self._metrics.first_token.observe(now - job.submitted)
                if job.on_tokens is not None:
                    job.on_tokens(thought.sample, tuple(thought.tokens))
        for running, thought in finished:
            self._finish(group, running, thought)
        settling = ((thought, self._settling.get(thought)) for thought in group.jobs)
        if any(known is not None and known.is_due(thought) for thought, known in settling):
            self._end_settled(group)
        return count

    def _finish(self, group: _Group, running: RunningThought, thought: Thought) -> None:
        job = group.jobs.pop(running)
        self._settling.pop(running, None)
        if not np.isfinite(thought.embedding).all():
            self._drop(group, job)
            fail(job, backend_failure(
                "the model's embedding of this query is not finite",
                hint="load the model in float32, or check the weights",
            ))  # fmt: skip
            return
        job.finished[running.sample] = thought
        self._metrics.thought_tokens.observe(thought.reasoning_tokens)
        if len(job.finished) == job.n:
            text = self._model.tokenizer.decode_thought
            succeed(
                job,
                [
                    dataclasses.replace(thought, text=text(thought.token_ids))
                    for _, thought in sorted(job.finished.items())
                ],
            )

    def _end_settled(self, group: _Group) -> None:
        for running, vector in group.batch.probe():
            settling = self._settling.get(running)
            if settling is not None and settling.is_due(running) and settling.add(running, vector):
                thought = group.batch.end_with_probe(running, vector, FinishReason.SETTLED)
                self._finish(group, running, thought)

    def _end_overdue(self, now: float) -> None:
        """Thoughts that are out of time get their embedding at once, where they are."""
        for key, group in list(self._groups.items()):
            if any(job.deadline <= now for job in group.jobs.values()):
                self._guarded(key, group, self._end_overdue_of)
        for job in [job for job in self._to_think if job.deadline <= now]:
            self._to_think.remove(job)
            self._embed_without_thought(job)
        self._forward.end_overdue(now)

    def _end_overdue_of(self, group: _Group) -> int:
        now = time.monotonic()
        for running, vector in group.batch.probe():
            if group.jobs[running].deadline <= now:
                thought = group.batch.end_with_probe(running, vector, FinishReason.DEADLINE)
                self._finish(group, running, thought)
        return 0

    def _embed_without_thought(self, job: ThinkJob) -> None:
        """A query that never got a row: its prompt with `<emb_token>`, in one pass."""
        row = self._model.tokenizer.append_emb_token(job.row)

        def done(encode: EncodeJob) -> None:
            if (error := encode.future.exception()) is not None:
                fail(job, error)
                return
            (vector,) = encode.future.result()
            emb = self._model.tokenizer.emb_token_id
            thought = Thought(
                token_ids=np.array([emb], np.int32),
                log_probs=np.zeros(1, np.float32),
                log_probs_at_1=np.zeros(1, np.float32),
                embedding=vector,
                finish_reason=FinishReason.DEADLINE,
                sample=0,
            )
            succeed(job, [dataclasses.replace(thought, sample=i) for i in range(job.n)])

        encode = EncodeJob(deadline=math.inf, rows=[row], names=[job.prompt.query_id], urgent=True)
        encode.future.add_done_callback(lambda _: done(encode))
        self._forward.jobs.append(encode)

    # What goes wrong

    def _guarded(self, key: _GroupKey, group: _Group, work: Callable[[_Group], int]) -> int:
        """Work on a group; if it fails, each of its jobs is tried once more, alone."""
        try:
            return work(group)
        except Exception as error:
            _LOG.warning("decoding failed: %s", error)
            self._metrics.failures.inc()
            jobs = {id(job): job for job in group.jobs.values()}.values()
            del self._groups[key]
            for job in jobs:
                for thought in job.running:
                    self._settling.pop(thought, None)
                if job.attempts > 1:
                    fail(job, error)
                else:
                    job.restart()
                    self._to_think.insert(0, job)
            return 0

    def _drop(self, group: _Group, job: ThinkJob) -> None:
        group.batch.remove(job.running)
        for thought in job.running:
            group.jobs.pop(thought, None)
            self._settling.pop(thought, None)

    def _drop_cancelled(self) -> None:
        waiting: list[AnyJob] = [*self._to_think, *self._forward.jobs]
        dropped = {job for job in waiting if job.future.done()}
        self._to_think = [job for job in self._to_think if job not in dropped]
        self._forward.jobs = [job for job in self._forward.jobs if job not in dropped]
        for group in self._groups.values():
            for job in {job for job in group.jobs.values() if job.future.done()}:
                self._drop(group, job)
                dropped.add(job)
        self._metrics.cancelled.inc(sum(job.future.cancelled() for job in dropped))

    def _fail_all(self, error: RequestError) -> None:
        jobs: list[AnyJob] = [*self._to_think, *self._forward.jobs]
        jobs += [job for group in self._groups.values() for job in group.jobs.values()]
        self._to_think, self._forward.jobs = [], []
        self._groups, self._settling = {}, {}
        for job in jobs:
            fail(job, error)

    def _drop_empty_groups(self) -> None:
        """Frees the memory of batches that were not used for a while, or for one job only."""
        oldest = time.monotonic() - _IDLE_SECONDS
        self._groups = {
            key: group
            for key, group in self._groups.items()
            if group.jobs or (group.last_used > oldest and key[2] is None)
        }
