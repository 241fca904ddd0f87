"""Counts of XLA compilations, which reveal shapes that are not bucketed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


@dataclass
class Compilations:
    """Compiled programs so far: their number by function name, and total seconds to compile."""

    of: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """Number of programs of all functions."""
        return self.of.total()


@contextmanager
def count_compilations() -> Iterator[Compilations]:
    """Counts the programs that XLA compiles inside the block, without those found in the cache."""
    compilations = Compilations()

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == _EVENT:
            name = str(details.get("fun_name", "unnamed"))
            compilations.of[name.removeprefix("jit(").removesuffix(")")] += 1
            compilations.seconds += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compilations
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
