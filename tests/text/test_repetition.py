"""The repetition of texts that loop, and of texts that do not."""

import pytest

from t1_jax.text.repetition import REPETITIVE, repetition


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("one two three", 0.0),
        ("a b c d e f g", 0.0),
        ("a b c d a b c d", 1 / 5),  # abcd bcda cdab dabc abcd
        ("no no no no no no no no", 4 / 5),
        ("No, no; NO no. no", 1 / 2),
        ("天青" * 4, 3 / 5),  # characters of a script without spaces
        ("über über über über über", 1 / 2),
    ],
)
def test_the_fraction_of_repeated_four_grams(text: str, expected: float) -> None:
    assert repetition(text) == pytest.approx(expected)


def test_prose_stays_below_the_threshold_and_a_loop_above() -> None:
    prose = (
        "A relevant document describes a buffer that is written past its end. It names the "
        "missing check of the length, and the memory that the attacker can then overwrite."
    )
    assert repetition(prose) < REPETITIVE / 4
    assert repetition("The document should be about the document. " * 6) > REPETITIVE
