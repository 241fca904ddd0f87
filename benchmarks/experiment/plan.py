"""What the experiment metrics: systems, collections, ways of thinking, comparisons."""

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
"""Where its results lie."""

MAIN_ROW: dict[Kind, str] = {"t1": "own", "no-thought": "no-think", "run": "run", "bm25": "run"}
"""Which of a system's rows stands for it."""

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
        label: in tables.
        kind: `t1` thinks; `no-thought` was trained without a thought and is measured without one;
            `run` was ranked elsewhere; `bm25` needs nothing.
        path: weights as `T1.load` takes them, or the folder of a `t1 train` run, whose last stage
            is then meant; for `run` the folder with `<collection>.trec`.
        measure: `controls` gives the rankings; `samples`, `budgets` and `cost` are further ones.
        controls: where thoughts come from; a `no-thought` system has `no-think` alone.
        against: makes it an ablation, of the system of this name.
    """

    label: str
    kind: Kind
    path: Path | None = None
    measure: tuple[Measurement, ...] = ("controls",)
    controls: tuple[ControlName, ...] = ("own", "no-think", "empty", "random", "repeated", "gold")
    against: str | None = None

    def __post_init__(self) -> None:
        if self.kind != "bm25" and self.path is None:
            raise ConfigError(f"{self.label}: a system of kind {self.kind} needs a path")
        able = _CAN_MEASURE[self.kind]
        if unable := [name for name in self.measure if name not in able]:
            raise ConfigError(
                f"{self.label}: {unable[0]} cannot be measured of a system of kind {self.kind}",
                hint=f"measure {', '.join(able)}",
            )

    @property
    def main_row(self) -> str:
        """The row that stands for the system."""
        return MAIN_ROW[self.kind]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A difference to be told, first minus second.

    Attributes:
        label: in the table.
        first: a system, or `system/row` for another than its main row, such as `t1-s3/no-think`.
        second: likewise.
    """

    label: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is measured and told.

    Attributes:
        systems: by name, in the order of the tables.
        comparisons: by name, likewise.
        reference: the system whose cost, thoughts and budgets are told.
        only: systems to measure now; none means all.
        collections: on which.
        split: of their queries.
        max_thought_tokens: most tokens of a thought.
        budgets: further ones, for the curve; it starts from the empty thought.
        samples: K, thoughts a query that are drawn and averaged.
        temperature: at which those are drawn.
        query_tokens: longest query prompt.
        document_tokens: longest document.
        dtype: computed in.
        max_rows: thoughts in flight at once.
        max_queries: of a collection, for a quick look; 0 takes all.
        cost_queries: queries that are timed.
        cost_documents: documents that are timed.
        cost_rounds: timed rounds after one that warms up; their median counts.
        results: folder of the results.
        vectors: folder in which vectors of documents are kept.
        again: measure also what is there.
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
    again: bool = False

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
                f"some queries only would take the place of all of them in {RESULTS}",
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
