"""The example of the README runs, on a tiny random model in place of the shipped adapter."""

import re
from pathlib import Path

from t1_jax.retrieval import Document, build_index
from t1_jax.retriever import T1, Searcher

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TEXTS = ["The product takes a path.", "It runs a command.", "Locks are not released.", "A race."]
FORM = re.compile(
    r"thought: .+\n( \d\. -?\d\.\d{4}  \S+  .+\n {4}.+\n){3}\[\[ ?-?\d\.\d+ +-?\d\.\d+\]\]\n"
)


def test_it_prints_the_thought_three_documents_and_similarities(tiny_t1: T1, monkeypatch, capsys):
    code, shown = re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[1:3]
    documents = {
        f"CWE-{number}": Document(id=f"CWE-{number}", title="Weakness", text=text)
        for number, text in enumerate(TEXTS)
    }
    index = build_index("numpy", list(documents), tiny_t1.encode_document(TEXTS))
    searcher = Searcher(documents, index=index, model=tiny_t1)
    monkeypatch.setattr(Searcher, "open", lambda source: searcher)
    exec(code, {})
    printed = capsys.readouterr().out
    for text in (printed, shown):
        assert FORM.fullmatch(text), text
        scores = [float(score) for score in re.findall(r"^ \d\. (\S+)", text, re.MULTILINE)]
        assert scores == sorted(scores, reverse=True)
