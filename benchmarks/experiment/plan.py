"""The plan of the experiment: systems, collections, measurements, comparisons."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from t1_jax.config import load_config, suggestion
from t1_jax.errors import ConfigError
from t1_jax.evaluate import ControlName

Kind = Literal["t1", "no-thought", "run", "bm25"]
Measurement = Literal["controls", "samples", "budgets", "cost"]

PLAN = Path("configs/experiment/measure.yaml")
"""The plan of docs/experiment.md."""

RESULTS = Path("docs/experiment/results")
"""The folder of its results."""

MAIN_ROW: dict[Kind, str] = {"t1": "own", "no-thought": "no-think", "run": "run", "bm25": "run"}
"""The row that represents a system of each kind."""

_CAN_MEASURE: dict[Kind, tuple[Measurement, ...]] = {
    "t1": ("controls", "samples", "budgets", "cost"),
    "no-thought": ("controls", "cost"),
    "run": ("controls",),
    "bm25": ("controls",),
}


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """One retriever of the experiment.

    Attributes:
        label: name in tables.
        kind: `t1` thinks; `no-thought` was trained and is evaluated without thoughts; `run` is a
            run file of another retriever; `bm25` is the lexical baseline.
        path: weights for `T1.load`, or the folder of a `t1 train` run, whose last stage is taken;
            for `run` the folder with `<collection>.trec`.
        measurements: what to measure; `controls` gives the rankings.
        controls: sources of thoughts; a `no-thought` system only has `no-think`.
        against: name of the system that this one is an ablation of.
    """

    label: str
    kind: Kind
    path: Path | None = None
    measurements: tuple[Measurement, ...] = ("controls",)
    controls: tuple[ControlName, ...] = ("own", "no-think", "empty", "random", "repeated", "gold")
    against: str | None = None

    def __post_init__(self) -> None:
        if self.kind != "bm25" and self.path is None:
            raise ConfigError(f"{self.label}: a system of kind {self.kind} needs a path")
        possible = _CAN_MEASURE[self.kind]
        if impossible := [name for name in self.measurements if name not in possible]:
            raise ConfigError(
                f"{self.label}: a system of kind {self.kind} has no measurement {impossible[0]}",
                hint=f"use {', '.join(possible)}",
            )

    @property
    def main_row(self) -> str:
        """The row that represents the system."""
        return MAIN_ROW[self.kind]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A difference to report, first minus second.

    Attributes:
        label: name in the table.
        first: a system, or `system/row` for another row than its main row, as `t1-s3/no-think`.
        second: as `first`.
    """

    label: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is measured and reported.

    Attributes:
        systems: systems by name, in the order of the tables.
        comparisons: comparisons by name, in the order of the table.
        reference: the system in the tables of cost, samples and budgets.
        only: systems to measure now; empty means all.
        collections: collections to measure on.
        split: split of their queries.
        max_thought_tokens: maximum tokens of a thought.
        budgets: further maximum lengths for the curve, which starts at the empty thought.
        samples: numbers of thoughts per query that are sampled and averaged.
        temperature: sampling temperature of those thoughts.
        query_tokens: maximum tokens of a query prompt.
        document_tokens: maximum tokens of a document.
        dtype: compute dtype.
        max_rows: maximum number of thoughts in one decoding batch.
        max_queries: number of queries per collection, for a quick look; 0 takes all.
        cost_queries: number of queries to time.
        cost_documents: number of documents to time.
        cost_rounds: timed rounds after one warm-up round; the median is reported.
        results: folder of the results.
        vectors: folder of cached document embeddings.
        remeasure: whether to measure again what is already measured.
    """

    systems: dict[str, SystemConfig] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    reference: str = ""
    only: tuple[str, ...] = ()
    collections: tuple[str, ...] = ("cwe", "ruff")
    split: str = "test"
    max_thought_tokens: int = 32
    budgets: tuple[int, ...] = (4, 8, 16, 32)
    samples: tuple[int, ...] = (1, 3, 8)
    temperature: float = 0.7
    query_tokens: int = 1024
    document_tokens: int = 2048
    dtype: str = "bfloat16"
    max_rows: int = 64
    max_queries: int = 0
    cost_queries: int = 64
    cost_documents: int = 128
    cost_rounds: int = 2
    results: Path = RESULTS
    vectors: Path = Path("runs/experiment/vectors")
    remeasure: bool = False

    def __post_init__(self) -> None:
        for name in self.systems:
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
                raise ConfigError(
                    f"{name!r} cannot name a system",
                    hint="use lower-case letters, digits and hyphens: it becomes a file name",
                )
        named = [*self.only, *([self.reference] if self.reference else [])]
        named += [system.against for system in self.systems.values() if system.against]
        for comparison in self.comparisons.values():
            named += [side.split("/")[0] for side in (comparison.first, comparison.second)]
        for name in named:
            if name not in self.systems:
                raise ConfigError(
                    f"the plan has no system {name!r}", hint=suggestion(name, self.systems)
                )
        for name in ("cost_queries", "cost_documents", "cost_rounds"):
            if self.__dict__[name] < 1:
                raise ConfigError(f"{name} must be at least 1, got {self.__dict__[name]}")
        if self.max_queries and self.results == RESULTS:
            raise ConfigError(
                f"results of {self.max_queries} queries would replace the full ones in {RESULTS}",
                hint="add results=runs/look, or another folder",
            )
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}")

    @property
    def chosen(self) -> dict[str, SystemConfig]:
        """The systems to measure now."""
        return {
            name: system
            for name, system in self.systems.items()
            if not self.only or name in self.only
        }

    def row_of(self, side: str) -> tuple[str, str]:
        """System and row of one side of a comparison."""
        name, _, row = side.partition("/")
        return name, row or self.systems[name].main_row


def load_plan(path: Path = PLAN, overrides: tuple[str, ...] = ()) -> Plan:
    """The plan in a YAML file, with overrides.

    Raises:
        ConfigError: see `load_config`.
    """
    return load_config(Plan, path, overrides)
