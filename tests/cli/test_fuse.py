import json

import pytest

from t1_jax.retrieval import read_run


def test_runs_of_different_formats_become_one(t1, tmp_path):
    (tmp_path / "bm25.trec").write_text("q_1 Q0 cat 1 9 x\nq_1 Q0 a_dog 2 8 x\n")
    (tmp_path / "score.json").write_text(json.dumps({"q 1": {"a dog": 0.5, "fox": 0.25}}))
    out = tmp_path / "fused.trec"
    answer = t1("fuse", tmp_path / "bm25.trec", tmp_path / "score.json", "-o", out, "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["queries"], answer.json["fusion"]) == (1, "rrf")
    run = read_run(out)
    assert run == {"q_1": {"a_dog": pytest.approx(1 / 62 + 1 / 61), "cat": pytest.approx(1 / 61),
                           "fox": pytest.approx(1 / 62)}}  # fmt: skip
    answer = t1("fuse", tmp_path / "bm25.trec", tmp_path / "score.json", "-o", out)
    assert answer.code == 2
    assert "already exists" in answer.err
    answer = t1("fuse", tmp_path / "bm25.trec", "-o", out, "--overwrite")
    assert answer.code == 2
    assert "at least two" in answer.err
    answer = t1("fuse", *[tmp_path / "bm25.trec"] * 2, "-o", out, "--overwrite", "-w", 1)
    assert answer.code == 2
    assert "1 weights for 2 rankings" in answer.err
