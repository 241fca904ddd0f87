"""Stage 3 from top to bottom: sample thoughts, rank, reward, advantages, batch.

The model thinks as it does when it retrieves. Its thoughts are rewarded by the documents that they
retrieve, and a policy loss makes them more or less likely. A stage with `sample_thoughts` and
without a policy loss reads them for their embeddings alone, and ranks and rewards nothing.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Float

from t1_jax.errors import T1Error
from t1_jax.generate import FinishReason, Prompt, SamplingParams, Thought
from t1_jax.interrupt import Interrupt, Interrupted
from t1_jax.retriever import T1
from t1_jax.seeds import stable_hash
from t1_jax.train.batches import PreparedBatch, SourceState, StageState
from t1_jax.train.candidates import CandidateDocuments
from t1_jax.train.config import StageConfig
from t1_jax.train.contrast import plan_contrast
from t1_jax.train.data import BatchIterator, Example, LengthConfig, TrainingSet
from t1_jax.train.infra import Clock, any_process
from t1_jax.train.layout import (
    EmbeddingIds,
    Row,
    micro_batches,
    separate_rows,
    shared_prefix_row,
)
from t1_jax.train.losses import group_advantages, has_variance, token_weights
from t1_jax.train.model import TrainableModel
from t1_jax.train.prompt_candidates import (
    PromptCandidates,
    embed_without_thought,
    shared_pool,
)
from t1_jax.train.rewards import RewardContext, compute_rewards
from t1_jax.train.rollout_record import (
    Rollout,
    fill_groups,
    rollout_metrics,
    rollout_samples,
    without_rewards,
)
from t1_jax.train.row_builder import (
    RowBuilder,
    num_completion_tokens,
    policy_continuations,
    sampled_continuations,
)
from t1_jax.train.step import StepBatch, step_logps


@dataclass(frozen=True, kw_only=True, eq=False)
class PrefetchedRollout:
    """A rollout before its step, with its metrics and the time that it took."""

    rollout: Rollout
    metrics: dict[str, float]
    clock: Clock


class RolloutBatches:
    """A `BatchSource` whose batches are rollouts of the model in training.

    With `rollout.prefetch` the rollout of the next step is sampled in a thread while this step
    updates the weights. Its thoughts then come from the weights before that update; the truncated
    importance sampling of the policy loss corrects for it. A rollout depends on weights and step
    alone: a resumed run samples it again, and checkpoints need not hold it.

    `seed` is that of thoughts and of random documents in pools; `interrupt` ends a rollout early;
    the thoughts of `num_logged` queries of each step are returned for a person to read.
    """

    def __init__(
        self,
        config: StageConfig,
        examples: BatchIterator,
        sets: Sequence[TrainingSet],
        rows: RowBuilder,
        model: TrainableModel,
        lengths: LengthConfig,
        *,
        seed: int,
        interrupt: Interrupt,
        num_logged: int = 0,
    ) -> None:
        self._config = config
        self._num_logged = num_logged
        self._examples = examples
        self._sets = sets
        self._rows = rows
        self._model = model
        self._seed = seed
        self._interrupt = interrupt
        self._retriever_options = model.retriever_options(
            lengths,
            max_rows=config.rollout.max_rows,
            max_thought_tokens=config.rollout.max_thought_tokens,
        )
        # Documents are ranked for rewards alone.
        self._candidates, corpora = None, None
        if config.losses.policy:
            pool = shared_pool(config.pool, config.candidates)
            self._candidates = CandidateDocuments(pool, sets, model.mesh_context.mesh, seed=seed)
            corpora = self._candidates.corpora if pool.kind in ("pool", "corpus") else None
        self._prompts = None
        if config.candidates.k:
            self._prompts = PromptCandidates(
                config, sets, rows.tokenizer, model, corpora, seed=seed
            )
        self._prefetched: PrefetchedRollout | None = None
        self._failure: Exception | None = None
        self._position_before_prefetch: dict[str, Any] = {}

    def next(self, state: StageState, step: int, clock: Clock) -> PreparedBatch:
        """See `BatchSource`."""
        prefetched = self._take(state, step)
        clock.seconds |= prefetched.clock.seconds
        with clock.of("data"):
            batch = self.batch(prefetched.rollout)
        if state.reference is not None:
            with clock.of("reference"):
                temperature = self._config.rollout.temperature
                ref_logps = step_logps(
                    self._model.parts, state.reference, batch, temperature=temperature
                )
                batch = batch.with_logps(reference=ref_logps)
        return PreparedBatch(
            batch=batch,
            metrics=prefetched.metrics,
            samples=rollout_samples(prefetched.rollout, self._num_logged),
        )

    def _take(self, state: StageState, step: int) -> PrefetchedRollout:
        """The rollout of a step: the prefetched one, or one that is sampled now.

        An error of a prefetched rollout is raised here, where the step before is complete.
        """
        params = state.train.trained if state.sampler_params is None else state.sampler_params
        position = self._examples.state_dict()
        prefetched, self._prefetched = self._prefetched, None
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
            prefetched = prefetched or self._measured_rollout(params, step)
        except T1Error as error:
            failure = error
        except Exception:
            self._examples.load_state_dict(position)
            raise
        failed = any_process(prefetched is None)
        if prefetched is None or failed:
            self._examples.load_state_dict(position)
            raise failure or T1Error("the rollout failed in another process")
        return prefetched

    @contextmanager
    def prefetch(self, state: StageState, step: int, clock: Clock) -> Iterator[None]:
        """Samples the rollout of `step` while the body runs; the end waits for both.

        If that fails or is interrupted, there is no rollout afterwards; `next` raises the error, or
        samples again. See `BatchSource`.
        """
        if state.sampler_params is None:
            yield
            return
        position = self._examples.state_dict()
        self._position_before_prefetch = position
        with ThreadPoolExecutor(1, thread_name_prefix="rollout") as worker:
            future = worker.submit(self._rollout_in_thread, state.sampler_params, step)
            yield
            updated = time.perf_counter()
        try:
            self._prefetched = future.result()
        except Interrupted:
            self._examples.load_state_dict(position)
        except Exception as error:
            self._examples.load_state_dict(position)
            self._failure = error
        clock.seconds["time/wait"] = time.perf_counter() - updated

    def _rollout_in_thread(self, params: nnx.State, step: int) -> PrefetchedRollout:
        # A mesh is activated thread by thread.
        with self._model.mesh_context.activate():
            return self._measured_rollout(params, step)

    def _measured_rollout(self, params: nnx.State, step: int) -> PrefetchedRollout:
        clock = Clock()
        rollout, metrics = self.rollout(params, step, clock)
        return PrefetchedRollout(rollout=rollout, metrics=metrics, clock=clock)

    def state_dict(self) -> SourceState:
        """See `BatchSource`."""
        position = self._position_before_prefetch
        if self._prefetched is None:
            position = self._examples.state_dict()
        arrays = {} if self._candidates is None else self._candidates.state_dict()
        if self._prompts is not None:
            arrays |= self._prompts.state_dict()
        return {"position": position, "arrays": arrays}

    def load_state_dict(self, state: SourceState) -> None:
        """See `BatchSource`."""
        self._examples.load_state_dict(state["position"])
        if self._candidates is not None:
            self._candidates.load_state_dict(state["arrays"])
        if self._prompts is not None:
            self._prompts.load_state_dict(state["arrays"])

    def rollout(
        self, params: nnx.State, step: int, clock: Clock
    ) -> tuple[Rollout, dict[str, float]]:
        """Samples thoughts for the next examples and, for a policy loss, rewards them.

        With `zero_variance: resample`, groups without variance are replaced by those of further
        examples, for at most `resample_rounds` batches.

        Thoughts and the age of document embeddings depend on the number of the step in the whole
        run.

        Returns:
            The rollout and its metrics.
        """
        with clock.of("rollout"):
            retriever = self._model.retriever(params, self._retriever_options, self._interrupt)
        if self._candidates is None:
            examples, _ = self._shown(retriever, next(self._examples), step, clock)
            rollout = without_rewards(examples, self._sample(retriever, examples, step, clock))
            return rollout, rollout_metrics(rollout) | self._candidate_metrics(rollout)
        with clock.of("refresh"):
            self._candidates.refresh(retriever.encode_document, step)
        rollout = self._rewarded(retriever, self._candidates, next(self._examples), step, clock)
        varied = has_variance(rollout.rewards.total, self._config.advantage.std_floor)
        resamples = self._config.advantage.zero_variance == "resample"
        for _ in range(self._config.rollout.resample_rounds if resamples else 0):
            if np.all(rollout.group_mask) or not (examples := self._examples.more()):
                break
            resampled = self._rewarded(retriever, self._candidates, examples, step, clock)
            rollout = fill_groups(rollout, resampled)
        # The share before any resampling shows whether the rewards tell thoughts apart.
        metrics = rollout_metrics(rollout) | {"rollout/nonzero_std_frac": float(np.mean(varied))}
        metrics |= self._candidate_metrics(rollout)
        return rollout, metrics | self._candidates.metrics(step)

    def _shown(
        self, retriever: T1, examples: Sequence[Example], step: int, clock: Clock
    ) -> tuple[Sequence[Example], Float[np.ndarray, "P D"] | None]:
        """The examples with the candidates that their prompts show, and the embeddings without a
        thought that found these; unchanged and None in a stage without candidates.
        """
        if self._prompts is None:
            return examples, None
        with clock.of("candidates"):
            vectors = embed_without_thought(retriever, examples)
            return self._prompts.show(retriever, examples, step, vectors), vectors

    def _candidate_metrics(self, rollout: Rollout) -> dict[str, float]:
        return {} if self._prompts is None else self._prompts.metrics(rollout.examples)

    def _sample(
        self, retriever: T1, examples: Sequence[Example], step: int, clock: Clock
    ) -> list[list[Thought]]:
        """G thoughts for each query, with their embeddings."""
        config = self._config.rollout
        with clock.of("rollout"):
            return retriever.think(
                [
                    Prompt(
                        query_id=f"{example.set_name}/{example.record.query_id}",
                        token_ids=self._rows.prompt(example, think=True).ids.tolist(),
                    )
                    for example in examples
                ],
                n=config.num_generations,
                max_thought_tokens=config.max_thought_tokens,
                sampling=SamplingParams(
                    temperature=config.temperature, seed=stable_hash(self._seed, step)
                ),
            )

    def _rewarded(
        self,
        retriever: T1,
        candidates: CandidateDocuments,
        examples: Sequence[Example],
        step: int,
        clock: Clock,
    ) -> Rollout:
        """Samples, ranks the candidates for each thought, and computes rewards and advantages."""
        examples, nothink_vectors = self._shown(retriever, examples, step, clock)
        thoughts, encode = self._sample(retriever, examples, step, clock), retriever.encode_document
        with clock.of("reward"):
            vectors = np.stack([[thought.embedding for thought in group] for group in thoughts])
            nothink = None
            if self._config.reward.needs_nothink:
                if nothink_vectors is None:
                    nothink_vectors = embed_without_thought(retriever, examples)
                nothink = candidates.outcome(
                    encode, examples, nothink_vectors[:, None], pools_near=vectors.mean(axis=1)
                )
            context = RewardContext(
                thoughts=thoughts,
                records=[example.record for example in examples],
                outcome=candidates.outcome(encode, examples, vectors),
                nothink=nothink,
                max_thought_tokens=self._config.rollout.max_thought_tokens,
                special_ids=self._rows.tokenizer.special_ids,
            )
            rewards = compute_rewards(context, self._config.reward)
            advantages, group_mask = group_advantages(rewards.total, self._config.advantage)
        return Rollout(
            examples=examples,
            thoughts=thoughts,
            rewards=rewards,
            advantages=advantages,
            group_mask=group_mask,
        )

    def batch(self, rollout: Rollout) -> StepBatch:
        """The rows of a rollout: prompts with their thoughts, and the documents of a contrast.

        With `contrast_reference_thoughts` a query is also embedded after its reference thought.
        """
        config, losses, ids = self._config, self._config.losses, EmbeddingIds()
        queries, size = len(rollout.examples), rollout.group_size
        sampled_ids = ids.take(queries * size)
        reference_ids: dict[int, int] = {}
        if config.contrast_reference_thoughts:
            with_reference = [
                n for n, each in enumerate(rollout.examples) if each.thought is not None
            ]
            reference_ids = dict(zip(with_reference, ids.take(len(with_reference)), strict=True))
        plan, documents = None, []
        if losses.infonce or losses.triplet:
            plan, documents = plan_contrast(
                rollout.examples,
                self._sets,
                self._rows,
                ids,
                query_ids=[*sampled_ids, *reference_ids.values()],
                groups=[*np.repeat(np.arange(queries), size).tolist(), *reference_ids],
                hard_negatives=config.data.hard_negatives,
                max_per_example=size + config.contrast_reference_thoughts,
            )
        rows, num_targets = self._query_rows(rollout, sampled_ids, reference_ids)
        return StepBatch(
            micro_batches=micro_batches(
                [*rows, *documents],
                config.micro_batch,
                self._model.mesh_context,
                pad_id=self._rows.tokenizer.pad_id,
            ),
            plan=plan,
            num_embeddings=ids.count,
            num_targets=num_targets,
            truncated_thoughts=self._rows.count_truncated(rollout.examples),
        )

    def _query_rows(
        self, rollout: Rollout, sampled_ids: Sequence[int], reference_ids: dict[int, int]
    ) -> tuple[list[Row], int]:
        """A row for each query, or for each of its thoughts, and the number of targets."""
        config, size = self._config, rollout.group_size
        policy_weights, num_targets = self._policy_weights(rollout)
        sft_targets = 0
        if config.losses.sft:
            sft_targets = self._rows.count_sft_targets(
                rollout.examples, train_emb_token=config.train_emb_token
            )
        rows: list[Row] = []
        for number, (example, group) in enumerate(
            zip(rollout.examples, rollout.thoughts, strict=True)
        ):
            embedding_ids = sampled_ids[number * size : (number + 1) * size]
            if policy_weights is None:
                continuations = sampled_continuations(group, embedding_ids)
            else:
                continuations = policy_continuations(
                    group, rollout.advantages[number], policy_weights[number], embedding_ids
                )
            if sft_targets or number in reference_ids:
                reference = self._rows.reference_continuation(
                    example,
                    reference_ids.get(number),
                    sft_weight=config.losses.sft / sft_targets if sft_targets else 0.0,
                    train_emb_token=config.train_emb_token,
                )
                continuations += [] if reference is None else [reference]
            prompt = self._rows.prompt(example, think=True).ids
            if config.rollout.shared_prefix:
                rows.append(shared_prefix_row(prompt, continuations))
            else:
                rows += separate_rows(prompt, continuations)
        return rows, num_targets + sft_targets

    def _policy_weights(self, rollout: Rollout) -> tuple[Float[np.ndarray, "P G"] | None, int]:
        """Weight of each completion token of each thought in the policy loss, and their number."""
        config = self._config
        if not config.losses.policy:
            return None, 0
        thoughts = [thought for group in rollout.thoughts for thought in group]
        in_loss = np.repeat(rollout.group_mask, rollout.group_size)
        if config.policy.mask_truncated_completions:
            complete = [thought.finish_reason is not FinishReason.LENGTH for thought in thoughts]
            in_loss = in_loss & complete
        lengths = np.where(in_loss, [num_completion_tokens(thought) for thought in thoughts], 0)
        weights = config.losses.policy * token_weights(
            lengths, config.policy.resolved().aggregation, config.rollout.max_thought_tokens
        )
        return weights.reshape(rollout.advantages.shape), int(lengths.sum())
