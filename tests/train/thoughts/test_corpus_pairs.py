from t1_jax.retrieval import Collection, Document, Query
from t1_jax.train.thoughts.corpus_pairs import TextPair, corpus_records, merge_pairs, title_pairs


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


LOCKS = Document(
    id="locks",
    title="Weak  lock",
    text="The door has a lock that is easy to pick. Thieves open it with a piece of wire. No.",
)


def test_titles_and_sentences_explain_each_other():
    untitled = Document(id="x", title="", text="Nothing names this sentence of six words.")
    assert [(pair.text, pair.thoughts) for pair in title_pairs([LOCKS, untitled])] == [
        ("The door has a lock that is easy to pick.", ("Weak lock.",)),
        ("Thieves open it with a piece of wire.", ("Weak lock.",)),
        ("Weak lock", ("The door has a lock that is easy to pick.",)),
    ]
    long = Document(
        id="y", title="Count", text=" ".join(f"Line {word} is a line here." for word in "abcdefg")
    )
    assert [pair.text[:6] for pair in title_pairs([long])] == [
        "Line a",
        "Line d",
        "Line g",
        "Count",
    ]


def test_records_of_a_corpus_leak_no_held_out_query():
    secret = Document(id="secret", title="Hidden key", text="The key lies under the mat all day.")
    documents = (LOCKS, secret)

    def asked(name: str, text: str, relevant: str) -> Collection:
        query = Query(id=name, text=text)
        return Collection(
            name="doors", documents=documents, queries=(query,), qrels={name: {relevant: 1}}
        )

    train = asked("a", "which lock is bad", "locks")
    pairs = title_pairs(documents)
    by_id = train.documents_by_id
    records = corpus_records(
        pairs, "doors", by_id, train, [asked("b", "open it with a piece of wire", "secret")]
    )
    # Not the sentence that contains the query, and nothing of the document that only it asks for.
    assert [record.query for record in records] == [pairs[0].text, "Weak lock"]
    assert all(record.is_of_corpus for record in records)
    assert len(corpus_records(pairs, "doors", by_id, None, [])) == len(pairs)
