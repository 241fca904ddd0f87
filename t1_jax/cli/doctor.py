"""`t1 doctor`: devices, versions, what is slow here and why, room, and what is cached."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli.options import AsJson
from t1_jax.cli.output import Output

if TYPE_CHECKING:
    from t1_jax.cli.diagnostics import Finding, Machine

_STYLES = {"broken": "bold red", "slow": "yellow", "missing": "cyan"}


def doctor(
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Time a few matrix products.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Say what this machine is, what is slow here and why, and what to do about it.

    Exit code 2 if something does not work here at all.

    Example: t1 doctor --json
    """
    from t1_jax.cli.diagnostics import examine, findings

    out = Output(as_json)
    machine = examine(measure=measure)
    found = findings(machine)
    _show_machine(out, machine)
    _show_findings(out, found)
    out.result(
        {
            **dataclasses.asdict(machine),
            "findings": [dataclasses.asdict(finding) for finding in found],
        }
    )
    if any(finding.level == "broken" for finding in found):
        raise typer.Exit(2)


def _show_machine(out: Output, machine: "Machine") -> None:
    from t1_jax.cli.diagnostics import size

    cpu, memory = machine.cpu, machine.memory
    bf16 = "unknown" if cpu.bf16 is None else ", ".join(cpu.bf16) or "none"
    rows = [
        ("system", f"{machine.system}, Python {machine.python}"),
        ("processor", f"{cpu.name}: {cpu.cores} of {cpu.cores_of_machine} cores, bfloat16: {bf16}"),
    ]
    if memory.total is not None and memory.free is not None:
        rows.append(("memory", f"{size(memory.free)} free of {size(memory.total)}"))
    rows.append(("disk", f"{size(machine.disk_free)} free for {machine.cache}"))
    for device in machine.devices:
        own = "" if device.memory is None else f", {size(device.memory)}"
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in device.gflops.items())
        measured = f"; matrix products in GFLOP/s: {rates}" if rates else ""
        rows.append(("device", f"{device.platform}: {device.kind}{own}{measured}"))
    versions = machine.versions.items()
    rows.append(("packages", ", ".join(f"{name} {found}" for name, found in versions if found)))
    rows.append(("compile cache", machine.compilation_cache or "off"))
    cached = [f"{name} {size(used)}" for name, used in machine.cache_bytes.items()]
    rows.append(("fetched", "\n".join(cached) or "nothing yet: t1 pull --all"))
    out.table(("what", "here"), rows)


def _show_findings(out: Output, found: "list[Finding]") -> None:
    if not found:
        out.say("Nothing is slow, missing or broken here.", style="green")
    for finding in found:
        out.say(f"{finding.level}: {finding.problem}", style=_STYLES[finding.level])
        out.say(f"  impact: {finding.impact}")
        if finding.hint:
            out.say(f"  hint: {finding.hint}")
