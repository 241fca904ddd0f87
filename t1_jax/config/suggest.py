"""The hint for a misspelt name: the closest right one."""

from collections.abc import Iterable
from difflib import SequenceMatcher


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to write instead of `name`: the closest of `known`, or the whole list if none is close.

    A dotted key is compared as a whole and by its last part, so that `rate` finds `optimizer.rate`.
    """

    def likeness(option: str) -> tuple[float, float]:
        last, whole = option.rpartition(".")[2], option
        return _ratio(name.rpartition(".")[2], last), _ratio(name, whole)

    options = sorted(known)
    best = max(options, key=lambda option: sum(likeness(option)))
    if max(likeness(best)) >= 0.65:
        return f"did you mean {best!r}?"
    return "choose one of: " + ", ".join(options)


def _ratio(a: str, b: str) -> float:
    """How alike two words are, from 0 to 1."""
    return SequenceMatcher(None, a, b).ratio()
