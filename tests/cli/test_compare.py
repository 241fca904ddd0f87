"""`t1 compare`, and several models in one `t1 evaluate`."""

import pytest

from t1_jax.cli.evaluate import system_names
from t1_jax.errors import ConfigError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "a.trec").write_text("q1 Q0 fox 1 9 x\nq2 Q0 dog 1 8 x\nq3 Q0 owl 1 9 x\n")
    (folder / "b.trec").write_text("q1 Q0 cat 1 9 x\nq2 Q0 dog 1 8 x\nq4 Q0 bee 1 9 x\n")
    return folder


def test_two_trec_runs(t1, pets, runs):
    answer = t1("compare", runs / "a.trec", runs / "b.trec", "-c", pets, "--json")
    assert answer.code == 0, answer.err
    ndcg, recall = answer.json["comparisons"]
    assert (ndcg["title"], ndcg["metric"], recall["metric"]) == (
        "pets/test",
        "nDCG@10",
        "recall@10",
    )
    assert (ndcg["first"], ndcg["second"]) == (0.5, 0.75)
    difference = ndcg["difference"]
    assert (difference["better"], difference["worse"], difference["queries"]) == (2, 1, 4)
    assert answer.json["gains"]["pets/test"] == {"q1": 1.0, "q2": 0.0, "q3": -1.0, "q4": 1.0}
    assert "comparable: the same documents, queries and qrels on pets/test" in answer.err
    assert "B wins most on q1 (+1.00), q4 (+1.00)" in answer.err
    assert "B loses most on q3 (-1.00)" in answer.err
    assert "fewer than 30 queries" in answer.err


def test_tables_for_papers(t1, pets, runs):
    latex = t1("compare", runs / "a.trec", runs / "b.trec", "-c", pets, "--format", "latex")
    assert latex.code == 0, latex.err
    assert "\\toprule" in latex.out
    markdown = t1("compare", runs / "a.trec", runs / "b.trec", "-c", pets, "--format", "markdown",
                  "--metric", "MRR")  # fmt: skip
    assert markdown.out.startswith("|  | metric | A | B |")
    assert "| pets/test | MRR | 0.500 | 0.750 |" in markdown.out


def test_a_folder_with_a_run_and_a_row_with_another(t1, pets, runs, tmp_path):
    common = ("bootstrap_samples=50", "-c", pets)
    answer = t1("evaluate", "--run", runs / "a.trec", *common, "-o", tmp_path / "out")
    assert answer.code == 0, answer.err
    answer = t1("compare", tmp_path / "out", runs / "b.trec", "-c", pets, "--json")
    assert (answer.json["first"], answer.json["second"]) == ("out, a", str(runs / "b.trec"))
    answer = t1("compare", f"{tmp_path}/out:bm25", tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["settings"] == {"row": ["BM25", "a.trec"]}
    answer = t1("compare", f"{tmp_path}/out:own", tmp_path / "out")
    assert answer.code == 2
    assert "has no row 'own'" in answer.err
    fewer = t1("evaluate", "--run", runs / "a.trec", *common, "max_queries=2", "-o", tmp_path / "2")
    assert fewer.code == 0, fewer.err
    answer = t1("compare", tmp_path / "out", tmp_path / "2")
    assert answer.code == 2
    assert "are not comparable\n  - pets/test: only out, a has 2 queries ('" in answer.err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("a.trec", "b.trec"), "add --collection"),
        (("a.trec", "none.trec", "-c", "PETS"), "none.trec does not exist"),
        ((".", "b.trec", "-c", "PETS"), "has no results.json"),
    ],
)
def test_mistakes(t1, pets, runs, monkeypatch, given, named):
    monkeypatch.chdir(runs)
    answer = t1("compare", *(word.replace("PETS", str(pets)) for word in given))
    assert answer.code == 2
    assert named in answer.err


def test_several_models_share_a_table_and_are_compared(t1, base_model, pets, tmp_path):
    assert t1("import", base_model, tmp_path / "other").code == 0
    answer = t1(
        "evaluate", "max_thought_tokens=4", "controls=[own]", "bootstrap_samples=50", "-c", pets,
        "-m", base_model, "-m", tmp_path / "other", "-o", tmp_path / "run", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    (collection,) = answer.json["collections"]
    assert [row["name"] for row in collection["rows"]] == ["bm25", "tiny-own", "other-own"]
    assert [system["model"]["name"] for system in collection["systems"]] == ["tiny", "other"]
    assert "other minus tiny, own thought, nDCG@10" in collection["summary"]
    compared = t1("compare", f"{tmp_path}/run:tiny-own", f"{tmp_path}/run:other-own", "--json")
    assert compared.code == 0, compared.err
    for given in (("-m", base_model, "-m", base_model), ("-m", base_model, "--run", "x")):
        answer = t1("evaluate", "-c", pets, *given)
        assert answer.code == 2
        assert "was given twice" in answer.err or "without a model" in answer.err


def test_models_are_called_by_the_ends_of_their_paths():
    assert system_names(["runs/a/s3"]) == ["T1"]
    assert system_names(["runs/a", "smollm2"]) == ["a", "smollm2"]
    assert system_names(["runs/a/S3", "runs/b/s3"]) == ["a/S3", "b/s3"]
    with pytest.raises(ConfigError, match="given twice"):
        system_names(["a", "b", "a"])


def test_an_option_given_twice_is_an_error_and_never_dropped(t1, pets):
    answer = t1("think", "why?", "-m", "a", "--model", "b")
    assert answer.code == 2
    assert "'--model'" in answer.err
    assert "given 2 times" in " ".join(answer.err.split())
    assert t1("search", pets, "owl", "--bm25", "--bm25").code == 2
