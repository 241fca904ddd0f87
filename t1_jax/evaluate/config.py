"""The config of an evaluation; its results record every value."""

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from t1_jax.errors import ConfigError
from t1_jax.generate import SamplingParams
from t1_jax.retrieval import score_run
from t1_jax.retriever import Verification
from t1_jax.seeds import check_seed

ControlName: TypeAlias = Literal["own", "no-think", "empty", "random", "repeated", "gold"]

HEADLINE = ("nDCG@10", "recall@10")
"""The metrics in the table and the report."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a model is evaluated on a collection.

    Attributes:
        controls: sources of the thoughts, one row of the table each; see `CONTROLS`.
        n: thoughts per query; the query embedding is their normalized mean.
        max_thought_tokens: maximum tokens of a thought.
        sampling: how thoughts are sampled; greedy by default.
        task: name of the instruction in the prompt preset; by default that of a known collection,
            and the general one otherwise.
        instruction: query instruction, instead of the one of a task.
        verify: number of nearest documents that the own thought's ranking has verified in a row of
            its own, see `Verification`; 0 has no such row.
        verify_weight: weight of a verification.
        candidates: number of documents whose titles the thought sees in rows of their own: those
            that the query finds without a thought; 0 has no such rows. One row has the model's own
            thought, and two are its controls. The prompts must show candidates.
        constrained: whether there is a row whose thoughts are titles of documents, by constrained
            decoding over a trie of all titles. It is transductive, and its label says so.
        sentence_ablation: number of queries in the report whose thought is embedded again without
            each of its sentences, which shows what the sentence moved.
        bm25: whether the table starts with BM25.
        bm25qs: whether the table has BM25 as BRIGHT's harness computes it, with a weighted query.
        top_k: length of the rankings, from which all metrics are computed.
        metrics: "nDCG@k", "recall@k", "P@k", "MAP@k", "MAP" or "MRR"; k at most `top_k`.
        index: back end of the search; "numpy" and "jax" are exact. "scann" is approximate, and its
            measured recall is reported.
        max_queries: number of queries to evaluate, sampled with `query_seed`; 0 takes all.
        exclude_same_id: whether a document with the id of the query is removed from its ranking,
            unless it is relevant. Published scores for corpora that hold the queries (BEIR's
            ArguAna) are computed this way.
        query_seed: seed of the sample of queries and of ties between borrowed thoughts.
        bootstrap_samples: number of resamples for intervals and p-values.
        bootstrap_seed: seed of the resamples.

    Raises:
        ConfigError: a value out of range, a repeated control, an unknown metric.
    """

    controls: tuple[ControlName, ...] = ("own", "no-think", "empty", "random", "repeated", "gold")
    n: int = 1
    max_thought_tokens: int = 256
    sampling: SamplingParams = field(default_factory=lambda: SamplingParams(temperature=0.0))
    task: str | None = None
    instruction: str | None = None
    verify: int = 0
    verify_weight: float = Verification.weight
    candidates: int = 0
    constrained: bool = False
    sentence_ablation: int = 0
    bm25: bool = True
    bm25qs: bool = False
    top_k: int = 100
    metrics: tuple[str, ...] = (*HEADLINE, "recall@100", "MRR", "MAP@100")
    index: Literal["numpy", "jax", "scann"] = "numpy"
    exclude_same_id: bool = False
    max_queries: int = 0
    query_seed: int = 0
    bootstrap_samples: int = 10_000
    bootstrap_seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum in (
            ("n", 1),
            ("max_thought_tokens", 1),
            ("top_k", 1),
            ("max_queries", 0),
            ("candidates", 0),
            ("sentence_ablation", 0),
            ("bootstrap_samples", 1),
        ):
            if self.__dict__[name] < minimum:
                raise ConfigError(f"{name} must be at least {minimum}, got {self.__dict__[name]}")
        check_seed(self.query_seed, "query_seed")
        check_seed(self.bootstrap_seed, "bootstrap_seed")
        if self.n > 1 and self.sampling.temperature == 0:
            raise ConfigError(
                f"n={self.n} at temperature 0 samples the same thought {self.n} times",
                hint="set sampling.temperature above 0, or n=1",
            )
        for name in ("controls", "metrics"):
            values = self.__dict__[name]
            if len(set(values)) != len(values):
                raise ConfigError(f"{name} has a duplicate: {', '.join(values)}")
        if self.verify and "own" not in self.controls:
            raise ConfigError(
                "verify reorders the ranking of the control 'own', which is not evaluated",
                hint="add own to controls, or set verify=0",
            )
        if self.verify > self.top_k:
            raise ConfigError(f"verify is {self.verify}, and the rankings have {self.top_k}")
        _ = self.verification  # rejects values out of range
        if self.task is not None and self.instruction is not None:
            raise ConfigError("give a task or an instruction, not both")
        if not self.controls:
            raise ConfigError("controls is empty, so there is nothing to evaluate")
        self._check_metrics()

    @property
    def verification(self) -> Verification | None:
        """How the own thought's ranking is verified; None if it is not."""
        return Verification(k=self.verify, weight=self.verify_weight) if self.verify else None

    def _check_metrics(self) -> None:
        if missing := [metric for metric in HEADLINE if metric not in self.metrics]:
            raise ConfigError(f"metrics must include {', '.join(missing)}, which the table shows")
        score_run({}, {"query": {"document": 1}}, metrics=self.metrics)  # rejects unknown names
        for metric in self.metrics:
            cut = re.search("@([0-9]+)$", metric)
            if cut and int(cut[1]) > self.top_k:
                raise ConfigError(
                    f"{metric} needs rankings of {cut[1]} documents, and top_k is {self.top_k}",
                    hint=f"set top_k to at least {cut[1]}, or remove the metric",
                )
