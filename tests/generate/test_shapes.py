from typing import Any

import pytest

from t1_jax.errors import ConfigError
from t1_jax.generate.shapes import BatchShapes, shrunk, smallest_fit


def test_ladders_descend_to_one_and_respect_the_devices():
    shapes = BatchShapes(max_rows=32, batch_divisor=4)
    assert shapes.prompt_sizes(1) == (32, 16, 8, 4)
    assert shapes.prompt_sizes(8) == (4,)
    assert BatchShapes(max_rows=24).prompt_sizes(1) == (24, 12, 6, 3, 2, 1)
    assert shapes.thought_sizes(8) == (8, 4, 2, 1)


def test_a_batch_shrinks_only_where_it_pays():
    assert shrunk(32, 16) == 32
    assert shrunk(32, 8) == 8


def test_a_group_larger_than_the_batch_still_gets_one_place():
    assert BatchShapes(max_rows=4).prompt_sizes(16) == (1,)


def test_suffixes_double():
    shapes = BatchShapes(suffix_step=64)
    assert [shapes.suffix_size(n) for n in (1, 64, 65, 300)] == [64, 64, 128, 512]


def test_smallest_fit():
    assert smallest_fit((32, 8, 2), 3) == 8


def test_a_prompt_beyond_the_largest_size_is_refused_with_the_hint():
    with pytest.raises(ConfigError, match="prefix_sizes"):
        BatchShapes(prefix_sizes=(8, 16)).prefix_size(17)


@pytest.mark.parametrize("bad", [{"prefix_sizes": (16, 8)}, {"chunk_steps": 0}])
def test_impossible_shapes_are_refused(bad: dict[str, Any]):
    with pytest.raises(ConfigError):
        BatchShapes(**bad)
