from pathlib import Path

from t1_jax.retrieval import Document, SourceLocation, best_sentence

TEXT = """Keep it dry. Light harms it.

Green tea is
steeped at 80 degrees. Hotter water makes it bitter.
- Assam is malty
- Sencha is grassy"""
TEA = Document(id="tea.md:5", text=TEXT, location=SourceLocation(path=Path("tea.md"), line=5))


def found(query, *thoughts):
    snippet = best_sentence(TEA, query, thoughts)
    assert snippet.location is not None
    return snippet.text, snippet.location.line


def test_the_sentence_with_the_terms_of_the_query_and_its_line():
    assert found("How hot is green tea steeped?") == ("Green tea is steeped at 80 degrees.", 7)
    assert found("cold") == ("Keep it dry.", 5)  # no common term: the first sentence
    assert found("bitter") == ("Hotter water makes it bitter.", 8)
    assert found("grassy") == ("- Sencha is grassy", 10)


def test_the_query_counts_more_than_the_thought():
    assert found("light", "malty") == ("Light harms it.", 5)
    assert found("xyz", "something bitter") == ("Hotter water makes it bitter.", 8)


def test_a_document_without_text_or_location():
    snippet = best_sentence(Document(id="d", title="Title", text=""), "query")
    assert (snippet.text, snippet.location) == ("Title", None)
