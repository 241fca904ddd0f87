"""What an evaluation may be told; its result names every value."""

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from t1_jax.errors import ConfigError
from t1_jax.generate import SamplingParams
from t1_jax.retrieval import score_run
from t1_jax.seeds import check_seed

ControlName: TypeAlias = Literal["own", "no-think", "empty", "random", "repeated", "gold"]

HEADLINE = ("nDCG@10", "recall@10")
"""The measures of the table and the report."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a model is evaluated on a collection.

    Attributes:
        controls: where the thoughts come from, one row of the table each; see `CONTROLS`.
        n: thoughts per query; the query's vector is their normalized mean.
        max_thought_tokens: most tokens of a thought.
        sampling: how thoughts are drawn; the default takes the most likely token each time.
        task: name of the instruction in the prompt preset; by default that of a collection known by
            name, and the general one for any other.
        instruction: the instruction itself, in place of a task's.
        bm25: whether BM25 is the table's first row.
        top_k: length of the rankings, from which all measures are computed.
        metrics: "nDCG@k", "recall@k", "P@k", "MAP@k", "MAP" or "MRR"; k at most `top_k`.
        index: back end that searches; "numpy" and "jax" are exact, "scann" is not, and its
            measured recall is reported.
        max_queries: queries to evaluate, drawn by `query_seed`; 0 takes all.
        exclude_same_id: whether a document with the query's own id is taken out of its ranking,
            unless it is judged relevant. For corpora that hold the queries (BEIR's ArguAna), whose
            published scores are computed so.
        query_seed: which queries, where `max_queries` cuts them.
        bootstrap_samples: resamples behind every interval and p-value.
        bootstrap_seed: of the resamples.

    Raises:
        ConfigError: a value out of range, a control twice, an unknown measure.
    """

    controls: tuple[ControlName, ...] = ("own", "no-think", "empty", "random", "repeated", "gold")
    n: int = 1
    max_thought_tokens: int = 256
    sampling: SamplingParams = field(default_factory=lambda: SamplingParams(temperature=0.0))
    task: str | None = None
    instruction: str | None = None
    bm25: bool = True
    top_k: int = 100
    metrics: tuple[str, ...] = (*HEADLINE, "recall@100", "MRR", "MAP@100")
    index: Literal["numpy", "jax", "scann"] = "numpy"
    exclude_same_id: bool = False
    max_queries: int = 0
    query_seed: int = 0
    bootstrap_samples: int = 10_000
    bootstrap_seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("n", 1),
            ("max_thought_tokens", 1),
            ("top_k", 1),
            ("max_queries", 0),
            ("bootstrap_samples", 1),
        ):
            if self.__dict__[name] < least:
                raise ConfigError(f"{name} must be at least {least}, got {self.__dict__[name]}")
        check_seed(self.query_seed, "query_seed")
        check_seed(self.bootstrap_seed, "bootstrap_seed")
        if self.n > 1 and self.sampling.temperature == 0:
            raise ConfigError(
                f"n={self.n} at temperature 0 draws the same thought each time",
                hint="set sampling.temperature above 0, or n=1",
            )
        for name in ("controls", "metrics"):
            values = self.__dict__[name]
            if len(set(values)) != len(values):
                raise ConfigError(f"{name} names something twice: {', '.join(values)}")
        if self.task is not None and self.instruction is not None:
            raise ConfigError("give a task or an instruction, not both")
        if not self.controls:
            raise ConfigError("controls is empty, so there is nothing to evaluate")
        self._check_measures()

    def _check_measures(self) -> None:
        if missing := [measure for measure in HEADLINE if measure not in self.metrics]:
            raise ConfigError(f"measures must hold {', '.join(missing)}, which the table shows")
        score_run({}, {"query": {"document": 1}}, metrics=self.metrics)  # refuses unknown names
        for measure in self.metrics:
            cut = re.search("@([0-9]+)$", measure)
            if cut and int(cut[1]) > self.top_k:
                raise ConfigError(
                    f"{measure} cannot be read off rankings of {self.top_k} documents",
                    hint=f"set top_k to at least {cut[1]}, or leave the measure out",
                )
