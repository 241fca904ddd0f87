"""The results as Markdown, between the markers of the page."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from t1_jax.cli.output import size_text

if TYPE_CHECKING:
    from benchmarks.hardware.__main__ import Job

_LARGEST = """\
## What is largest

`t1 compile CONFIG --topology SLICE --largest SETTING` searches the largest value that fits, up to
an eighth of it; all other settings are those of the recipe. Rows are those of a micro-batch over
all chips; `max_rows` are thoughts decoded at once, whatever the size of their groups."""


def document(page: str, jobs: Sequence["Job"], results: Mapping[str, Any]) -> str:
    """The page with its tables made again; what is largest has a section once there are figures."""
    tables = {
        "stages": [*_stages(jobs, results), *_largest(jobs, results)],
        "programs": _programs(jobs, results),
    }
    for name, lines in tables.items():
        block = "\n".join([f"<!-- table:{name} -->", *lines, "<!-- end -->"])
        page = re.sub(
            rf"<!-- table:{name} -->.*?<!-- end -->", lambda _, b=block: b, page, flags=re.S
        )
    return page


def _stages(jobs: Sequence["Job"], results: Mapping[str, Any]) -> list[str]:
    rows = []
    for job in jobs:
        if job.largest or job.name not in results:
            continue
        (stage,) = results[job.name]["stages"]
        state = ", ".join(
            f"{kind} {size_text(size)}" for kind, size in stage["state"].items() if size
        )
        spare = 1 - stage["peak"] / stage["memory"]
        update, rollout = stage["seconds"]
        ratio = stage["sent_over_ideal"]
        rows.append(
            [
                job.recipe,
                job.topology,
                job.stage,
                state,
                f"{size_text(stage['peak'])} of {size_text(stage['memory'])}",
                f"{spare:.0%}" if stage["fits"] else "does not fit",
                f"{stage['tokens']:,}",
                f"{update:.2f} s" + (f" + {rollout:.2f} s" if rollout else ""),
                f"{stage['mfu']:.0%}",
                "" if ratio is None else f"{ratio:.2f}",
            ]
        )
    header = ["recipe", "slice", "stage", "a chip holds", "most in memory", "to spare", "tokens"]
    return _table([*header, "updates + rollout, at least", "MFU, at most", "sent / ideal"], rows)


def _programs(jobs: Sequence["Job"], results: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    header = ["program", "runs", "memory", "temporary", "TFLOP", "sent", "ideal", "ms", "bound"]
    for job in jobs:
        if job.largest or job.name not in results:
            continue
        (stage,) = results[job.name]["stages"]
        lines += ["", f"`t1 compile {' '.join(job.arguments())}`", ""]
        lines += _table(header, map(_program, stage["programs"]))
    return lines[1:]


def _program(program: Mapping[str, Any]) -> list[str]:
    kinds = ("arguments", "outputs", "temporary", "beside")
    return [
        program["name"],
        str(program["runs"] or "as needed"),
        size_text(sum(program[kind] for kind in kinds)),
        size_text(program["temporary"]),
        f"{program['flops'] / 1e12:.2f}",
        size_text(int(sum(each["sent"] for each in program["collectives"]))),
        size_text(int(program["ideal"])),
        "" if program["seconds"] is None else f"{1000 * program['seconds']:.1f}",
        program["bound"],
    ]


def _largest(jobs: Sequence["Job"], results: Mapping[str, Any]) -> list[str]:
    rows = []
    for job in jobs:
        if not job.largest or job.name not in results:
            continue
        found = results[job.name]
        value = found["value"]
        peak = "" if value is None else size_text(found["peak"])
        tried = ", ".join(found["tried"])
        rows.append(
            [
                job.recipe,
                job.topology,
                f"stages.{job.stage}.{job.largest}",
                "none" if value is None else f"{value:,}",
                peak,
                tried,
            ]
        )
    if not rows:
        return []
    header = ["recipe", "slice", "setting", "largest", "most in memory", "tried"]
    return ["", *_LARGEST.splitlines(), "", *_table(header, rows)]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
