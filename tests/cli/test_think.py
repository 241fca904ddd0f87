import json

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


def test_a_file_of_queries_becomes_a_file_of_thoughts(t1, base_model, tmp_path):
    lines = [
        json.dumps({"_id": f"q{number}", "text": f"who purrs {number}?"}) for number in range(5)
    ]
    (tmp_path / "q.jsonl").write_text(
        "\n".join([*lines, json.dumps({"_id": "q9", "text": "who?"})])
    )
    command = (
        "think",
        "-f",
        tmp_path / "q.jsonl",
        "-o",
        tmp_path / "t.jsonl",
        "-m",
        base_model,
        *TINY,
    )
    answer = t1(*command, "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["queries"], answer.json["thoughts"]) == (6, 6)
    assert "6 queries, 6 thoughts of" in answer.err
    written = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [line["_id"] for line in written] == [*(f"q{number}" for number in range(5)), "q9"]
    printed = t1("think", "who?", "-m", base_model, *TINY, "--json").json["queries"]
    assert printed[0]["thoughts"] == written[-1]["thoughts"]
    again = t1(*command)
    assert again.code == 2
    assert "already exists" in again.err
    cached = t1(*command, "--overwrite")
    assert "6 of 6 thoughts were read from" in cached.err
    fresh = t1(*command, "--overwrite", "--no-thought-cache")
    assert "were read from" not in fresh.err


def test_standard_input_becomes_a_file_too(t1, base_model, tmp_path):
    output = tmp_path / "t.jsonl"
    answer = t1("think", "-o", output, "-m", base_model, *TINY, stdin="who purrs?\nwho barks?\n")
    assert answer.code == 0, answer.err
    assert [json.loads(line)["_id"] for line in output.read_text().splitlines()] == ["1", "2"]


@pytest.mark.parametrize(
    ("given", "content", "named"),
    [
        (("why",), "x", "--output takes its queries from a file"),
        ((), "fine\n\n", "q.txt:2 is empty"),
        ((), "", "has no query"),
        (("-n", 2), "x", "temperature 0"),
        (("--max-thought-tokens", 5000), "x", "the model has 4096"),
    ],
)
def test_bad_input_of_a_file(t1, base_model, tmp_path, given, content, named):
    (tmp_path / "q.txt").write_text(content)
    files = ("-f", tmp_path / "q.txt", "-o", tmp_path / "t.jsonl")
    answer = t1("think", *given, *files, "-m", base_model)
    assert answer.code == 2, answer.out
    assert named in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["q.txt"]
