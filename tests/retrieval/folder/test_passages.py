from hypothesis import given
from hypothesis import strategies as st

from t1_jax.retrieval.folder.passages import MAX_CHARACTERS, split_markdown, split_text

MARKDOWN = """\
A first line.

# Tea

## Brewing

Green tea at 80 degrees.

```
# not a heading
```

## Storage
### Tins

Dry.

Setext
======

> # quoted

Last.
"""


def test_a_short_text_is_one_passage_with_its_first_line():
    (passage,) = split_text("\n\n  One.\nTwo.\n\n")
    assert (passage.text, passage.line) == ("One.\nTwo.", 3)
    assert split_text(" \n -- \n") == []


def test_a_long_text_is_cut_at_blank_lines_then_lines_then_sentences_then_words():
    paragraph = "A sentence of nine words stands here again and again. " * 12
    passages = split_text(f"{paragraph}\n\n{paragraph}\n\nEnd.")
    assert [passage.line for passage in passages] == [1, 3]
    assert passages[1].text.endswith("End.")
    one_line = split_text("A sentence is here. " * 100)
    assert len(one_line) > 1
    assert all(passage.line == 1 and passage.text.endswith(".") for passage in one_line)
    assert all(set(passage.text.split()) == {"word"} for passage in split_text("word " * 900))
    assert len(split_text("x" * 2500)) == 3


@given(st.text(alphabet="ab .!\n\t\u2028", max_size=60).map(lambda text: text * 60))
def test_passages_are_slices_in_order_that_lose_no_letter(text: str):
    passages = split_text(text)
    lines = text.split("\n")
    for passage in passages:
        assert len(passage.text) <= MAX_CHARACTERS
        assert passage.text.split("\n")[0] in lines[passage.line - 1]
    letters = "".join(character for character in text if character.isalpha())
    kept = "".join(c for passage in passages for c in passage.text if c.isalpha())
    assert kept == letters


def test_sections_of_markdown_have_the_path_of_their_headings():
    passages = split_markdown(MARKDOWN, "notes")
    found = [(passage.line, passage.title, passage.text.split("\n")[0]) for passage in passages]
    assert found == [
        (1, "notes", "A first line."),
        (7, "Tea > Brewing", "Green tea at 80 degrees."),
        (16, "Tea > Storage > Tins", "Dry."),
        (21, "Setext", "> # quoted"),
    ]
    assert "# not a heading" in passages[1].text
    (below,) = split_markdown("## Part\n\nText.\n", "file")
    assert below.title == "file > Part"
