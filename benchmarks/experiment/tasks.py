"""The measurements of a model, and the settings that their results depend on."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.experiment.plan import Plan, SystemConfig
from benchmarks.experiment.results import METRICS
from t1_jax.evaluate import EvaluationConfig
from t1_jax.generate import SamplingParams


@dataclass(frozen=True, kw_only=True)
class Task:
    """One measurement: its name, and the evaluation; None for timing."""

    name: str
    config: EvaluationConfig | None


def tasks_of(plan: Plan, system: SystemConfig) -> list[Task]:
    """The measurements of a system, in order."""
    base = EvaluationConfig(
        controls=("no-think",) if system.kind == "no-thought" else system.controls,
        max_thought_tokens=plan.max_thought_tokens,
        bm25=False,
        metrics=METRICS,
        max_queries=plan.max_queries,
    )
    own = replace(base, controls=("own",))
    sampling = SamplingParams(temperature=plan.temperature)
    tasks = []
    if "controls" in system.measurements:
        tasks.append(Task(name="controls", config=base))
    if "samples" in system.measurements:
        tasks += [
            Task(name=f"samples-{k}", config=replace(own, n=k, sampling=sampling))
            for k in plan.samples
        ]
    if "budgets" in system.measurements:
        tasks += [
            Task(
                name=f"budget-{max_thought_tokens}",
                config=replace(own, max_thought_tokens=max_thought_tokens),
            )
            for max_thought_tokens in plan.budgets
            if max_thought_tokens
            != plan.max_thought_tokens  # that is the own thought of the controls
        ]
    if "cost" in system.measurements:
        tasks.append(Task(name="cost", config=None))
    return tasks


def settings_of(plan: Plan, task: Task) -> dict[str, Any]:
    """All that a result depends on besides model and data."""
    general = {
        "query_tokens": plan.query_tokens,
        "document_tokens": plan.document_tokens,
        "dtype": plan.dtype,
    }
    if task.config is not None:
        fields = asdict(task.config)
        del fields["bootstrap_samples"], fields["bootstrap_seed"]
        return general | fields
    return general | {
        "max_thought_tokens": plan.max_thought_tokens,
        "samples": plan.samples,
        "temperature": plan.temperature,
        "max_rows": plan.max_rows,
        "cost_queries": plan.cost_queries,
        "cost_documents": plan.cost_documents,
        "cost_rounds": plan.cost_rounds,
    }
