import pytest

TINY = ("--max-thought-tokens", 5, "--dtype", "float32")


def test_thoughts_with_their_ends(t1, base_model):
    answer = t1(
        "think", "who purrs?", "-m", base_model, "-n", 2, "--temperature", 1, *TINY, "--json"
    )
    assert answer.code == 0, answer.err
    (query,) = answer.json["queries"]
    assert query["query"] == "who purrs?"
    assert [thought["sample"] for thought in query["thoughts"]] == [0, 1]
    for thought in query["thoughts"]:
        assert thought["finish_reason"] in {"emb_token", "eos", "length"}
        assert 0 <= thought["tokens"] <= 5
        assert thought["log_prob"] < 0
    assert "[thought 0:" in answer.err  # the same for people


def test_queries_from_a_file_or_standard_input_think_the_same(t1, base_model, tmp_path):
    (tmp_path / "queries.txt").write_text("who purrs?\nwho barks?\n")
    how = ("-m", base_model, "--preset", "t1-compact", *TINY, "--json", "--seed", 3)
    from_file = t1("think", "-f", tmp_path / "queries.txt", *how).json["queries"]
    from_stdin = t1("think", *how, stdin="who purrs?\nwho barks?\n").json["queries"]
    from_arguments = t1("think", "who purrs?", "who barks?", *how).json["queries"]
    assert from_file == from_stdin == from_arguments
    assert len(from_file) == 2


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("", "--max-thought-tokens", "5"), "query 1 is empty"),
        (("   ",), "query 1 is empty"),
        (("why", "--max-thought-tokens", "0"), "must be at least 1"),
        (("why", "-n", "0"), "number of thoughts"),
        (("why", "--temperature", "-1"), "temperature"),
        (("why", "--task", "cve"), "did you mean 'cwe'?"),
        (("why", "--task", "cwe", "--instruction", "Find it"), "not both"),
        (("why", "--preset", "t2"), "prompt preset"),
    ],
)
def test_bad_input(t1, base_model, given, named):
    answer = t1("think", *given, "-m", base_model)
    assert answer.code == 2, answer.out
    assert named in answer.err


def test_no_query_at_all(t1, base_model):
    answer = t1("think", "-m", base_model, stdin="")
    assert answer.code == 2
    assert "standard input has no query" in answer.err
    answer = t1("think", "why", "-f", "queries.txt", "-m", base_model)
    assert answer.code == 2
    assert "give only one" in answer.err
