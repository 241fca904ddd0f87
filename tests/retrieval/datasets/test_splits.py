from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from t1_jax.retrieval import Document, Query
from t1_jax.retrieval.datasets.splits import (
    SPLIT_FRACTIONS,
    LabeledQuery,
    group_keys,
    split_collection,
    split_of,
)


def test_shares_are_kept_and_keys_stay_where_they_are():
    counts = Counter(split_of(str(key)) for key in range(20_000))
    for split, share in SPLIT_FRACTIONS.items():
        assert abs(counts[split] / 20_000 - share) < 0.01
    assert [split_of(key) for key in ("b", "a", "2")] == ["train", "validation", "test"]


links = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")))


@given(links)
def test_linked_names_share_the_smallest_name_of_their_group(links: list[tuple[str, str]]):
    keys = group_keys(links)
    assert set(keys) == {name for link in links for name in link}
    assert all(keys[first] == keys[second] for first, second in links)
    for name, key in keys.items():
        reached, frontier = {name}, [name]
        while frontier:
            here = frontier.pop()
            near = {other for link in links if here in link for other in link} - reached
            reached |= near
            frontier += near
        assert key == min(reached)


def test_a_collection_falls_into_its_splits():
    documents = [Document(id="d", text="text"), Document(id="x", text="text")]
    queries = [
        LabeledQuery(
            query=Query(id=f"q{number}", text="why"),
            labels={"d": 1},
            group_key=str(number // 2),
            excluded=frozenset({"x"} if number == 0 else ()),
        )
        for number in range(40)
    ]
    parts = split_collection("c", documents, queries, {"license": "CC0"})
    assert list(parts) == ["train", "validation", "test"]
    homes = {query.id: split for split, part in parts.items() for query in part.queries}
    assert len(homes) == 40
    assert all(homes[f"q{number}"] == homes[f"q{number + 1}"] for number in range(0, 40, 2))
    assert parts[homes["q0"]].excluded == {"q0": frozenset({"x"})}
    assert len({part.data_hash for part in parts.values()}) == 1
