from t1_jax.retrieval import Document
from t1_jax.train.data import TrainingRecord, TrainingSet
from t1_jax.train.thoughts import count_pieces, with_text_thoughts

DOCUMENTS = (
    Document(id="sky", title="Colors", text="Air scatters blue light more than red light."),
    Document(id="rust", text="# Why iron rusts\n\nIron and water and air make a red oxide."),
    Document(id="tea", text="Water keeps warm in a pot. Light and red tea are steeped in it."),
    Document(id="code", text="```\nrun it\n```\nIt scatters seeds."),
    Document(id="sun", text="空は青い。光が散乱するからである。長い文章がここに続く。"),
)


def thought_of(query: str, positive: str, *thoughts: str) -> tuple[str, ...]:
    record = TrainingRecord(query_id="q", query=query, positives={positive: 1}, thoughts=thoughts)
    data = TrainingSet(
        name="texts", records=(record,), documents={item.id: item for item in DOCUMENTS}
    )
    (written,), count = with_text_thoughts(data)
    assert count == (0 if thoughts else 1)
    return written.thoughts


def test_a_thought_is_the_title_and_rare_words_that_the_query_lacks():
    (thought,) = thought_of("why is the sky blue", "sky")
    assert thought == "Colors: light, air, scatters."


def test_a_heading_or_a_first_sentence_replaces_a_missing_title():
    assert thought_of("nail", "rust") == ("Why iron rusts: water, air, red.",)
    assert thought_of("cup", "tea") == ("Water keeps warm in a pot: light, red.",)
    assert thought_of("cup", "code") == ("Run it: scatters.",)


def test_a_thought_is_short_and_never_blank():
    for document in DOCUMENTS:
        (thought,) = thought_of("q", document.id)
        assert len(thought.strip()) > 0
        assert count_pieces(thought) <= 30


def test_a_thought_of_the_user_stays():
    assert thought_of("why", "sky", "about light") == ("about light",)
