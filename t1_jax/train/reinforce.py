"""Stage 3: thoughts are drawn, rewarded by what they bring up, and made more or less likely."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from t1_jax.generate import Prompt, SamplingOptions, Thought
from t1_jax.retrieval import Index, build_index
from t1_jax.retriever import T1
from t1_jax.train.batch import Row, micro_batches
from t1_jax.train.config import LengthConfig, StageConfig
from t1_jax.train.contrast import ContrastPlan, ContrastWeights
from t1_jax.train.data import Draw, TrainingSet
from t1_jax.train.learner import Student, thinking_options
from t1_jax.train.losses import group_advantages, token_weights
from t1_jax.train.rewards import (
    DocumentStore,
    RewardContext,
    Rewards,
    Standing,
    build_pools,
    compute_rewards,
    standing_from_index,
    standing_from_pools,
    standing_from_scores,
)
from t1_jax.train.rows import RowMaker, actions_of, group_row, thought_rows
from t1_jax.train.step import StepBatch, TokenObjective
from t1_jax.train.supervised import document_side

TakeDraws = Callable[[], Sequence[Draw]]
"""The next batch of the stream."""


@dataclass(kw_only=True)
class Clock:
    """Seconds of a step by what they went into."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Adds the time inside the context to `time/<name>`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            key = f"time/{name}"
            self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout:
    """Queries of a step with what was thought about them, and what that earned.

    Attributes:
        draws: P queries.
        thoughts: P groups of G.
        rewards: of each thought.
        advantages: within each group.
        kept: groups that teach something.
    """

    draws: Sequence[Draw]
    thoughts: Sequence[Sequence[Thought]]
    rewards: Rewards
    advantages: Float[np.ndarray, "P G"]
    kept: np.ndarray


class Reinforced:
    """Turns queries into rollouts, and rollouts into what one step learns from."""

    def __init__(
        self,
        config: StageConfig,
        rows: RowMaker,
        sets: Sequence[TrainingSet],
        student: Student,
        lengths: LengthConfig,
        *,
        seed: int,
    ) -> None:
        self._config = config
        self._rows = rows
        self._sets = {each.name: each for each in sets}
        self._student = student
        self._seed = seed
        self._options = thinking_options(lengths, config.rollout, budget=config.rollout.budget)
        refresh = None if config.pool.kind == "frozen" else config.pool.refresh_steps
        self._stores = (
            {}
            if config.pool.kind == "batch"
            else {
                each.name: DocumentStore(list(each.documents), refresh_steps=refresh)
                for each in sets
            }
        )
        self._indexes: dict[str, tuple[int, Index]] = {}

    def state(self) -> dict[str, np.ndarray]:
        """Document vectors and their age, for a checkpoint."""
        return {
            f"{name}:{key}": array
            for name, store in self._stores.items()
            for key, array in store.state().items()
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` gave."""
        for name, store in self._stores.items():
            store.load_state(
                {key: state[f"{name}:{key}"] for key in ("vectors", "encoded_at", "corpus")}
            )
        self._indexes = {}

    def rollout(
        self, take: TakeDraws, trained: nnx.State, step: int, clock: Clock
    ) -> tuple[Rollout, dict[str, float]]:
        """Draws thoughts for the next queries and rewards them.

        With `zero_variance: resample`, groups whose thoughts all earned the same make way for
        further queries, for a few batches.
        """
        with clock.of("rollout"):
            model = self._student.retriever(trained, self._options)
        with clock.of("refresh"):
            self._refresh(model, step)
        draws = take()
        found = self._group(model, draws, step, clock)
        rounds = self._config.rollout.resample_rounds
        while self._config.advantage.zero_variance == "resample" and rounds and not all(found.kept):
            found = _merged(found, self._group(model, take(), step, clock), len(draws))
            rounds -= 1
        return found, _measures(found) | self._ages(step)

    def batch(self, rollout: Rollout) -> StepBatch:
        """What one update learns from a rollout."""
        config, groups = self._config, rollout.thoughts
        thoughts = [thought for group in groups for thought in group]
        per_group = len(groups[0])
        kept = np.repeat(rollout.kept, per_group)
        actions = np.array([actions_of(thought) for thought in thoughts], np.int64)
        weights = config.losses.policy * token_weights(
            np.where(kept, actions, 0),
            config.policy.resolved().aggregation,
            config.rollout.budget + 1,
        )
        plan, documents = self._contrast(rollout.draws, per_group)
        rows = [
            *self._query_rows(rollout, weights.reshape(len(groups), per_group)),
            *documents,
        ]
        tokeniser = self._rows.tokeniser
        return StepBatch(
            micro=micro_batches(
                rows,
                config.micro_batch,
                self._student.placement,
                pad_id=tokeniser.pad_id,
            ),
            objective=TokenObjective(
                policy=config.policy, temperature=config.rollout.temperature
            ),
            plan=plan,
            contrastive=config.contrastive,
            weights=ContrastWeights(infonce=config.losses.infonce, triplet=config.losses.triplet),
            num_vectors=len(thoughts) + len(documents),
            action_tokens=int(actions[kept].sum()),
        )

    def _query_rows(self, rollout: Rollout, weights: Float[np.ndarray, "P G"]) -> list[Row]:
        rows: list[Row] = []
        for number, (draw, group) in enumerate(zip(rollout.draws, rollout.thoughts, strict=True)):
            prompt = self._rows.prompt(draw, think=True).ids
            first = number * len(group)
            vectors = range(first, first + len(group))
            arguments = (prompt, group, rollout.advantages[number], weights[number], vectors)
            if self._config.rollout.share_prompt:
                rows.append(group_row(*arguments))
            else:
                rows.extend(thought_rows(*arguments))
        return rows

    def _contrast(
        self, draws: Sequence[Draw], per_group: int
    ) -> tuple[ContrastPlan | None, list[Row]]:
        losses = self._config.losses
        if not (losses.infonce or losses.triplet):
            return None, []
        return document_side(
            draws,
            list(self._sets.values()),
            self._rows,
            hard_negatives=self._config.draws.hard_negatives,
            queries=range(len(draws) * per_group),
        )

    def _group(self, model: T1, draws: Sequence[Draw], step: int, clock: Clock) -> Rollout:
        rollout = self._config.rollout
        with clock.of("rollout"):
            thoughts = model.think(
                [
                    Prompt(
                        query_id=f"{draw.set_name}/{draw.record.query_id}",
                        token_ids=self._rows.prompt(draw, think=True).ids.tolist(),
                    )
                    for draw in draws
                ],
                n_thoughts=rollout.thoughts,
                budget=rollout.budget,
                sampling=SamplingOptions(
                    temperature=rollout.temperature, seed=self._seed * 1_000_003 + step
                ),
            )
        with clock.of("reward"):
            vectors = np.stack([[thought.vector for thought in group] for group in thoughts])
            nothink = None
            if self._config.reward.needs_nothink:
                plain = np.stack([self._without_thought(model, draw) for draw in draws])
                nothink = self._standing(model, draws, plain[:, None])
            rewards = compute_rewards(
                RewardContext(
                    thoughts=thoughts,
                    records=[draw.record for draw in draws],
                    standing=self._standing(model, draws, vectors),
                    nothink=nothink,
                    budget=rollout.budget,
                ),
                self._config.reward,
            )
            advantages, kept = group_advantages(rewards.total, self._config.advantage)
        return Rollout(
            draws=draws, thoughts=thoughts, rewards=rewards, advantages=advantages, kept=kept
        )

    def _without_thought(self, model: T1, draw: Draw) -> Float[np.ndarray, " D"]:
        return model.encode_query(
            draw.record.query,
            think=False,
            task=None if draw.record.instruction else draw.set_name,
            instruction=draw.record.instruction,
        )

    def _standing(
        self, model: T1, draws: Sequence[Draw], vectors: Float[np.ndarray, "P G D"]
    ) -> Standing:
        """Where the positives stand, set by set, in the order of the draws."""
        if self._config.pool.kind == "batch":
            return self._batch_standing(model, draws, vectors)
        parts: list[tuple[list[int], Standing]] = []
        for name in self._sets:
            members = [number for number, draw in enumerate(draws) if draw.set_name == name]
            if members:
                found = self._set_standing(name, [draws[n] for n in members], vectors[members])
                parts.append((members, found))
        return _in_order(parts)

    def _set_standing(
        self, name: str, draws: Sequence[Draw], vectors: Float[np.ndarray, "P G D"]
    ) -> Standing:
        index = self._index(name)
        records = [draw.record for draw in draws]
        if self._config.pool.kind == "pool":
            pools = build_pools(
                records, vectors.mean(axis=1), index, config=self._config.pool, seed=self._seed
            )
            return standing_from_pools(records, vectors, pools, self._stores[name].current.table)
        most = max(len(record.positives) for record in records)
        rows = np.full((len(records), most), -1, np.int64)
        grades = np.zeros((len(records), most), np.int64)
        for number, record in enumerate(records):
            rows[number, : len(record.positives)] = index.table.rows_of(record.positives)
            grades[number, : len(record.positives)] = list(record.positives.values())
        excluded = [index.table.rows_of(record.excluded) for record in records]
        return standing_from_index(index, vectors, rows, grades, excluded)

    def _batch_standing(
        self, model: T1, draws: Sequence[Draw], vectors: Float[np.ndarray, "P G D"]
    ) -> Standing:
        """Among the documents of the step, encoded by the model as it is."""
        keys = list(
            dict.fromkeys(
                (draw.set_name, name)
                for draw in draws
                for name in (*draw.record.positives, *draw.negatives)
            )
        )
        texts = [self._sets[name].documents[document].full_text for name, document in keys]
        encoded = model.encode_document(texts)
        grades = np.zeros((len(draws), len(keys)), np.int64)
        allowed = np.ones((len(draws), len(keys)), bool)
        for number, draw in enumerate(draws):
            for column, (name, document) in enumerate(keys):
                if name == draw.set_name:
                    grades[number, column] = draw.record.positives.get(document, 0)
                    allowed[number, column] = document not in draw.record.excluded
        return standing_from_scores(vectors @ encoded.T, grades, allowed)

    def _refresh(self, model: T1, step: int) -> None:
        for name, store in self._stores.items():
            if store.due(step):
                documents = self._sets[name].documents
                texts = [document.full_text for document in documents.values()]
                store.refresh(model.encode_document(texts, document_ids=list(documents)), step)

    def _index(self, name: str) -> Index:
        """Over the newest vectors of a set's documents; built once for each version."""
        version = self._stores[name].current
        built = self._indexes.get(name)
        if built is None or built[0] != version.encoded_at:
            index = build_index(
                self._config.pool.index,
                version.table.ids,
                version.table.vectors,
                mesh=self._student.placement.mesh,
            )
            built = self._indexes[name] = (version.encoded_at, index)
        return built[1]

    def _ages(self, step: int) -> dict[str, float]:
        ages = [store.age(step) for store in self._stores.values()]
        return {"index/age": float(max(ages))} if ages else {}


def sample_of(rollout: Rollout, queries: int) -> list[dict[str, object]]:
    """Some thoughts with what they earned, to be read by a person."""
    return [
        {
            "set": draw.set_name,
            "query_id": draw.record.query_id,
            "query": draw.record.query,
            "positive": draw.positive,
            "thought": thought.text,
            "end": thought.end.value,
            "reward": float(rollout.rewards.total[number, sample]),
            "advantage": float(rollout.advantages[number, sample]),
            "terms": {
                name: float(term[number, sample]) for name, term in rollout.rewards.terms.items()
            },
        }
        for number, draw in enumerate(rollout.draws[:queries])
        for sample, thought in enumerate(rollout.thoughts[number])
    ]


def _measures(rollout: Rollout) -> dict[str, float]:
    thoughts = [thought for group in rollout.thoughts for thought in group]
    forced = [thought.end.value == "budget" for thought in thoughts]
    measures = {
        "reward": float(rollout.rewards.total.mean()),
        "rollout/length": float(np.mean([thought.reasoning_tokens for thought in thoughts])),
        "rollout/forced_share": float(np.mean(forced)),
        "rollout/no_emb_share": float(np.mean([thought.forced for thought in thoughts])),
        "rollout/kept_groups": float(np.mean(rollout.kept)),
    }
    return measures | {
        f"reward/{name}": float(term.mean()) for name, term in rollout.rewards.terms.items()
    }


def _merged(first: Rollout, second: Rollout, queries: int) -> Rollout:
    """Groups that teach come first, then the rest; as many as a step has."""
    order = np.argsort(~np.concatenate([first.kept, second.kept]), kind="stable")[:queries]
    draws, thoughts = [*first.draws, *second.draws], [*first.thoughts, *second.thoughts]

    def both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([a, b])[order]

    return Rollout(
        draws=[draws[n] for n in order],
        thoughts=[thoughts[n] for n in order],
        rewards=Rewards(
            total=both(first.rewards.total, second.rewards.total),
            terms={
                name: both(term, second.rewards.terms[name])
                for name, term in first.rewards.terms.items()
            },
        ),
        advantages=both(first.advantages, second.advantages),
        kept=both(first.kept, second.kept),
    )


def _in_order(parts: Sequence[tuple[Sequence[int], Standing]]) -> Standing:
    """One standing of the prompts of several sets, each at its own number."""
    most = max(standing.positive_grades.shape[1] for _, standing in parts)
    order = np.argsort(np.concatenate([np.asarray(members) for members, _ in parts]))

    def joined(name: str, fill: float, *, pad: bool) -> np.ndarray:
        arrays = [np.asarray(standing.__dict__[name]) for _, standing in parts]
        if pad:
            arrays = [
                np.pad(
                    array,
                    [*[(0, 0)] * (array.ndim - 1), (0, most - array.shape[-1])],
                    constant_values=fill,
                )
                for array in arrays
            ]
        return np.concatenate(arrays)[order]

    grades: Int[np.ndarray, "P R"] = joined("positive_grades", 0, pad=True)
    return Standing(
        positive_grades=grades,
        positive_scores=joined("positive_scores", 0.0, pad=True),
        positive_ranks=joined("positive_ranks", -1, pad=True),
        hardest_negatives=joined("hardest_negatives", -np.inf, pad=False),
        candidates=joined("candidates", 0, pad=False),
    )
