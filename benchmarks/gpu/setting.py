"""What a part is told by the runner, through its environment, and how it starts."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.record import Record


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The circumstances of a part.

    Attributes:
        pack: what travelled with the repository.
        work: kept between the parts.
        output: kept after the check.
        seconds: the part's time limit.
        toy: whether this is a rehearsal on a CPU.
    """

    pack: Path
    work: Path
    output: Path
    seconds: float
    toy: bool


def run_part(body: Callable[[Setting, Record], None]) -> None:
    """Runs a part's body, writes its results, and ends the process with its exit code."""
    setting = Setting(
        pack=Path(os.environ["T1_CHECK_PACK"]),
        work=Path(os.environ["T1_CHECK_WORK"]),
        output=Path(os.environ["T1_CHECK_OUTPUT"]),
        seconds=float(os.environ["T1_CHECK_SECONDS"]),
        toy=bool(os.environ.get("T1_CHECK_TOY")),
    )
    record = Record(Path(os.environ["T1_CHECK_RESULT"]))
    body(setting, record)
    sys.exit(record.finish())
