"""The largest value of a setting with which a stage fits: the compiler is asked, value by value."""

from collections.abc import Callable
from dataclasses import dataclass

from t1_jax.model import DecoderConfig
from t1_jax.parallel import Topology
from t1_jax.train.ahead.report import StageCompiler
from t1_jax.train.config import TrainConfig

_TRIALS = 12


@dataclass(frozen=True, kw_only=True)
class Largest:
    """What was found.

    Attributes:
        value: the largest value that fits, up to an eighth of it; None if none does.
        peak: bytes in memory of a chip with it.
        tried: value -> bytes in memory, in the order of trial.
    """

    value: int | None
    peak: int | None
    tried: dict[int, int]


def find_largest(
    config_with: Callable[[int], TrainConfig],
    start: int,
    step: int,
    shape: DecoderConfig,
    topology: Topology,
    *,
    log: Callable[[str], None] = lambda line: None,
) -> Largest:
    """The largest multiple of `step` with which the config's stages fit a chip.

    Memory grows almost linearly, so each trial is where the line through two earlier ones
    meets the memory of a chip, within what is known to fit and not to fit.

    Args:
        config_with: the config with this value of the setting.
        start: the first value tried, rounded to such a multiple.
        step: what values must be a multiple of.
        shape: of the model.
        topology: the devices.
        log: told what is compiled.

    Raises:
        ConfigError, UnsupportedError: as `compile_run`.
    """
    compiler = StageCompiler(shape, topology, log)
    memory = topology.chip.memory
    tried: dict[int, int] = {}

    def peak_of(value: int) -> int:
        if value not in tried:
            log(f"trying {value}")
            tried[value] = max(report.peak for report in compiler.run(config_with(value)))
        return tried[value]

    peak_of(max(start // step, 1) * step)
    low, high = _limits(tried, memory)
    for _ in range(_TRIALS):
        if high is not None and high - low <= max(step, low // 8):
            break
        peak_of(_next_trial(tried, memory, step))
        low, high = _limits(tried, memory)
    return Largest(value=low or None, peak=tried.get(low), tried=tried)


def _limits(tried: dict[int, int], memory: int) -> tuple[int, int | None]:
    """The largest value that fits, 0 for none, and the smallest that does not."""
    fitting = [value for value, peak in tried.items() if peak <= memory]
    failing = [value for value, peak in tried.items() if peak > memory]
    return max(fitting, default=0), min(failing, default=None)


def _next_trial(tried: dict[int, int], memory: int, step: int) -> int:
    """Where memory ends by the line through the two values nearest to that, or else beside it."""
    low, high = _limits(tried, memory)
    nearest = sorted(tried, key=lambda value: abs(tried[value] - memory))[:2]
    if len(nearest) < 2:
        guess = 2 * low if low else nearest[0] // 2
    else:
        one, other = nearest
        growth = (tried[other] - tried[one]) / (other - one)
        guess = one + int((memory - tried[one]) / growth) if growth > 0 else 2 * max(tried)
    guess = min(guess // step * step, 8 * max(tried))
    if guess <= low:  # what fits is known; the next value shows that it is the largest
        guess = low + max(step, low // 8 // step * step)
    return guess if high is None else min(guess, high - step)
