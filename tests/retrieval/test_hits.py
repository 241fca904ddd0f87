from pathlib import Path

from t1_jax.retrieval import Document, Hit, Hits, Snippet, SourceLocation

TEXT = "The web interface.\n" + "It takes a path. " * 30 + "On 3 May <somebody> read /etc/passwd."
HIT = Hit(
    id="server.md:5",
    score=0.75,
    bm25=None,
    cosine=0.75,
    document=Document(id="server.md:5", title="A & B", text=TEXT),
    snippet=Snippet(
        text="On 3 May <somebody> read /etc/passwd.",
        location=SourceLocation(path=Path("notes/server.md"), line=7),
    ),
)
BARE = Hit(id="d2", score=0.5, bm25=None, cosine=0.5, document=None, snippet=None)
HITS = Hits(query="who?", ranking="dense", thoughts=("<Path> Traversal.",), hits=(HIT, BARE))


def test_a_hit_says_where_its_sentence_is():
    assert (HIT.title, HIT.path, HIT.line) == ("A & B", Path("notes/server.md"), 7)
    assert HIT.text == TEXT
    assert HIT.heading == "0.7500  notes/server.md:7  A & B"
    assert (BARE.title, BARE.text, BARE.sentence, BARE.path, BARE.line) == ("", "", "", None, None)
    assert BARE.heading == "0.5000  d2"


def test_hits_are_a_sequence_that_prints_as_the_command_does():
    assert (len(HITS), HITS[0], list(HITS), HITS[1:]) == (2, HIT, [HIT, BARE], (BARE,))
    assert repr(HITS) == "Hits('who?', 2 documents)"
    assert str(HITS).splitlines() == [
        "thought: <Path> Traversal.",
        " 1. 0.7500  notes/server.md:7  A & B",
        "    On 3 May <somebody> read /etc/passwd.",
        " 2. 0.5000  d2",
    ]
    assert str(Hits(query="q", ranking="bm25", thoughts=(" ",), hits=())) == "thought: (nothing)"


def test_a_notebook_shows_the_thought_and_the_sentence_within_its_text():
    page = HITS._repr_html_()
    places = [
        page.index(part)
        for part in (
            "who?", "ranking: dense", "&lt;Path&gt; Traversal.", "1. A &amp; B", "…", "<mark",
            "On 3 May &lt;somebody&gt; read /etc/passwd.</mark>", "notes/server.md:7, score 0.750",
            "2. d2", "d2, score 0.500",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert "The web interface" not in page
    assert "<somebody>" not in page
