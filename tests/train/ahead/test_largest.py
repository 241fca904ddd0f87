"""The search for the largest value that fits, with a compiler whose figures are known."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from t1_jax.train.ahead import largest
from t1_jax.train.ahead.largest import Largest, find_largest

MEMORY = 1000


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Largest]:
    """A search where a value needs memory as a function says."""

    def with_peaks(peak_of: Callable[[int], int], start: int, step: int) -> Largest:
        @dataclass
        class Compiler:
            shape: Any
            topology: Any
            log: Any

            def run(self, value: int) -> list[SimpleNamespace]:
                return [SimpleNamespace(peak=peak_of(value))]

        monkeypatch.setattr(largest, "StageCompiler", Compiler)
        topology: Any = SimpleNamespace(chip=SimpleNamespace(memory=MEMORY))
        same: Any = lambda value: value  # noqa: E731
        shape: Any = None
        # The inner function, as the arguments here are no configs.
        return getattr(find_largest, "__wrapped__", find_largest)(
            same, start, step, shape, topology
        )

    return with_peaks


@pytest.mark.parametrize(
    ("peak_of", "start", "step"),
    [
        (lambda value: 100 + 7 * value, 8, 8),
        (lambda value: 100 + 7 * value, 512, 8),
        (lambda value: 500 + value * value // 100, 16, 4),
        (lambda value: 300 + 50 * (value // 16), 16, 16),
        (lambda value: 984 + value, 16, 8),
    ],
)
def test_the_largest_value_is_found_to_an_eighth_in_few_trials(
    search: Callable[..., Largest], peak_of: Callable[[int], int], start: int, step: int
) -> None:
    found = search(peak_of, start, step)
    assert found.value is not None
    assert found.value % step == 0
    assert found.peak == peak_of(found.value) <= MEMORY
    assert peak_of(found.value + max(step, found.value // 8)) > MEMORY
    assert len(found.tried) <= 6


def test_nothing_fits(search: Callable[..., Largest]) -> None:
    found = search(lambda value: 2000 + value, 64, 16)
    assert (found.value, found.peak) == (None, None)
    assert 16 in found.tried
