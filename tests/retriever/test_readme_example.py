"""The example of the README runs, on a tiny random model in place of the shipped adapter."""

import re
from pathlib import Path

from t1_jax.retriever import T1

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def ranking(output: str) -> list[tuple[float, str]]:
    """Scores and documents of the last three lines."""
    lines = re.findall(r"^(-?\d\.\d{3})  (.+)$", output, flags=re.MULTILINE)
    return [(float(score), document) for score, document in lines[-3:]]


def test_it_prints_a_thought_and_the_ranked_documents(tiny_t1: T1, monkeypatch, capsys):
    code, shown = re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[1:3]
    monkeypatch.setattr(T1, "load", lambda: tiny_t1)
    exec(code.replace("max_thought_tokens=24", "max_thought_tokens=8"), {})
    printed = ranking(capsys.readouterr().out)
    for result in (printed, ranking(shown)):
        assert result == sorted(result, reverse=True)
        assert len(result) == 3
    assert {text for _, text in printed} == {text for _, text in ranking(shown)}
