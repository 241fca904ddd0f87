"""`t1 compile`: the programs of a training run for a slice or host that is not here."""

import contextlib
import re
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli.options import AsJson, config_argument
from t1_jax.cli.output import Output, size_text
from t1_jax.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from t1_jax.model import DecoderConfig
    from t1_jax.parallel import Topology
    from t1_jax.train import TrainConfig
    from t1_jax.train.ahead import ProgramReport, StageReport


COLUMNS = [
    *("program", "runs>", "memory>", "temporary>", "TFLOP>", "sent>", "ideal>", "ms>", "bound"),
]
_STEPS = {"max_thought_tokens": 64}
"""What the values of a setting are multiples of in a search; rows divide over the devices."""


def compile_config(
    arguments: Annotated[
        list[str] | None,
        config_argument("A YAML file of `t1 train`, and fields to override, as in mesh.fsdp=8."),
    ] = None,
    topology: Annotated[
        str,
        typer.Option(
            "--topology",
            help="v5e-8 to v5e-256, v6e-8 to v6e-256, v5p-8 to v5p-128, h100-8, h200-8, or cpu-8.",
        ),
    ] = "v5e-8",
    largest: Annotated[
        str | None,
        typer.Option(
            "--largest",
            metavar="SETTING",
            help="Search the largest value that fits, as in stages.s1.micro_batch.rows.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compile a training run for chips that are not here, and say whether it fits.

    For each stage that runs it compiles the update, sampling and encoding at the largest lengths of
    the config, with the compiler of the chips, and prints memory by kind, what the chips send each
    other, and the time that their speed allows. GPU code is made by the compiler for CPUs: the
    state is exact, temporary memory a guess. Weights are not needed.

    TPUs need the package libtpu. A large model takes minutes. The exit code is 1 if a stage does
    not fit. `--largest` compiles the setting's stage with one value after the other instead.

    Example: t1 compile configs/untested/qwen3-0.6b.yaml --topology v5e-8
    """
    from t1_jax.cli.inputs import read_config
    from t1_jax.parallel import find_topology
    from t1_jax.train import TrainConfig

    out = Output(as_json)
    target = find_topology(topology)
    config = read_config(TrainConfig, arguments)
    shape = _shape(config.model.path)
    import jax

    # No accelerator of this machine is used. JAX has started already only where a program calls
    # this function; then it has the devices that it has.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_platforms", "cpu")
        if target.chip.platform == "tpu":
            jax.config.update("jax_enable_compilation_cache", False)  # nothing here could load them
        else:
            jax.config.update("jax_num_cpu_devices", target.num_devices)
    from t1_jax.train.ahead import compile_run

    if largest is not None:
        _search(out, largest, arguments or [], config, shape, target)
        return
    reports = []
    for report in compile_run(config, shape, target, log=out.log):
        reports.append(report)
        _print(out, report)
    out.result(
        topology=target.name, chips=target.num_devices, stages=[each.as_json() for each in reports]
    )
    if not all(report.fits for report in reports):
        raise typer.Exit(1)


def _search(
    out: Output,
    setting: str,
    arguments: list[str],
    config: "TrainConfig",
    shape: "DecoderConfig",
    target: "Topology",
) -> None:
    """Searches the largest value of a number in a stage."""
    from t1_jax.cli.inputs import read_config
    from t1_jax.train import TrainConfig
    from t1_jax.train.ahead import find_largest

    match = re.fullmatch(r"stages\.(\w+)\.(\w+)\.(\w+)", setting)
    stage = config.stages.get(match[1]) if match else None
    value = getattr(getattr(stage, match[2], None), match[3], None) if match else None
    if match is None or type(value) is not int:
        raise ConfigError(
            f"--largest {setting}: not a number of a stage of this config",
            hint="for example --largest stages.s1.micro_batch.rows, "
            "stages.s3.rollout.max_thought_tokens or stages.s3.rollout.max_rows",
        )
    fields = [f"run=[{match[1]}]"]
    step = _STEPS.get(match[3], 1)
    if match[3] in ("rows", "max_rows"):
        mesh = config.mesh
        step = target.num_devices // mesh.tensor
    if match[3] == "max_rows":
        assert stage is not None
        step *= stage.rollout.num_generations
    if match[3] == "rows":  # which also limits the tokens of a micro-batch
        fields.append(f"stages.{match[1]}.micro_batch.tokens={2**31 - 1}")
    found = find_largest(
        lambda value: read_config(TrainConfig, [*arguments, *fields, f"{setting}={value}"]),
        value,
        step,
        shape,
        target,
        log=out.log,
    )
    memory = size_text(target.chip.memory)
    if found.value is None or found.peak is None:
        out.print(f"{setting}: no value fits {target.name}, {memory} a chip", style="red")
    else:
        peak = size_text(found.peak)
        out.print(f"{setting}: up to {found.value} fits {target.name}, {peak} of {memory} a chip")
    out.result(
        topology=target.name,
        setting=setting,
        value=found.value,
        peak=found.peak,
        memory=target.chip.memory,
        tried=found.tried,
    )
    if found.value is None:
        raise typer.Exit(1)


def _shape(path: str) -> "DecoderConfig":
    """The shape of a model: of its checkpoint if that is here, otherwise a known one."""
    from t1_jax.hub import is_adapter, known_shape, locate_model, open_checkpoint, read_adapter
    from t1_jax.retriever import open_base

    try:
        folder = locate_model(path)
        is_base = not is_adapter(folder)
        return (open_checkpoint(folder) if is_base else open_base(read_adapter(folder))).config
    except WeightsError:
        if (shape := known_shape(path)) is not None:
            return shape
        raise


def _print(out: Output, report: "StageReport") -> None:
    chip, state = report.topology.chip, report.state
    out.print(
        f"stage {report.name} on {report.topology.name} ({report.topology.num_devices} chips)"
    )
    kinds = ", ".join(f"{kind} {size_text(size)}" for kind, size in state.items() if size)
    out.print(f"  each chip holds: {kinds}")
    out.table(
        COLUMNS,
        [_row(program) for program in report.programs],
    )
    if report.seconds is not None and report.mfu is not None:
        update, rollout = report.seconds
        text = f"  a step of {report.tokens:,} tokens: updates at least {update:.2f} s"
        text += f" (MFU at most {report.mfu:.0%})"
        out.print(text + (f", rollout at least {rollout:.2f} s" if rollout else ""))
    if report.sent_over_ideal is not None:
        out.print(f"  sent in the updates: {report.sent_over_ideal:.2f} of what weights alone make")
    used = f"{size_text(report.peak)} of {size_text(chip.memory)}"
    if report.fits:
        spare = 1 - report.peak / chip.memory
        out.print(f"  fits: {used} a chip, {spare:.0%} to spare", style="green")
    else:
        out.print(f"  does not fit: {used} a chip", style="red")
        out.print(f"  hint: {report.hint}")


def _row(program: "ProgramReport") -> tuple[str, ...]:
    return (
        program.name,
        str(program.runs) if program.runs else "as needed",
        size_text(program.peak),
        size_text(program.temporary),
        f"{program.flops / 1e12:.2f}",
        size_text(int(program.sent)),
        size_text(int(program.ideal)),
        "" if program.seconds is None else f"{1000 * program.seconds:.1f}",
        program.bound,
    )
