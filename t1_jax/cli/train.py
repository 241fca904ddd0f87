"""`t1 train`: one stage, or the whole curriculum, from a config."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli.options import AsJson
from t1_jax.cli.output import Output

if TYPE_CHECKING:
    from t1_jax.train import TrainResult

UNFINISHED = 75
"""Exit code of a run that ended early and is saved; EX_TEMPFAIL of sysexits.h: try again later."""


def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A YAML file; configs/ has some to start from.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Fields that differ, for example stages.s3.steps=50."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train T1: reasoning cold start, joint reasoning and contrast, GRPO with a retrieval reward.

    A run that was stopped, by Ctrl-C, SIGTERM or max_minutes, saves, ends with exit code 75, and
    goes on where it stood when the same command is given again. So does a run that a full disk or a
    reward of yours has ended. Nothing is fetched: `t1 pull` the model and the collections first.

    Example: t1 train configs/experiment/t1.yaml output=runs/mine run=[s1,s2]
    """
    from t1_jax.config import load_config
    from t1_jax.parallel import start_multi_host
    from t1_jax.train import TrainConfig
    from t1_jax.train import train as run

    out = Output(as_json)
    resolved = load_config(TrainConfig, config, settings or ())
    start_multi_host()
    result = run(resolved, log=out.note, show_progress=not as_json)
    if _is_first_process():
        _conclude(out, result)
    if result.stopped is not None:
        raise typer.Exit(UNFINISHED)


def _is_first_process() -> bool:
    import jax

    return jax.process_index() == 0


def _conclude(out: Output, result: "TrainResult") -> None:
    if result.stopped is not None:
        out.say(f"stopped after {result.steps} steps: {result.stopped}", style="yellow")
        out.say("the same command goes on from there")
    else:
        out.say(f"{result.steps} steps done; weights of each stage: {result.folder / 'stages'}")
    best = None
    if result.best is not None:
        value, step = result.best
        best = {"ndcg@10": value, "step": step}
        out.say(f"best validation nDCG@10 {value:.4f} at step {step}: {result.folder / 'best'}")
    out.result(
        {
            "output": result.folder,
            "steps": result.steps,
            "stopped": result.stopped,
            "best": best,
            "validations": {name: dict(each) for name, each in result.validations.items()},
        }
    )
