"""`t1 report` over the folders of evaluations."""


def test_a_page_over_two_budgets(t1, base_model, pets, tmp_path):
    for budget in (2, 4):
        fields = (f"max_thought_tokens={budget}", "controls=[own,no-think]", "bm25=false",
                  "verify=4", "leave_one_out=1", "bootstrap_samples=50")  # fmt: skip
        how = ("-c", pets, "-m", base_model, "--dtype", "float32", "-o", tmp_path / str(budget))
        answer = t1("evaluate", *fields, *how)
        assert answer.code == 0, answer.err
        assert "own thought, verified" in answer.out
        assert "sentences left out</option>" in (tmp_path / str(budget) / "report.html").read_text()
    page = tmp_path / "page.html"
    command = ("report", tmp_path / "2", tmp_path / "4", "-o", page)
    answer = t1(*command, "--json")
    assert answer.code == 0, answer.err
    assert answer.json == {"output": str(page), "runs": 2}
    assert "by the maximum number of tokens of a thought" in page.read_text()
    again = t1(*command)
    assert again.code == 2
    assert "already exists" in again.err


def test_a_folder_without_results_is_named(t1, tmp_path):
    answer = t1("report", tmp_path, "-o", tmp_path / "page.html")
    assert answer.code == 2
    assert "has no results.json" in answer.err
