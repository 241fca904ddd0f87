"""A misspelt name is answered with the closest right one."""

import pytest

from t1_jax.config import suggestion


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("optimser.rate", "did you mean 'optimizer.rate'?"),
        ("rates", "did you mean 'optimizer.rate'?"),
        ("qqq", "choose one of: optimizer.rate, steps"),
    ],
)
def test_suggestion(name: str, answer: str) -> None:
    assert suggestion(name, ["steps", "optimizer.rate"]) == answer


def test_an_unrelated_word_gets_the_whole_list() -> None:
    assert suggestion("auto_map", ["top_p", "n"]) == "choose one of: n, top_p"


def test_of_many_keys_only_the_first_parts_are_listed():
    known = [f"{group}.{number}" for group in ("data", "mesh") for number in range(30)]
    assert suggestion("zzz", known) == "choose one of: data, mesh"
