"""Hints for misspelled names."""

from collections.abc import Iterable
from difflib import SequenceMatcher

_MOST_LISTED = 40


def suggestion(name: str, known: Iterable[str]) -> str:
    """A hint with the closest of the known names, or with all of them if none is close.

    Of many dotted keys only the first parts are listed. A dotted key is compared as a whole and by
    its last part, so `rate` finds `optimizer.rate`.
    """

    def similarity(option: str) -> tuple[float, float]:
        last_parts = name.rpartition(".")[2], option.rpartition(".")[2]
        return _ratio(*last_parts), _ratio(name, option)

    options = sorted(known)
    best = max(options, key=lambda option: sum(similarity(option)))
    if max(similarity(best)) >= 0.65:
        return f"did you mean {best!r}?"
    if len(options) > _MOST_LISTED:
        options = sorted({option.partition(".")[0] for option in options})
    return "choose one of: " + ", ".join(options)


def _ratio(a: str, b: str) -> float:
    """Similarity of two words, from 0 to 1."""
    return SequenceMatcher(None, a, b).ratio()
