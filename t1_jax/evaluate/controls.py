"""The controls: one query, thoughts of different origin, and what each is worth.

A thought helps only if the model's own beats no thought, an empty one, another query's, and the
query said twice. The gold thought is written with sight of the answer: an upper bound, no result.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from t1_jax.errors import DataError
from t1_jax.evaluate.config import ControlName, EvaluationConfig
from t1_jax.evaluate.encoders import QueryEncoder
from t1_jax.evaluate.results import ThoughtRecord
from t1_jax.generate import Thought
from t1_jax.retrieval import Collection

_GIVEN = "given"


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryVectors:
    """One control's queries as vectors.

    Attributes:
        vectors: unit vectors, in the order of the collection's queries.
        thoughts: for each query those its vector was read from; none without thought.
        seconds: wall time to make them, compilation included. For `random` without the thinking of
            the query that the thought is taken from.
    """

    vectors: Float[np.ndarray, "B D"]
    thoughts: tuple[tuple[ThoughtRecord, ...], ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Control:
    """One way to come by a thought.

    Attributes:
        name: in configs and file names.
        label: in tables.
        meaning: in a sentence, for the report and `--help`.
        oracle: whether it has seen the answer, so that it is no result.
        embed: makes the vectors.
    """

    name: ControlName
    label: str
    meaning: str
    oracle: bool = False
    embed: "Callable[[ControlQueries], QueryVectors]"


class ControlQueries:
    """The queries of a collection, embedded under each control; own thoughts are drawn once."""

    def __init__(
        self,
        model: QueryEncoder,
        collection: Collection,
        config: EvaluationConfig,
        *,
        show_progress_bar: bool = False,
    ) -> None:
        self.model = model
        self.collection = collection
        self.config = config
        self.texts = [query.text for query in collection.queries]
        self.ids = [query.id for query in collection.queries]
        self._instruction = config.instruction
        self._task = config.task
        if config.task is None and config.instruction is None:
            self._task = collection.task
        self._show_progress_bar = show_progress_bar

    def embed(self, control: ControlName) -> QueryVectors:
        """The queries under one control."""
        return CONTROLS[control].embed(self)

    @cached_property
    def own(self) -> QueryVectors:
        """Each query after the model's own thought, or several and their mean."""
        start = time.perf_counter()
        vectors, drawn = self.model.encode_query(
            self.texts,
            n=self.config.n,
            max_thought_tokens=self.config.max_thought_tokens,
            sampling=self.config.sampling,
            query_ids=self.ids,
            task=self._task,
            instruction=self._instruction,
            return_thoughts=True,
            show_progress_bar=self._show_progress_bar,
        )
        if wrong := [n for n in map(len, drawn) if n != self.config.n]:
            raise DataError(f"{self.config.n} thoughts were asked for, {wrong[0]} came")
        thoughts = tuple(tuple(_record(thought) for thought in of_query) for of_query in drawn)
        return QueryVectors(vectors=vectors, thoughts=thoughts, seconds=time.perf_counter() - start)

    def without_thought(self) -> QueryVectors:
        """Each query under the prompt that asks for no thought."""
        start = time.perf_counter()
        vectors, _ = self.model.encode_query(
            self.texts,
            think=False,
            query_ids=self.ids,
            task=self._task,
            instruction=self._instruction,
            return_thoughts=True,
            show_progress_bar=self._show_progress_bar,
        )
        return QueryVectors(
            vectors=vectors,
            thoughts=tuple(() for _ in self.ids),
            seconds=time.perf_counter() - start,
        )

    def given(self, thoughts: Sequence[Sequence[ThoughtRecord]]) -> QueryVectors:
        """Each query after thoughts that are put into its mouth; as many for each query."""
        start = time.perf_counter()
        total = np.zeros((), np.float64)
        for sample in zip(*thoughts, strict=True):
            vectors, _ = self.model.encode_query(
                self.texts,
                thoughts=[thought.text for thought in sample],
                query_ids=self.ids,
                task=self._task,
                instruction=self._instruction,
                return_thoughts=True,
                show_progress_bar=self._show_progress_bar,
            )
            total = total + np.asarray(vectors, np.float64)
        means = total / np.linalg.norm(total, axis=1, keepdims=True)
        return QueryVectors(
            vectors=means.astype(np.float32),
            thoughts=tuple(map(tuple, thoughts)),
            seconds=time.perf_counter() - start,
        )


def _own(queries: ControlQueries) -> QueryVectors:
    return queries.own


def _empty(queries: ControlQueries) -> QueryVectors:
    return queries.given([[_given_record("", tokens=0)] for _ in queries.ids])


def _random(queries: ControlQueries) -> QueryVectors:
    own = queries.own.thoughts
    gold = [
        frozenset(document.id for document in queries.collection.gold_documents(query_id))
        for query_id in queries.ids
    ]
    lengths = [sum(thought.tokens or 0 for thought in thoughts) for thoughts in own]
    donors = pair_with_others(queries.ids, lengths, gold, seed=queries.config.query_seed)
    return queries.given(
        [
            [
                replace(thought, finish_reason=_GIVEN, log_prob_sum=None, source=queries.ids[donor])
                for thought in own[donor]
            ]
            for donor in donors
        ]
    )


def _repeated(queries: ControlQueries) -> QueryVectors:
    return queries.given([[_given_record(text)] for text in queries.texts])


def _gold(queries: ControlQueries) -> QueryVectors:
    titles = [queries.collection.gold_titles(query_id) for query_id in queries.ids]
    return queries.given([[_given_record("; ".join(names))] for names in titles])


CONTROLS: Mapping[str, Control] = {
    control.name: control
    for control in (
        Control(
            name="own",
            label="own thought",
            meaning="The model thinks about the query, then embeds it.",
            embed=_own,
        ),
        Control(
            name="no-think",
            label="no thought",
            meaning="The query is embedded at once, by a prompt that asks for no thought.",
            embed=ControlQueries.without_thought,
        ),
        Control(
            name="empty",
            label="empty thought",
            meaning="The prompt asks for a thought, and the thought has no token.",
            embed=_empty,
        ),
        Control(
            name="random",
            label="another query's thought",
            meaning="The thought of another query of about the same length of thought and, where "
            "possible, with another answer.",
            embed=_random,
        ),
        Control(
            name="repeated",
            label="query repeated",
            meaning="The query itself stands where the thought would.",
            embed=_repeated,
        ),
        Control(
            name="gold",
            label="gold thought (oracle)",
            meaning="The titles of the best judged documents stand where the thought would: an "
            "upper bound written with sight of the answer, not a result.",
            oracle=True,
            embed=_gold,
        ),
    )
}
"""Every control by name."""


def pair_with_others(
    ids: Sequence[str], lengths: Sequence[int], answers: Sequence[Set[str]], *, seed: int = 0
) -> list[int]:
    """Gives every query the thought of another; each thought is used once.

    Neighbors in order of length swap thoughts, the last odd one among three. A query that got its
    own answer (`answers` of both overlap) then swaps with the nearest query in that order for which
    fewer such clashes remain. So lengths match closely, nobody has its own thought, and clashes
    remain only where too many queries share an answer.

    Args:
        ids: of the queries.
        lengths: of their thoughts, in tokens.
        answers: ids of their best documents.
        seed: orders thoughts of equal length.

    Returns:
        For each query the position of the query whose thought it gets.

    Raises:
        DataError: there is only one query.
    """
    if len(ids) == 1:
        raise DataError(
            "the control 'random' needs a second query whose thought could be borrowed",
            hint="evaluate at least 2 queries, or leave 'random' out of controls",
        )

    def tie(position: int) -> str:
        return hashlib.sha256(f"{seed}\n{ids[position]}".encode()).hexdigest()

    order = sorted(range(len(ids)), key=lambda position: (lengths[position], tie(position)))
    donors = [0] * len(ids)
    for start in range(0, len(order) - 1, 2):
        group = order[start:] if len(order) - start == 3 else order[start : start + 2]
        for position, donor in zip(group, [*group[1:], group[0]], strict=True):
            donors[position] = donor
        if len(group) == 3:
            break
    _resolve_clashes(order, donors, answers)
    return donors


def _resolve_clashes(order: list[int], donors: list[int], answers: Sequence[Set[str]]) -> None:
    """Swaps donors, in place, while that leaves fewer queries with a thought on their own answer.

    With groups of g queries of one answer among n >= 2 g, a swap that resolves a clash always
    exists: at most 2 g − 1 partners are unfit.
    """

    def clash(position: int, donor: int) -> bool:
        return not answers[position].isdisjoint(answers[donor])

    for place, position in enumerate(order):
        if not clash(position, donors[position]):
            continue
        by_distance = sorted(range(len(order)), key=lambda other: abs(other - place))
        for other in (order[other_place] for other_place in by_distance):
            mine, theirs = donors[other], donors[position]
            if other == position or mine == position or theirs == other or clash(position, mine):
                continue
            if clash(other, theirs) <= clash(other, mine):
                donors[position], donors[other] = mine, theirs
                break


def _record(thought: Thought) -> ThoughtRecord:
    drawn = thought.log_probs[:-1] if thought.emb_token_appended else thought.log_probs
    return ThoughtRecord(
        sample=thought.sample,
        text=thought.text,
        tokens=thought.reasoning_tokens,
        log_prob_sum=float(np.sum(drawn, dtype=np.float64)),
        finish_reason=thought.finish_reason.value,
    )


def _given_record(text: str, tokens: int | None = None) -> ThoughtRecord:
    return ThoughtRecord(
        sample=0, text=text, tokens=tokens, log_prob_sum=None, finish_reason=_GIVEN
    )
