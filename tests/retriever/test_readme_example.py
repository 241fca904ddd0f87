"""The example of the README runs, on a tiny random model in place of the shipped adapter."""

import re
from pathlib import Path

from t1_jax.retriever import T1

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_it_prints_a_thought_and_the_ranked_documents(tiny_t1: T1, monkeypatch, capsys):
    code, output = re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[1:3]
    monkeypatch.setattr(T1, "load", lambda path: tiny_t1)
    exec(code.replace("max_thought_tokens=24", "max_thought_tokens=8"), {})
    ranking = capsys.readouterr().out.splitlines()[-3:]
    form = re.compile(r"(-?\d\.\d{3})  (.+)")
    printed, shown = ([form.fullmatch(line) for line in lines] for lines in (
        ranking, output.splitlines()[1:],
    ))  # fmt: skip
    assert all(printed)
    assert all(shown)
    scores = [float(line[1]) for line in printed if line]
    assert scores == sorted(scores, reverse=True)
    assert {line[2] for line in printed if line} == {line[2] for line in shown if line}
