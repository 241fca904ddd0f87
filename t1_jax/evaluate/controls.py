"""The controls: the same queries with thoughts from different sources.

They isolate the effect of the thought. It helps only if the model's own thought beats no thought,
an empty thought, another query's thought, and the query repeated. The gold thought has seen the
answer: it is an upper bound, not a result.
"""

import copy
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Float

from t1_jax.errors import DataError
from t1_jax.evaluate.config import ControlName, EvaluationConfig
from t1_jax.evaluate.encoders import QueryEncoder
from t1_jax.evaluate.results import ThoughtRecord
from t1_jax.generate import Choices, Thought
from t1_jax.retrieval import Collection

_GIVEN = "given"


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryVectors:
    """The query embeddings of one control.

    Attributes:
        vectors: unit vectors, in the order of the collection's queries.
        thoughts: the thoughts behind each query's embedding; empty without thought.
        seconds: wall time including compilation, for `random` without the time to sample the
            borrowed thoughts.
    """

    vectors: Float[np.ndarray, "B D"]
    thoughts: tuple[tuple[ThoughtRecord, ...], ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Control:
    """One source of thoughts.

    Attributes:
        name: name in configs and file names.
        label: name in tables.
        meaning: a sentence for the report.
        oracle: whether it has seen the answer, so that it is an upper bound and not a result.
        embed: computes the query embeddings.
    """

    name: str
    label: str
    meaning: str
    oracle: bool = False
    embed: "Callable[[ControlQueries], QueryVectors]"


class ControlQueries:
    """Embeds the queries of a collection under each control; thoughts are sampled only once.

    Attributes:
        collection: the queries.
        config: settings.
        texts: of the queries.
        ids: of the queries.
        task: name of the instruction in the preset; None for the general one, or that of `config`.
        candidates: titles that the prompt of each query shows, best first; empty without.
    """

    def __init__(
        self,
        model: QueryEncoder,
        collection: Collection,
        config: EvaluationConfig,
        *,
        show_progress_bar: bool = False,
    ) -> None:
        self.collection = collection
        self.config = config
        self.texts = [query.text for query in collection.queries]
        self.ids = [query.id for query in collection.queries]
        default = model.known_task(collection.task) if config.instruction is None else None
        self.candidates: Sequence[Sequence[str]] = ()
        self.task = default if config.task is None else config.task
        self._encode_texts = partial(
            model.encode_query, task=self.task, instruction=config.instruction
        )
        self._encode = partial(
            self._encode_texts,
            self.texts,
            query_ids=self.ids,
            return_thoughts=True,
            show_progress_bar=show_progress_bar,
        )

    def embed(self, control: ControlName) -> QueryVectors:
        """The query embeddings of one control."""
        return CONTROLS[control].embed(self)

    def over(self, candidates: Sequence[Sequence[str]]) -> "ControlQueries":
        """The same queries, whose prompts show these titles."""
        queries = self._with(candidates=candidates)
        queries.candidates = candidates
        return queries

    def constrained(self, choices: Choices) -> "ControlQueries":
        """The same queries, whose thoughts are one of these texts each."""
        return self._with(choices=choices)

    def _with(self, **options: Any) -> "ControlQueries":
        queries = copy.copy(self)
        queries.__dict__.pop("own", None)
        queries._encode = partial(self._encode, **options)
        return queries

    @cached_property
    def own(self) -> QueryVectors:
        """Each query after the model's own thought, or the mean over several."""
        start = time.perf_counter()
        vectors, samples = self._encode(
            n=self.config.n,
            max_thought_tokens=self.config.max_thought_tokens,
            sampling=self.config.sampling,
        )
        if wrong := [n for n in map(len, samples) if n != self.config.n]:
            raise DataError(f"expected {self.config.n} thoughts per query, got {wrong[0]}")
        thoughts = tuple(tuple(thought_record(thought) for thought in group) for group in samples)
        return QueryVectors(vectors=vectors, thoughts=thoughts, seconds=time.perf_counter() - start)

    @cached_property
    def nothink(self) -> QueryVectors:
        """Each query under the prompt without thought."""
        start = time.perf_counter()
        vectors, _ = self._encode(think=False)
        thoughts = tuple(() for _ in self.ids)
        return QueryVectors(vectors=vectors, thoughts=thoughts, seconds=time.perf_counter() - start)

    def encode_given(self, texts: list[str], thoughts: list[str]) -> Float[np.ndarray, "B D"]:
        """Embeddings of some queries, each after a user-supplied thought."""
        vectors, _ = self._encode_texts(texts, thoughts=thoughts, return_thoughts=True)
        return vectors

    def given(self, thoughts: Sequence[Sequence[ThoughtRecord]]) -> QueryVectors:
        """Each query after user-supplied thoughts, the same number for each query."""
        start = time.perf_counter()
        total = np.zeros((), np.float64)
        for sample in zip(*thoughts, strict=True):
            vectors, _ = self._encode(thoughts=[thought.text for thought in sample])
            total = total + np.asarray(vectors, np.float64)
        means = total / np.linalg.norm(total, axis=1, keepdims=True)
        return QueryVectors(
            vectors=means.astype(np.float32),
            thoughts=tuple(map(tuple, thoughts)),
            seconds=time.perf_counter() - start,
        )


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


def _gold(queries: ControlQueries) -> QueryVectors:
    titles = [queries.collection.gold_titles(query_id) for query_id in queries.ids]
    return queries.given([[_given_record("; ".join(names))] for names in titles])


CONTROLS: Mapping[str, Control] = {
    control.name: control
    for control in (
        Control(
            name="own",
            label="own thought",
            meaning="The model thinks about the query, then embeds both.",
            embed=lambda queries: queries.own,
        ),
        Control(
            name="no-think",
            label="no thought",
            meaning="The query is embedded directly, with a prompt that asks for no thought.",
            embed=lambda queries: queries.nothink,
        ),
        Control(
            name="empty",
            label="empty thought",
            meaning="The prompt asks for a thought, but the thought is empty.",
            embed=lambda queries: queries.given([[_given_record("", 0)] for _ in queries.ids]),
        ),
        Control(
            name="random",
            label="another query's thought",
            meaning="The thought of another query, of similar length and, if possible, with other "
            "relevant documents.",
            embed=_random,
        ),
        Control(
            name="repeated",
            label="query repeated",
            meaning="The query itself in place of the thought.",
            embed=lambda queries: queries.given([[_given_record(text)] for text in queries.texts]),
        ),
        Control(
            name="gold",
            label="gold thought (oracle)",
            meaning="The titles of the most relevant documents in place of the thought: an upper "
            "bound, not a result.",
            oracle=True,
            embed=_gold,
        ),
    )
}
"""All controls by name."""

VERIFIED = Control(
    name="verified",
    label="own thought, verified",
    meaning="The ranking of the own thought, its first documents reordered by how likely the model "
    "finds their titles as thoughts.",
    embed=lambda queries: queries.own,
)
"""The row of `EvaluationConfig.verify`: the embeddings of the own thought, another ranking."""

OVER_CANDIDATES: Mapping[str, Control] = {
    control.name: control
    for control in (
        Control(
            name="candidates",
            label="own thought over candidates",
            meaning="The prompt shows the titles of the documents that the query finds without a "
            "thought. The model thinks over them, then embeds all.",
            embed=lambda queries: queries.own,
        ),
        Control(
            name="candidates-empty",
            label="candidates, empty thought",
            meaning="The prompt shows the candidates, but the thought is empty.",
            embed=lambda queries: queries.given([[_given_record("", 0)] for _ in queries.ids]),
        ),
        Control(
            name="candidates-nearest",
            label="candidates, nearest title as the thought",
            meaning="The prompt shows the candidates, and the title of the nearest one is in place "
            "of the thought.",
            embed=lambda queries: queries.given(
                [[_given_record(titles[0] if titles else "")] for titles in queries.candidates]
            ),
        ),
    )
}
"""The rows of `EvaluationConfig.candidates`; their queries have candidates."""

CONSTRAINED = Control(
    name="constrained",
    label="title as the thought (transductive)",
    meaning="The thought is constrained to be the title of a document. It is transductive: the "
    "model knows the names of all documents that are searched, as no other row does.",
    embed=lambda queries: queries.own,
)
"""The row of `EvaluationConfig.constrained`."""

ALL_CONTROLS: Mapping[str, Control] = {
    **CONTROLS,
    VERIFIED.name: VERIFIED,
    **OVER_CANDIDATES,
    CONSTRAINED.name: CONSTRAINED,
}
"""What a row may be, by name."""


def meaning_of(control: str | None) -> str:
    """A sentence about the rows of a control; empty for a baseline."""
    return "" if control is None else ALL_CONTROLS[control].meaning


def pair_with_others(
    ids: Sequence[str], lengths: Sequence[int], answers: Sequence[Set[str]], *, seed: int = 0
) -> list[int]:
    """Assigns every query the thought of another query; each thought is used once.

    Queries are sorted by length of thought, and neighbors swap thoughts; with an odd number the
    last three rotate. If a query gets the thought of one with an overlapping answer, it swaps again
    with the nearest query for which fewer such clashes remain. So lengths match closely, no query
    has its own thought, and clashes remain only if too many queries share an answer.

    `lengths` are those of the thoughts in tokens, `answers` the ids of each query's most relevant
    documents. The seed orders thoughts of equal length.

    Returns:
        For each query the position of the query whose thought it gets.

    Raises:
        DataError: there is only one query.
    """
    if len(ids) == 1:
        raise DataError(
            "the control 'random' needs at least 2 queries, to take the thought of another one",
            hint="evaluate more queries, or remove 'random' from controls",
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
    """Swaps donors in place while that reduces the number of clashes.

    If g of n >= 2 g queries share an answer, a swap that resolves a clash always exists: at most
    2 g − 1 partners are unsuitable.
    """

    def clash(position: int, donor: int) -> bool:
        return not answers[position].isdisjoint(answers[donor])

    for rank, position in enumerate(order):
        if not clash(position, donors[position]):
            continue
        by_distance = sorted(range(len(order)), key=lambda other: abs(other - rank))
        for other in (order[other_rank] for other_rank in by_distance):
            donor, offered = donors[position], donors[other]
            if other == position or offered == position or donor == other:
                continue
            if not clash(position, offered) and clash(other, donor) <= clash(other, offered):
                donors[position], donors[other] = offered, donor
                break


def thought_record(thought: Thought) -> ThoughtRecord:
    """A sampled thought as reports and files hold it."""
    sampled = thought.log_probs[:-1] if thought.emb_token_appended else thought.log_probs
    return ThoughtRecord(
        sample=thought.sample,
        text=thought.text,
        tokens=thought.reasoning_tokens,
        log_prob_sum=float(np.sum(sampled, dtype=np.float64)),
        finish_reason=thought.finish_reason.value,
    )


def _given_record(text: str, tokens: int | None = None) -> ThoughtRecord:
    return ThoughtRecord(
        sample=0, text=text, tokens=tokens, log_prob_sum=None, finish_reason=_GIVEN
    )
