"""A misspelt name is answered with the closest right one."""

import pytest

from t1_jax.config import suggestion


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("optimser.rate", "did you mean 'optimiser.rate'?"),
        ("rates", "did you mean 'optimiser.rate'?"),
        ("qqq", "choose one of: optimiser.rate, steps"),
    ],
)
def test_suggestion(name: str, answer: str) -> None:
    assert suggestion(name, ["steps", "optimiser.rate"]) == answer
