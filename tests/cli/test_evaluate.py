import pytest

from t1_jax import evaluate as evaluation


def test_a_model_on_a_collection(t1, base_model, pets, tmp_path):
    answer = t1(
        "evaluate", "max_thought_tokens=4", "controls=[own,no-think]", "bootstrap_samples=50",
        "n=2", "sampling.temperature=1",
        "-c", pets, "-m", base_model, "-o", tmp_path / "run", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    rows = answer.json["collections"][0]["rows"]
    assert [row["control"] for row in rows] == [None, "own", "no-think"]
    assert all(0 <= row["metrics"]["nDCG@10"]["mean"] <= 1 for row in rows)
    assert (tmp_path / "run" / "report.html").exists()
    assert "own thought" in answer.err
    assert "tiny was never trained to retrieve" in answer.json["collections"][0]["notes"][0]


@pytest.fixture
def run(tmp_path):
    """A run that finds q1 and q2, ranks q3's document second, and lacks q4."""
    path = tmp_path / "mine.trec"
    path.write_text(
        "q1 Q0 cat 1 9 x\nq2 Q0 dog 1 8 x\nq3 Q0 fox 1 9 x\nq3 Q0 owl 2 7.5 x\nother Q0 cat 1 1 x\n"
    )
    return path


def test_a_run_of_anybodys_is_scored(t1, pets, run):
    answer = t1("evaluate", "--run", run, "-c", pets, "--json", "bootstrap_samples=50")
    assert answer.code == 0, answer.err
    bm25, mine = answer.json["collections"][0]["rows"]
    assert bm25["label"] == "BM25"
    assert mine["metrics"]["recall@10"]["mean"] == pytest.approx(0.75)
    assert mine["metrics"]["nDCG@10"]["mean"] == pytest.approx((1 + 1 + 0.63093 + 0) / 4, abs=1e-4)
    assert mine["queries_without_result"] == ["q4"]
    assert mine["unknown_queries"] == ["other"]
    notes = [
        "pets/test: mine.trec has no result for 1 of 4 queries, which count 0: q4.",
        "pets/test: mine.trec ranks 1 query that the split does not have, such as 'other'.",
    ]
    assert answer.json["collections"][0]["notes"] == notes
    printed = " ".join(answer.err.split())
    assert all(sentence in printed for sentence in notes)


def test_a_score_json_is_scored_and_needs_no_documents(t1, tmp_path):
    """TREC topics and qrels, and the score.json that BRIGHT's harness writes."""
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "topics.tsv").write_text("q1\twho purrs?\nq2\twho barks?\n")
    (folder / "qrels.txt").write_text("q1 0 cat 1\nq2 0 dog 1\n")
    run = tmp_path / "score.json"
    run.write_text('{"q1": {"cat": 2, "fox": 1}, "q2": {"fox": 2, "dog": 1}}')
    answer = t1("evaluate", "--run", run, "-c", folder, "--json", "bootstrap_samples=50")
    assert answer.code == 0, answer.err
    (row,) = answer.json["collections"][0]["rows"]
    assert row["metrics"]["nDCG@10"]["mean"] == pytest.approx((1 + 0.63093) / 2, abs=1e-4)
    answer = t1("compare", run, run, "-c", folder, "--json")
    assert answer.code == 0, answer.err
    answer = t1("evaluate", "-c", folder)
    assert answer.code == 2
    assert "no documents" in answer.err


def test_a_run_may_rank_documents_that_lenient_reading_dropped(t1, pets, run, tmp_path):
    """One record of the corpus is malformed; the run ranks its document."""
    flawed = _copy(pets, tmp_path / "pets", **{'"_id": "fox"': '"_id": ["fox"]'})
    answer = t1("evaluate", "--run", run, "-c", flawed)
    assert answer.code == 2
    assert 'corpus.jsonl:12: field "_id" must be a string' in answer.err
    assert "--lenient" in answer.err
    answer = t1("evaluate", "--run", run, "-c", flawed, "--lenient", "--json",
                "bootstrap_samples=50")  # fmt: skip
    assert answer.code == 0, answer.err
    assert "1 malformed record (dropped)" in answer.err
    mine = answer.json["collections"][0]["rows"][1]
    assert mine["metrics"]["recall@10"]["mean"] == pytest.approx(0.75)


def test_a_run_named_as_the_baseline_has_a_row_of_its_own(t1, pets, run, tmp_path):
    own = run.rename(tmp_path / "bm25.trec")
    answer = t1(
        "evaluate", "--run", own, "-c", pets, "--json", "bootstrap_samples=50", "-o", tmp_path / "o"
    )
    assert answer.code == 0, answer.err
    bm25, mine = answer.json["collections"][0]["rows"]
    assert (bm25["name"], mine["name"], mine["label"]) == ("bm25", "bm25-2", "bm25.trec")
    assert mine["metrics"]["recall@10"]["mean"] == pytest.approx(0.75)
    assert bm25["metrics"] != mine["metrics"]
    assert {path.name for path in (tmp_path / "o" / "pets-test").glob("*.trec")} == {
        "bm25.trec",
        "bm25-2.trec",
    }


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("q1 Q0 cat 1 9\n", "bad.trec:1: expected 6 fields"),
        ("q1 Q0 cat 1 nan x\n", "bad.trec:1: the score must be finite"),
        ("q1 Q0 unicorn 1 9 x\n", "'unicorn', which pets does not have"),
        ("q9 Q0 cat 1 9 x\n", "none of the 4 queries of pets/test"),
    ],
)
def test_bad_runs(t1, pets, tmp_path, lines, named):
    (tmp_path / "bad.trec").write_text(lines)
    answer = t1("evaluate", "--run", tmp_path / "bad.trec", "-c", pets)
    assert answer.code == 2
    assert named in answer.err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((), "no collection was given"),
        (("-c", "pets", "--split", "dev"), "pets"),
        (("-c", "cwe", "max_thought_token=3"), "did you mean 'max_thought_tokens'?"),
        (("mine.yaml", "more.yaml", "-c", "cwe"), "more than one config"),
        (("mine.yaml", "-c", "cwe"), "mine.yaml"),
        (("n", "=", "3", "-c", "cwe"), "'n' is neither a .yaml file nor KEY=VALUE"),
        (("-c", "cwe", "metrics=[nDCG@10,recall@10,wow]"), "wow"),
        (("-c", "cwe", "n=3"), "temperature"),
        (("-c", "cwe"), "t1 pull cwe"),
    ],
)
def test_bad_input(t1, base_model, given, named):
    answer = t1("evaluate", *given, "-m", base_model)
    assert answer.code == 2
    assert named in answer.err


def test_prompts_without_candidates_are_found_before_weights_are_read(t1, base_model, pets):
    answer = t1("evaluate", "-c", pets, "-m", base_model, "candidates=4", "max_thought_tokens=4")
    assert answer.code == 2
    assert "the prompts 't1' show no candidates" in answer.err
    assert "--preset" in answer.err


def _copy(pets, folder, **replaced):
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = (pets / name).read_text()
        for old, new in replaced.items():
            text = text.replace(old, new)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def no_weights(monkeypatch):
    monkeypatch.setattr("t1_jax.retriever.loading.load_opened", None)


def test_names_that_clash_are_found_before_weights_are_read(
    t1, base_model, pets, tmp_path, no_weights
):
    twins = [_copy(pets, tmp_path / part / "pets") for part in "ab"]
    out = ("-o", tmp_path / "run", "-m", base_model)
    answer = t1("evaluate", "-c", twins[0], "-c", twins[1], *out)
    assert answer.code == 2
    assert "'pets/test' and 'pets/test' would be written to one folder, pets-test" in answer.err
    spaced = _copy(pets, tmp_path / "c", cat="a b", owl="a_b")
    answer = t1("evaluate", "-c", spaced, *out)
    assert answer.code == 2
    assert "both become 'a_b' in a TREC file" in answer.err
    answer = t1("evaluate", "-c", pets, *out, "max_thought_tokens=4096")
    assert answer.code == 2
    assert "the model has 4096" in answer.err
    answer = t1("evaluate", "-c", pets, *out, "task=biologie")
    assert answer.code == 2
    assert "did you mean 'biology'?" in answer.err
    assert not (tmp_path / "run").exists()


FAST = ("max_thought_tokens=4", "controls=[no-think]", "bootstrap_samples=20")


def test_results_survive_a_failed_report_and_a_later_collection(
    t1, base_model, pets, tmp_path, monkeypatch
):
    other = _copy(pets, tmp_path / "\u732b")  # its folder keeps a name in another script
    calls = []

    def fail(*_: object) -> str:
        calls.append(None)
        raise ZeroDivisionError

    monkeypatch.setattr("t1_jax.evaluate.write.render_report", fail)
    out = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        t1("evaluate", *FAST, "-c", other, "-m", base_model, "-o", out)
    assert calls
    assert {path.name for path in out.iterdir()} == {"results.json", "table.md", "\u732b-test"}

    monkeypatch.undo()
    evaluate = evaluation.evaluate_collection

    def second_fails(model, collection, *given, **how):
        if collection.name == "pets":
            raise MemoryError
        return evaluate(model, collection, *given, **how)

    monkeypatch.setattr(evaluation, "evaluate_collection", second_fails)
    with pytest.raises(MemoryError):
        t1("evaluate", *FAST, "-c", other, "-c", pets, "-m", base_model, "-o", out, "--overwrite")
    assert (out / "report.html").exists()


def test_a_folders_name_chooses_no_instruction(t1, base_model, pets, tmp_path):
    posts = _copy(pets, tmp_path / "biology")
    answer = t1("evaluate", *FAST, "-c", posts, "-m", base_model)
    assert "biology: query instruction: Given a query, retrieve relevant" in answer.err
    answer = t1("evaluate", *FAST, "task=biology", "-c", posts, "-m", base_model)
    assert "biology: query instruction: Given a biology post" in answer.err
    answer = t1("evaluate", *FAST, "instruction=Find the animal", "-c", posts, "-m", base_model)
    assert "biology: query instruction: Find the animal" in answer.err
