"""Near duplicates: sets of shingles, and the same comparison of their hashes."""

import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.retrieval import NearDuplicates
from t1_jax.retrieval.near_duplicates import jaccard, shingles

LONG = " ".join(f"word{number}" for number in range(300))


def test_shingles_are_runs_of_the_normalized_text():
    assert shingles(" ABc  d", 3) == {"abc", "bc ", "c d"}
    assert shingles("ab", 3) == {"ab"}
    assert jaccard(shingles("abcd", 3), shingles("bcde", 3)) == 1 / 3


@given(
    texts=st.lists(st.text("ab \u00c4\U0001f600\ud800", max_size=12), min_size=2, max_size=4),
    threshold=st.sampled_from([0.2, 1 / 3, 0.5, 0.8, 0.9, 1.0]),
    size=st.integers(1, 4),
)
def test_hashes_compare_as_the_shingles(texts: list[str], threshold: float, size: int):
    duplicates = NearDuplicates(lambda name: texts[int(name)], threshold=threshold, size=size)
    names = [str(number) for number in range(len(texts))]
    first = shingles(texts[0], size)
    similar = [jaccard(first, shingles(text, size)) >= threshold for text in texts]
    assert [duplicates.contains([name], names[0]) for name in names] == similar
    assert duplicates.contains(names[1:], names[0]) == any(similar[1:])
    assert not duplicates.contains([], names[0])


def test_a_long_text_takes_few_bytes_and_few_are_kept():
    read: list[str] = []

    def text_of(name: str) -> str:
        read.append(name)
        return f"{LONG} {name}"

    duplicates = NearDuplicates(text_of, threshold=0.9, size=8)
    assert duplicates.contains(["b"], "a")
    assert duplicates.contains(["a"], "b")
    assert read == ["a", "b"]
    hashes = duplicates._hashes("a")
    assert hashes.dtype == np.uint64
    assert sys.getsizeof(hashes) < 8 * len(LONG) + 500
    assert duplicates._hashes.cache_info().maxsize == 4096
