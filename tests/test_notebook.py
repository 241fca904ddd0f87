"""What notebooks and terminals show of objects: short, escaped, and without widgets."""

import sys
import types
from typing import Any

import numpy as np
import pytest

from t1_jax import retrieval
from t1_jax.evaluate.examples import Hit
from t1_jax.generate import FinishReason, Thought
from t1_jax.progress import track
from t1_jax.retrieval import Collection, Document, Query, Snippet, build_index
from t1_jax.text import load_preset


def thought(text: str) -> Thought:
    return Thought(
        token_ids=np.arange(4),
        log_probs=np.zeros(4, np.float32),
        log_probs_at_1=np.zeros(4, np.float32),
        embedding=np.ones(2, np.float32),
        finish_reason=FinishReason.EMB_TOKEN,
        sample=0,
        text=text,
    )


def test_reprs_are_one_short_line():
    documents = tuple(Document(id=f"d{i}", title="T", text="word " * 500) for i in range(40))
    query = Query(id="q", text="why? " * 500)
    collection = Collection(name="c", documents=documents, queries=(query,), qrels={})
    index = build_index("numpy", [d.id for d in documents], np.eye(40))
    result = index.search(np.eye(40)[:2], k=3)
    expected = {
        "Thought('a thought', 3 tokens, emb_token)": thought("a\nthought"),
        "Collection('c', 40 documents, 1 query)": collection,
        "NumpyIndex(40 documents, 40 dimensions)": index,
        "EmbeddingTable(40 rows, 40 dimensions)": index.table,
        "SearchResult(2 queries, top 3)": result,
    }
    assert {repr(value): value for value in expected.values()} == expected
    for value in (documents[0], query, load_preset("t1"), thought("x " * 999)):
        assert len(repr(value)) < 120
        assert "\n" not in repr(value)


def test_html_is_escaped():
    page = thought("<script>alert(1)</script>")._repr_html_()
    assert "&lt;script&gt;" in page
    assert "3 tokens, emb_token" in page
    hit = Hit(rank=2, score=0.5, document_id="<d>", title="A & B", snippet="<b>", grade=None)
    page = hit._repr_html_()
    assert "2. A &amp; B" in page
    assert "&lt;b&gt;" in page
    assert "&lt;d&gt;, score 0.500" in page
    document = Document(id="<d>", text="<b>", title="A & B")
    snippet = Snippet(text="<b>", location=None)
    found = retrieval.Hit(
        id="<d>", score=0.5, bm25=None, cosine=0.5, document=document, snippet=snippet
    )
    page = found._repr_html_()
    assert "A &amp; B" in page
    assert "&lt;b&gt;" in page
    assert "&lt;d&gt;, score 0.500" in page


def test_in_a_notebook_the_bar_is_redrawn_in_place(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []

    class Handle:
        def update(self, value: str) -> None:
            shown.append(value)

    def display(value: str, *, display_id: bool) -> Handle:
        shown.append(value)
        return Handle()

    fake: Any = types.ModuleType("IPython.display")
    fake.HTML, fake.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with track("docs", 3, "tokens", shown=True) as advance:
        advance(1)
        advance(2)
    assert shown[0].startswith('docs <progress value="0" max="3">')
    assert '<progress value="3" max="3">' in shown[-1]
    assert len(shown) == 2  # updates that follow each other at once are left out, but for the last
