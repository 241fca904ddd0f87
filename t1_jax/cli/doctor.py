"""`t1 doctor`: reports devices, versions, disk space, the cache, and problems with hints."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli.options import AsJson
from t1_jax.cli.output import Output, size_text

if TYPE_CHECKING:
    from t1_jax.cli.diagnostics import Finding, Machine

_STYLES = {"broken": "bold red", "slow": "yellow", "missing": "cyan"}


def doctor(
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure matrix multiplication.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Describe this machine, and report problems with their impact and a hint.

    Exits with code 2 if t1_jax cannot work here.

    Example: t1 doctor --json
    """
    from t1_jax.cli.diagnostics import diagnose, inspect_machine

    out = Output(as_json)
    machine = inspect_machine(measure=measure)
    findings = diagnose(machine)
    _print_machine(out, machine)
    _print_findings(out, findings)
    out.result(**dataclasses.asdict(machine), findings=list(map(dataclasses.asdict, findings)))
    if any(finding.level == "broken" for finding in findings):
        raise typer.Exit(2)


def _print_machine(out: Output, machine: "Machine") -> None:
    cpu, memory = machine.cpu, machine.memory
    bf16 = "unknown" if cpu.bf16 is None else ", ".join(cpu.bf16) or "none"
    rows = [
        ("system", f"{machine.system}, Python {machine.python}"),
        (
            "processor",
            f"{cpu.name}: {cpu.usable_cores} of {cpu.total_cores} cores, bfloat16: {bf16}",
        ),
    ]
    if memory.total is not None and memory.free is not None:
        rows.append(("memory", f"{size_text(memory.free)} free of {size_text(memory.total)}"))
    rows.append(("disk", f"{size_text(machine.disk_free)} free for {machine.cache}"))
    for device in machine.devices:
        memory_text = "" if device.memory is None else f", {size_text(device.memory)}"
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in device.gflops.items())
        measured = f"; matrix multiplication in GFLOP/s: {rates}" if rates else ""
        rows.append(("device", f"{device.platform}: {device.kind}{memory_text}{measured}"))
    versions = machine.versions.items()
    rows.append(
        ("packages", ", ".join(f"{name} {version}" for name, version in versions if version))
    )
    rows.append(("compile cache", machine.compilation_cache or "off"))
    cached = [f"{name} {size_text(used)}" for name, used in machine.cache_bytes.items()]
    rows.append(("cached", "\n".join(cached) or "nothing yet: t1 pull --all"))
    out.table(("component", "this machine"), rows)


def _print_findings(out: Output, findings: "list[Finding]") -> None:
    if not findings:
        out.print("No problems found.", style="green")
    for finding in findings:
        out.print(f"{finding.level}: {finding.problem}", style=_STYLES[finding.level])
        out.print(f"  impact: {finding.impact}")
        if finding.hint:
            out.print(f"  hint: {finding.hint}")
