"""How long an evaluation of several collections still takes, from what was measured so far."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from t1_jax.cli.embedding_cache import RememberedDocuments

if TYPE_CHECKING:
    from t1_jax.evaluate import Evaluation, EvaluationConfig, ModelFacts
    from t1_jax.retrieval import Collection

Kind = Literal["document", "think", "read"]
"""Encoding documents, drawing thoughts, or encoding queries whose thought is given or none."""

_CHARACTERS_PER_TOKEN = 4
_PROMPT_TOKENS = 45
_THINKING_COST = 3.0
"""Until thoughts were timed: a drawn token costs as much as so many that are only read."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of the model.

    Attributes:
        kind: of call.
        what: in words.
        tokens: about how many; 0 where nothing needs computing.
    """

    kind: Kind
    what: str
    tokens: float


def plan_collection(
    model: RememberedDocuments, collection: "Collection", config: "EvaluationConfig"
) -> list[Step]:
    """The calls that `evaluate_collection` makes, in its order."""
    if config.max_queries:
        collection = collection.subset_queries(config.max_queries, seed=config.query_seed)
    texts = [query.text for query in collection.queries]
    first_ids: dict[str, str] = {}
    for document in collection.documents:
        first_ids.setdefault(document.full_text, document.id)
    remembered = model.remembers(list(first_ids.values()), list(first_ids))
    steps = [
        Step(
            kind="document",
            what=f"{collection.name}: {len(first_ids)} documents"
            + (", remembered from before" if remembered else ""),
            tokens=0.0 if remembered else _tokens(first_ids),
        )
    ]
    reading = _tokens(texts)
    drawn = float(len(texts) * config.n * config.max_thought_tokens)
    thinking = Step(
        kind="think",
        what=f"{collection.name}: thoughts about {len(texts)} queries",
        tokens=drawn,
    )
    for control in config.controls:
        if control in ("own", "random") and thinking not in steps:
            steps.append(thinking)
        if control != "own":
            extra = {"random": drawn, "repeated": reading}.get(control, 0)
            calls = config.n if control == "random" else 1
            step = Step(
                kind="read",
                what=f"{collection.name}: control {control!r}",
                tokens=reading + extra / calls,
            )
            steps += [step] * calls
    return steps


def evaluate_all(
    model: RememberedDocuments,
    facts: "ModelFacts",
    collections: Sequence["Collection"],
    split: str,
    config: "EvaluationConfig",
    say: Callable[[str], None],
) -> "Iterator[Evaluation]":
    """Yields an evaluation of each collection, with an estimate of the time for all of them."""
    from t1_jax.evaluate import evaluate_collection

    steps = [
        step for collection in collections for step in plan_collection(model, collection, config)
    ]
    countdown = Countdown(model, steps, say)
    for collection in collections:
        yield evaluate_collection(
            countdown, collection, config, facts=facts, split=split, show_progress_bar=True
        )


class Countdown:
    """A model that says what it begins, and about how long all the rest will take."""

    def __init__(
        self, model: RememberedDocuments, steps: Sequence[Step], say: Callable[[str], None]
    ) -> None:
        self._model = model
        self._waiting = list(steps)
        self._count = len(steps)
        self._say = say
        self._tokens: dict[str, float] = {"document": 0.0, "think": 0.0, "read": 0.0}
        self._seconds = dict.fromkeys(self._tokens, 0.0)

    def encode_query(
        self,
        texts: Sequence[str],
        *,
        think: bool = True,
        thoughts: Sequence[str] | None = None,
        **how: Any,
    ) -> Any:
        """See `T1.encode_query`."""
        with self._step("think" if think and thoughts is None else "read"):
            return self._model.encode_query(texts, think=think, thoughts=thoughts, **how)

    def count_truncated(self, documents: Sequence[str]) -> int:
        """See `T1.count_truncated`."""
        return self._model.count_truncated(documents)

    def encode_document(
        self,
        texts: Sequence[str],
        *,
        document_ids: Sequence[str] | None = None,
        show_progress_bar: bool = False,
    ) -> Float[np.ndarray, "C D"]:
        """See `T1.encode_document`."""
        with self._step("document"):
            return self._model.encode_document(
                texts, document_ids=document_ids, show_progress_bar=show_progress_bar
            )

    @contextmanager
    def _step(self, kind: Kind) -> Iterator[None]:
        """Announces the next planned step of this kind, and times it."""
        number = self._count - len(self._waiting) + 1
        left = self.seconds_left()
        unplanned = Step(kind=kind, what=f"a further {kind} step", tokens=0.0)
        step = next((step for step in self._waiting if step.kind == kind), unplanned)
        if step is not unplanned:
            self._waiting.remove(step)
        estimate = "" if left is None else f"   about {in_words(left)} left in all"
        self._say(f"[{number}/{self._count}] {step.what}{estimate}")
        start = time.perf_counter()
        yield
        if step.tokens:
            self._tokens[kind] += step.tokens
            self._seconds[kind] += time.perf_counter() - start

    def seconds_left(self) -> float | None:
        """For the steps that wait, at the rates measured so far; None before the first was."""
        rates = self._rates()
        if rates is None:
            return None
        return sum((step.tokens / rates[step.kind] for step in self._waiting), 0.0)

    def _rates(self) -> dict[Kind, float] | None:
        """Tokens per second of each kind; kinds not measured yet are taken from the others."""

        def measured(kind: Kind) -> float | None:
            return self._tokens[kind] / self._seconds[kind] if self._tokens[kind] else None

        read, document, think = measured("read"), measured("document"), measured("think")
        reading = read or document or (think and think * _THINKING_COST)
        if reading is None:
            return None
        return {
            "read": reading,
            "document": document or reading,
            "think": think or reading / _THINKING_COST,
        }


def in_words(seconds: float) -> str:
    """`40 s`, `7 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _tokens(texts: Sequence[str] | dict[str, str]) -> float:
    """About how many tokens these texts have inside their prompts."""
    return sum((len(text) / _CHARACTERS_PER_TOKEN + _PROMPT_TOKENS for text in texts), 0.0)
