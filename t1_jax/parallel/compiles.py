"""Counting what XLA compiles: the cheapest way to notice shapes that should have been bucketed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


@dataclass
class Compilations:
    """Programs compiled so far.

    Attributes:
        of: how many programs of each function, by its name.
        seconds: how long XLA took for them in all.
    """

    of: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """Programs of all functions."""
        return self.of.total()


@contextmanager
def count_compilations() -> Iterator[Compilations]:
    """Counts the programs that XLA compiles inside the block; cached ones are not compiled."""
    found = Compilations()

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == _EVENT:
            name = str(details.get("fun_name", "unnamed"))
            found.of[name.removeprefix("jit(").removesuffix(")")] += 1
            found.seconds += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
