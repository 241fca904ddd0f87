"""`t1 train`: one stage, or the whole curriculum, from a config."""

from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli.options import AsJson, config_argument
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.train import TrainResult

UNFINISHED = 75
"""Exit code of a run that stopped early and was saved: EX_TEMPFAIL of sysexits.h, retry later."""


def train(
    arguments: Annotated[
        list[str] | None,
        config_argument(
            "A YAML file (see configs/), and fields to override, as in stages.s3.steps=50."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train T1: reasoning cold start, joint SFT and contrastive training, GRPO.

    A run stopped by Ctrl-C, SIGTERM or max_minutes saves its state and ends with exit code 75. The
    same command resumes it. The same holds after a full disk or an error in a custom reward.
    Nothing is downloaded: `t1 pull` the model and the collections first.

    Example: t1 train configs/experiment/t1.yaml output=runs/mine run=[s1,s2]
    """
    from t1_jax.cli.inputs import read_config
    from t1_jax.parallel import start_multi_host
    from t1_jax.train import TrainConfig
    from t1_jax.train import train as run

    out = Output(as_json)
    if not arguments:
        raise ConfigError("no config was given", hint="t1 train configs/experiment/t1.yaml")
    config = read_config(TrainConfig, arguments)
    start_multi_host()
    result = run(config, log=out.log, show_progress=not as_json)
    if _is_first_process():
        _print_result(out, result)
    if result.stopped is not None:
        raise typer.Exit(UNFINISHED)


def _is_first_process() -> bool:
    import jax

    return jax.process_index() == 0


def _print_result(out: Output, result: "TrainResult") -> None:
    if result.stopped is not None:
        out.warn(f"stopped after {counted(result.steps, 'steps')}: {result.stopped}")
        out.print("run the same command to resume")
    else:
        steps = counted(result.steps, "steps")
        out.print(f"{steps} done; weights of each stage: {result.folder / 'stages'}")
    best = None
    if result.best is not None:
        value, step = result.best
        best = {"ndcg@10": value, "step": step}
        out.print(f"best validation nDCG@10 {value:.4f} at step {step}: {result.folder / 'best'}")
    out.result(
        output=result.folder,
        steps=result.steps,
        stopped=result.stopped,
        best=best,
        validations={name: dict(values) for name, values in result.validations.items()},
    )
