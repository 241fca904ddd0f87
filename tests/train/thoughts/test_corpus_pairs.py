from t1_jax.train.thoughts.corpus_pairs import TextPair, merge_pairs


def pair(name: str, text: str, **grades: int) -> TextPair:
    return TextPair(id=name, text=text, grades=grades, thoughts=(f"about {name}",))


def test_one_pair_a_text_and_none_that_belongs_to_everybody():
    pairs = [
        pair("1", "Some  words", a=2, p=1),
        pair("2", "other", b=2),
        pair("3", "some words", b=1, p=2),
        *(pair(f"x{i}", "for all", **{f"d{i}": 1}) for i in range(5)),
    ]
    first, second = merge_pairs(pairs)
    assert (first.id, first.text, first.thoughts) == ("1", "Some  words", ("about 1",))
    assert first.grades == {"a": 2, "b": 1, "p": 2}
    assert second.grades == {"b": 2}
    assert len(merge_pairs(pairs, max_pairs=5)) == 3
    assert len(merge_pairs(pairs, max_pairs=1)) == 1
