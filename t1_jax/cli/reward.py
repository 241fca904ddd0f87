"""`t1 reward try`: shows what a reward would pay for thoughts that a model samples."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError

if TYPE_CHECKING:
    from t1_jax.train.data import TrainingSet
    from t1_jax.train.rewards import RewardTrial

_DOCUMENTS = 100
"""Documents that are ranked: those of the queries, and others."""


def try_reward(
    rewards: Annotated[
        list[str],
        typer.Argument(
            metavar="REWARD...",
            help="module:function of a file in the current folder, or a built-in name such as gap.",
        ),
    ],
    model: options.Model = options.DEFAULT_MODEL,
    collection: Annotated[
        str | None,
        typer.Option("--collection", "-c", help="Queries of cwe, ruff or a folder."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Queries of a file of pairs, as in `t1 train --data`."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split of the collection.")] = "train",
    queries: Annotated[int, typer.Option("--queries", min=1, help="Number of queries.")] = 4,
    n: Annotated[int, typer.Option("--n", "-n", min=2, help="Thoughts per query.")] = 4,
    max_thought_tokens: Annotated[
        int, typer.Option("--max-thought-tokens", min=1, help="Maximum tokens of a thought.")
    ] = 24,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Sampling temperature; training uses 1.")
    ] = 1.0,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Show what rewards would pay: sample thoughts, rank documents, print each thought's rewards.

    The queries are a few general questions, or those of a collection or of a file of pairs. In
    GRPO a thought becomes more likely if its reward is above the mean of its query.

    Example: t1 reward try my_rewards:short
    """
    from t1_jax.cli.inputs import import_beside
    from t1_jax.generate import SamplingParams
    from t1_jax.retriever import load_model, open_model
    from t1_jax.train.rewards import RewardConfig, dry_run_rewards, try_rewards

    out = Output(as_json)
    import_beside(None)
    defaults = dict.fromkeys(RewardConfig().terms, 0.0)
    config = RewardConfig(terms={**defaults, **dict.fromkeys(rewards, 1.0)})
    chosen = _data(out, collection, data, split, queries)
    dry_run_rewards(
        chosen.records, config, num_generations=n, max_thought_tokens=max_thought_tokens
    )
    opened = open_model(model)
    sampling = SamplingParams(temperature=temperature, seed=seed)
    opened.check_queries(
        [record.query for record in chosen.records],
        task=chosen.task,
        n=n,
        max_thought_tokens=max_thought_tokens,
        sampling=sampling,
    )
    trial = try_rewards(
        load_model(out, opened),
        chosen,
        config,
        num_generations=n,
        max_thought_tokens=max_thought_tokens,
        sampling=sampling,
    )
    _print_trial(out, trial, len(chosen.documents))


def _data(
    out: Output, collection: str | None, data: Path | None, split: str, queries: int
) -> "TrainingSet":
    """Some queries with their documents and others."""
    from t1_jax.cli.training_records import load_training_set
    from t1_jax.files import RESOURCES
    from t1_jax.train.data import TrainingSet, read_pairs
    from t1_jax.train.rewards import trial_data

    if collection is not None and data is not None:
        raise ConfigError("give a collection or a file of pairs, not both")
    if collection is not None:
        known = load_training_set(out, collection, split, None, lenient=False)
    else:
        pairs = read_pairs([data or RESOURCES / "sample_pairs.jsonl"])
        known = TrainingSet(
            name="pairs",
            records=pairs.records,
            documents={document.id: document for document in pairs.documents},
        )
    return trial_data(known, queries, _DOCUMENTS)


def _print_trial(out: Output, trial: "RewardTrial", documents: int) -> None:
    """A table for each query, best reward first, and how much the rewards differ."""
    terms, total = trial.rewards.terms, trial.rewards.total
    several = len(terms) > 1
    rows_of = []
    for p, record in enumerate(trial.records):
        order = sorted(range(total.shape[1]), key=lambda g: -total[p, g])
        rows_of.append(order)
        out.table(
            (*(["sum>"] if several else []), *(f"{name.rpartition(':')[2]}>" for name in terms),
             "advantage>", f"rank of {documents}>", "thought"),
            [
                (
                    *([f"{total[p, g]:.3f}"] if several else []),
                    *(f"{values[p, g]:.3f}" for values in terms.values()),
                    f"{total[p, g] - total[p].mean():+.3f}",
                    str(trial.best_ranks[p, g]),
                    " ".join(trial.thoughts[p][g].text.split()) or "(empty)",
                )
                for g in order
            ],
            title=record.query,
        )  # fmt: skip
    spread = float(total.std(axis=1).mean())
    out.print(
        f"mean reward {total.mean():.3f}; standard deviation among the thoughts of a query "
        f"{spread:.3f}"
    )
    if spread == 0:
        out.warn("the thoughts of each query are paid the same, so GRPO would learn nothing")
    out.result(
        queries=[
            {
                "query": record.query,
                "thoughts": [
                    {
                        "thought": trial.thoughts[p][g].text,
                        "reward": total[p, g],
                        "terms": {name: values[p, g] for name, values in terms.items()},
                        "rank": trial.best_ranks[p, g],
                    }
                    for g in rows_of[p]
                ],
            }
            for p, record in enumerate(trial.records)
        ],
        mean=total.mean(),
        spread=spread,
    )
