"""`t1 explain` on an index of the tiny model."""

import pytest


def test_terminal_page_and_json(t1, pets_index, tmp_path):
    page = tmp_path / "page.html"
    common = (pets_index, "who purrs?", "--max-thought-tokens", 4)
    answer = t1("explain", *common, "-k", 3, "-n", 2, "-o", page, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert len(found["hits"]) == len(found["hits_without"]) == 3
    assert len(found["thoughts"]) == 2
    assert all(len(item["ranks"]) == 2 for item in found["documents"])
    assert "With and without the thought" in answer.err
    assert "who purrs?</h1>" in page.read_text()
    assert str(page) in "".join(answer.err.split())
    # The first thought is that of a search.
    search = t1("search", *common, "-k", 3, "--json")
    assert search.json["thoughts"][0]["text"] == found["thoughts"][0]["text"]
    assert [hit["document_id"] for hit in found["hits"]] == [
        result["id"] for result in search.json["results"]
    ]


def test_a_folder_of_files_is_explained(t1, base_model, tmp_path, monkeypatch):
    """It is encoded as a search does it, and its index is used by the next search."""
    monkeypatch.chdir(tmp_path)
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "tea.md").write_text("# Tea\n\nSteep green tea at 80 degrees.\n")
    (notes / "cats.csv").write_text("name,sound\nTom,purrs\nFelix,hisses\n")
    options = ("-m", base_model, "--max-thought-tokens", 4, "--json")
    answer = t1("explain", "notes", "who purrs?", "-n", 1, *options)
    assert answer.code == 0, answer.err
    assert "3 passages, 3 encoded" in answer.err
    assert answer.json["num_documents"] == 3
    search = t1("search", "notes", "who purrs?", "--no-hybrid", *options)
    assert "encoded" not in search.err
    results = search.json["results"]
    assert [hit["document_id"] for hit in answer.json["hits"]] == [item["id"] for item in results]
    assert answer.json["thoughts"][0]["text"] == search.json["thoughts"][0]["text"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("x", "-o", "INDEX"), "is a folder, not a file"),
        ((" ",), "is empty"),
        (("x", "-n", "0"), "--n"),
        (("x", "--max-thought-tokens", "5000"), "the model has 4096"),
    ],
)
def test_mistakes(t1, pets_index, given, named):
    answer = t1("explain", pets_index, *(word.replace("INDEX", str(pets_index)) for word in given))
    assert answer.code == 2
    assert named in answer.err
