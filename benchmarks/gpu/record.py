"""What a part finds, written to its result file row by row, so that a killed part loses nothing."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Record:
    """The results of one part.

    A row is a measurement, a check with its tolerance, or a note on what was not done.

    Args:
        path: of the JSON file, replaced atomically after every row.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, Any]] = []
        self._facts: dict[str, Any] = {}
        self._start = time.monotonic()
        self._write(finished=False)

    @property
    def failed(self) -> list[str]:
        """Names of checks that did not hold."""
        return [row["name"] for row in self._rows if row.get("passed") is False]

    def fact(self, name: str, value: Any) -> None:
        """Something about the machine or the run."""
        self._facts[name] = value
        self._write(finished=False)

    def check(
        self, name: str, found: float, allowed: float, *, at_least: bool = False, note: str = ""
    ) -> None:
        """A value against its bound: at most `allowed`, or `at_least` so much. NaN never passes."""
        passed = found >= allowed if at_least else found <= allowed
        self._add(
            {
                "name": name,
                "found": float(found),
                "bound": f"{'≥' if at_least else '≤'} {allowed:g}",
                "passed": bool(passed),
                "note": note,
            }
        )

    def measure(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        share: float | None = None,
        of: str = "",
        note: str = "",
    ) -> None:
        """A speed, and its share of the roofline where the card's ceiling is known.

        Args:
            name: what was measured, sizes included.
            value: in `unit`.
            unit: for example `tokens/s`.
            share: from 0 to 1; None where the ceiling is unknown.
            of: which ceiling: `peak FLOP/s` or `memory bandwidth`.
            note: anything a reader of the table should know.
        """
        row = {"name": name, "value": float(value), "unit": unit, "note": note}
        if of:
            row |= {"share": None if share is None else float(share), "of": of}
        self._add(row)

    def skip(self, name: str, why: str) -> None:
        """What was not done, and why."""
        self._add({"name": name, "skipped": why})

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """A case whose failure is recorded and does not end the part."""
        try:
            yield
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0][:400]
            self._add({"name": name, "error": text, "passed": False})

    def finish(self) -> int:
        """Writes the end; returns the exit code: 1 if a check failed."""
        self._write(finished=True)
        return 1 if self.failed else 0

    def _add(self, row: dict[str, Any]) -> None:
        row["at_s"] = round(time.monotonic() - self._start, 1)
        self._rows.append(row)
        print(json.dumps(row, ensure_ascii=False), flush=True)
        self._write(finished=False)

    def _write(self, *, finished: bool) -> None:
        content = {
            "finished": finished,
            "seconds": round(time.monotonic() - self._start, 1),
            "facts": self._facts,
            "rows": self._rows,
        }
        scratch = self._path.with_suffix(".tmp")
        scratch.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(scratch, self._path)
