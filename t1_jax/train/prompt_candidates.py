"""Candidates in the prompts of a stage: what queries find without a thought, in random order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from t1_jax.retrieval import normalize_text
from t1_jax.retriever import T1, CandidateTitles, nearest_candidates
from t1_jax.seeds import stable_hash
from t1_jax.text import T1Tokenizer
from t1_jax.train.candidates import CorpusEmbeddings
from t1_jax.train.config import CandidatesConfig, StageConfig
from t1_jax.train.data import Example, TrainingSet
from t1_jax.train.model import TrainableModel
from t1_jax.train.rewards import PoolConfig

_PREFIX = "prompts/"
"""Begins the names of this module's arrays among those of a stage."""


class PromptCandidates:
    """Gives examples the titles that their prompts show, and reference thoughts that fit them."""

    def __init__(
        self,
        config: StageConfig,
        sets: Sequence[TrainingSet],
        tokenizer: T1Tokenizer,
        model: TrainableModel,
        corpora: CorpusEmbeddings | None = None,
        *,
        seed: int,
    ) -> None:
        """Prepares a stage.

        Args:
            config: the stage; it has candidates.
            sets: its data.
            tokenizer: truncates titles.
            model: its mesh searches.
            corpora: embeddings that the stage has already; another object saves and restores them.
            seed: of the order of candidates, and of the positives that are left out.
        """
        self._config = config.candidates
        self._writes_thoughts = config.uses_reference_thoughts
        self._sets = {training_set.name: training_set for training_set in sets}
        self._titles = {
            name: CandidateTitles(tokenizer, training_set.documents)
            for name, training_set in self._sets.items()
        }
        self._owns_corpora = corpora is None
        self._corpora = corpora or CorpusEmbeddings(
            sets, model.mesh_context.mesh, refresh_steps=config.candidates.refresh_steps
        )
        self._seed = seed

    def state_dict(self) -> dict[str, np.ndarray]:
        """Embeddings and their age, unless they are another object's."""
        if not self._owns_corpora:
            return {}
        return {_PREFIX + name: array for name, array in self._corpora.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from a state that holds `state_dict()`.

        Raises:
            DataError: it belongs to another corpus.
        """
        if self._owns_corpora:
            self._corpora.load_state_dict(
                {
                    name.removeprefix(_PREFIX): array
                    for name, array in state.items()
                    if name.startswith(_PREFIX)
                }
            )

    def show(
        self,
        retriever: T1,
        examples: Sequence[Example],
        step: int,
        vectors: Float[np.ndarray, "P D"],
    ) -> tuple[Example, ...]:
        """The examples with candidates, in their order.

        A positive whose title is among them gives the reference thought: the title as shown.

        Args:
            retriever: the model with the weights of this step.
            examples: examples of the stage.
            step: number of the step in the whole run; order and omissions depend on it.
            vectors: the examples as `embed_without_thought` embeds them.
        """
        self._corpora.refresh(retriever.encode_document, step)
        shown = list(examples)
        for name in dict.fromkeys(example.set_name for example in examples):
            members = [n for n, example in enumerate(examples) if example.set_name == name]
            rngs = [self._rng(examples[n], step) for n in members]
            index = self._corpora.index(name)
            excluded = [
                index.table.rows_of(self._hidden(examples[n], rng))
                for n, rng in zip(members, rngs, strict=True)
            ]
            found = nearest_candidates(
                self._titles[name], index, vectors[members], self._config.k, excluded
            )
            for n, rng, titles in zip(members, rngs, found, strict=True):
                rng.shuffle(titles)
                shown[n] = self._with_candidates(examples[n], tuple(titles))
        return tuple(shown)

    def metrics(self, examples: Sequence[Example]) -> dict[str, float]:
        """Mean number of candidates, and the fraction of examples that see a positive's title."""
        seen = [
            shown_positive(example, self._titles[example.set_name]) is not None
            for example in examples
        ]
        return {
            "candidates/shown": float(np.mean([len(example.candidates) for example in examples])),
            "candidates/positive_frac": float(np.mean(seen)),
        }

    def _rng(self, example: Example, step: int) -> np.random.Generator:
        return np.random.default_rng(
            stable_hash(self._seed, step, example.set_name, example.record.query_id)
        )

    def _hidden(self, example: Example, rng: np.random.Generator) -> set[str]:
        """Documents that the prompt must not show: excluded ones and, in part, the positives."""
        record = self._sets[example.set_name].for_ranking(example.record)
        hidden = set(record.excluded)
        if rng.random() < self._config.left_out_fraction:
            hidden |= record.positives.keys() | example.record.positives.keys()
        return hidden

    def _with_candidates(self, example: Example, titles: tuple[str, ...]) -> Example:
        example = replace(example, candidates=titles)
        if not self._writes_thoughts:
            return example
        title = shown_positive(example, self._titles[example.set_name])
        return example if title is None else replace(example, thought=title)


def shown_positive(example: Example, titles: CandidateTitles) -> str | None:
    """The title of a positive as the prompt shows it, the sampled positive first; None without."""
    shown = {normalize_text(title): title for title in example.candidates}
    grades = example.record.positives
    best_first = sorted(grades, key=lambda name: (name != example.positive, -grades[name], name))
    found = (shown.get(normalize_text(titles[name])) for name in best_first)
    return next((title for title in found if title is not None), None)


def shared_pool(pool: PoolConfig, candidates: CandidatesConfig) -> PoolConfig:
    """The pool, its embeddings as fresh as prompts need them too, where both use the same."""
    if not candidates.k or pool.kind not in ("pool", "corpus"):
        return pool
    return replace(pool, refresh_steps=min(pool.refresh_steps, candidates.refresh_steps))


def embed_without_thought(retriever: T1, examples: Sequence[Example]) -> Float[np.ndarray, "P D"]:
    """Query embeddings by the prompt that asks for no thought."""
    by_instruction: dict[tuple[str | None, str | None], list[int]] = {}
    for number, example in enumerate(examples):
        instruction = example.record.instruction
        task = retriever.known_task(example.task) if instruction is None else None
        by_instruction.setdefault((task, instruction), []).append(number)
    vectors = np.zeros((len(examples), retriever.embed_dim), np.float32)
    for (task, instruction), members in by_instruction.items():
        vectors[members] = retriever.encode_query(
            [examples[number].record.query for number in members],
            query_ids=[examples[number].record.query_id for number in members],
            think=False,
            task=task,
            instruction=instruction,
        )
    return vectors
