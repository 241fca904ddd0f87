"""Stages in which the model thinks for itself, as it does when it retrieves.

In stage 3 its thoughts are rewarded by what they bring up, and made more or less likely. A stage
without a policy loss only reads them, on the way to the vectors that it compares.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from flax import nnx
from jaxtyping import Float

from t1_jax.generate import FinishReason, Prompt, SamplingParams, Thought
from t1_jax.interrupt import Interrupt
from t1_jax.retriever import T1
from t1_jax.seeds import stable_hash
from t1_jax.train.batch import Row, micro_batches
from t1_jax.train.candidates import CandidateDocuments
from t1_jax.train.clock import Clock
from t1_jax.train.config import StageConfig
from t1_jax.train.contrast import ContrastPlan, ContrastWeights
from t1_jax.train.data import Example, TrainingSet
from t1_jax.train.data_config import LengthConfig
from t1_jax.train.losses import group_advantages, has_variance, token_weights
from t1_jax.train.model import TrainableModel
from t1_jax.train.objective import TokenObjective
from t1_jax.train.rewards import RewardContext, compute_rewards
from t1_jax.train.rollout import Rollout, kept_first, rollout_metrics, unrewarded
from t1_jax.train.rows import (
    RowMaker,
    actions_of,
    group_row,
    rewarded_continuations,
    sampled_continuations,
    thought_rows,
)
from t1_jax.train.step import StepBatch
from t1_jax.train.supervised import document_prompt


@runtime_checkable
class Queries(Protocol):
    """The stream of a stage's queries; see `BatchIterator`."""

    def __next__(self) -> Sequence[Example]:
        """Those of the next step."""
        ...

    def more(self) -> Sequence[Example]:
        """Others for the same step; fewer, or none, where there are no others."""
        ...


class OwnThoughts:
    """Turns queries into rollouts, and rollouts into what one step learns from.

    Args:
        config: of the stage.
        rows: lays rows out.
        sets: queries are drawn from.
        student: the model that thinks and learns.
        lengths: where texts are cut.
        seed: of thoughts.
    """

    def __init__(
        self,
        config: StageConfig,
        rows: RowMaker,
        sets: Sequence[TrainingSet],
        student: TrainableModel,
        lengths: LengthConfig,
        *,
        seed: int,
    ) -> None:
        self._config = config
        self._rows = rows
        self._sets = sets
        self._student = student
        self._seed = seed
        self._options = student.thinking_options(
            lengths,
            max_rows=config.rollout.max_rows,
            max_thought_tokens=config.rollout.max_thought_tokens,
        )
        # Documents are ranked for rewards alone.
        self._documents = None
        if config.losses.policy:
            self._documents = CandidateDocuments(
                config.pool, sets, student.mesh_context.mesh, seed=seed
            )

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint needs of the rollouts: document vectors and their age."""
        return {} if self._documents is None else self._documents.state()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` gave."""
        if self._documents is not None:
            self._documents.load_state(state)

    def rollout(
        self,
        queries: Queries,
        trained: nnx.State,
        step: int,
        clock: Clock,
        check: Interrupt | None = None,
    ) -> tuple[Rollout, dict[str, float]]:
        """Draws thoughts for the next queries and, for a policy loss, rewards them.

        With `zero_variance: resample`, groups whose thoughts all earned the same make way for
        those of further queries, for a few batches.

        Args:
            queries: to think about.
            trained: the weights to think with.
            step: of the whole run; thoughts and the age of document vectors depend on it.
            clock: takes the times.
            check: ends the rollout early.
        """
        with clock.of("rollout"):
            model = self._student.retriever(trained, self._options, check)
        if self._documents is None:
            examples = next(queries)
            found = unrewarded(examples, self._think(model, examples, step, clock))
            return found, rollout_metrics(found)
        with clock.of("refresh"):
            self._documents.refresh(model, step)
        found = self._groups(model, self._documents, next(queries), step, clock)
        varied = has_variance(found.rewards.total, self._config.advantage.std_floor)
        resamples = self._config.advantage.zero_variance == "resample"
        for _ in range(self._config.rollout.resample_rounds if resamples else 0):
            if np.all(found.kept) or not (others := queries.more()):
                break
            found = kept_first(found, self._groups(model, self._documents, others, step, clock))
        # What tells of rewards without variance is the share before any resampling, whatever is
        # then done with the other groups.
        measured = rollout_metrics(found) | {"rollout/nonzero_std_frac": float(np.mean(varied))}
        return found, measured | self._documents.metrics(step)

    def batch(self, rollout: Rollout) -> StepBatch:
        """What one update learns from a rollout."""
        config, losses = self._config, self._config.losses
        given = self._given_numbers(rollout)
        plan, documents = self._contrast(rollout, given)
        rows, actions = self._query_rows(rollout, given)
        return StepBatch(
            micro=micro_batches(
                [*rows, *documents],
                config.micro_batch,
                self._student.mesh_context,
                pad_id=self._rows.tokenizer.pad_id,
            ),
            objective=TokenObjective(
                policy=config.policy if losses.policy else None,
                temperature=config.rollout.temperature if losses.policy else 1.0,
            ),
            plan=plan,
            contrastive=config.contrastive,
            weights=ContrastWeights(infonce=losses.infonce, triplet=losses.triplet),
            hold=config.micro_batch.hold,
            num_vectors=len(rollout.examples) * rollout.group_size + len(given) + len(documents),
            action_tokens=actions,
            truncated_thoughts=self._rows.count_truncated(rollout.examples),
        )

    def _given_numbers(self, rollout: Rollout) -> dict[int, int]:
        """Of the vectors after given thoughts, which follow those after own ones: by draw."""
        if not self._config.contrast_reference_thoughts:
            return {}
        first = len(rollout.examples) * rollout.group_size
        members = [n for n, example in enumerate(rollout.examples) if example.thought is not None]
        return {member: first + number for number, member in enumerate(members)}

    def _query_rows(
        self, rollout: Rollout, given_numbers: Mapping[int, int]
    ) -> tuple[list[Row], int]:
        """A row for each query, or for each of its thoughts, and the tokens that losses read."""
        config, size = self._config, rollout.group_size
        weights, actions = self._policy_weights(rollout)
        imitated = 0
        if config.losses.sft:
            imitated = self._rows.count_imitated(
                rollout.examples, emb_token_learns=config.train_emb_token
            )
        rows: list[Row] = []
        for number, (example, group) in enumerate(
            zip(rollout.examples, rollout.thoughts, strict=True)
        ):
            vectors = range(number * size, (number + 1) * size)
            if weights is None:
                branches = sampled_continuations(group, vectors)
            else:
                branches = rewarded_continuations(
                    group, rollout.advantages[number], weights[number], vectors
                )
            if imitated or number in given_numbers:
                given = self._rows.given_branch(
                    example,
                    given_numbers.get(number),
                    weight=config.losses.sft / imitated if imitated else 0.0,
                    emb_token_learns=config.train_emb_token,
                )
                branches += [] if given is None else [given]
            prompt = self._rows.prompt(example, think=True).ids
            shared = config.rollout.shared_prefix
            rows += [group_row(prompt, branches)] if shared else thought_rows(prompt, branches)
        return rows, actions + imitated

    def _policy_weights(self, rollout: Rollout) -> tuple[Float[np.ndarray, "P G"] | None, int]:
        """Of each action token of each thought in the policy loss, and how many these are."""
        config = self._config
        if not config.losses.policy:
            return None, 0
        thoughts = [thought for group in rollout.thoughts for thought in group]
        kept = np.repeat(rollout.kept, rollout.group_size)
        if config.policy.mask_truncated_completions:
            kept = kept & [thought.finish_reason is not FinishReason.LENGTH for thought in thoughts]
        actions = np.where(kept, [actions_of(thought) for thought in thoughts], 0)
        weights = config.losses.policy * token_weights(
            actions, config.policy.resolved().aggregation, config.rollout.max_thought_tokens
        )
        return weights.reshape(rollout.advantages.shape), int(actions.sum())

    def _contrast(
        self, rollout: Rollout, given: Mapping[int, int]
    ) -> tuple[ContrastPlan | None, list[Row]]:
        losses = self._config.losses
        if not (losses.infonce or losses.triplet):
            return None, []
        size = rollout.group_size
        own = np.repeat(np.arange(len(rollout.examples)), size)
        return document_prompt(
            rollout.examples,
            self._sets,
            self._rows,
            hard_negatives=self._config.data.hard_negatives,
            groups=[*own.tolist(), *given],
            most=size + self._config.contrast_reference_thoughts,
        )

    def _think(
        self, model: T1, examples: Sequence[Example], step: int, clock: Clock
    ) -> list[list[Thought]]:
        """A group of thoughts for each query."""
        rollout = self._config.rollout
        with clock.of("rollout"):
            return model.think(
                [
                    Prompt(
                        query_id=f"{example.set_name}/{example.record.query_id}",
                        token_ids=self._rows.prompt(example, think=True).ids.tolist(),
                    )
                    for example in examples
                ],
                n=rollout.num_generations,
                max_thought_tokens=rollout.max_thought_tokens,
                sampling=SamplingParams(
                    temperature=rollout.temperature, seed=stable_hash(self._seed, step)
                ),
            )

    def _groups(
        self,
        model: T1,
        documents: CandidateDocuments,
        examples: Sequence[Example],
        step: int,
        clock: Clock,
    ) -> Rollout:
        """A group of thoughts for each query, and what they earned."""
        thoughts = self._think(model, examples, step, clock)
        with clock.of("reward"):
            vectors = np.stack([[thought.embedding for thought in group] for group in thoughts])
            nothink = None
            if self._config.reward.needs_nothink:
                plain = without_thoughts(model, examples)
                nothink = documents.outcome(
                    model, examples, plain[:, None], pools_near=vectors.mean(axis=1)
                )
            context = RewardContext(
                thoughts=thoughts,
                records=[example.record for example in examples],
                outcome=documents.outcome(model, examples, vectors),
                nothink=nothink,
                max_thought_tokens=self._config.rollout.max_thought_tokens,
                special_ids=self._rows.tokenizer.special_ids,
            )
            rewards = compute_rewards(context, self._config.reward)
            advantages, kept = group_advantages(rewards.total, self._config.advantage)
        return Rollout(
            examples=examples, thoughts=thoughts, rewards=rewards, advantages=advantages, kept=kept
        )


def without_thoughts(model: T1, examples: Sequence[Example]) -> Float[np.ndarray, "P D"]:
    """The vectors of queries that are embedded at once, by the prompt that asks for no thought."""
    by_wording: dict[tuple[str | None, str | None], list[int]] = {}
    for number, example in enumerate(examples):
        instruction = example.record.instruction
        task = example.task if instruction is None else None
        by_wording.setdefault((task, instruction), []).append(number)
    vectors = np.zeros((len(examples), model.embed_dim), np.float32)
    for (task, instruction), members in by_wording.items():
        vectors[members] = model.encode_query(
            [examples[number].record.query for number in members],
            query_ids=[examples[number].record.query_id for number in members],
            think=False,
            task=task,
            instruction=instruction,
        )
    return vectors
