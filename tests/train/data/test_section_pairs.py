from pathlib import Path

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import read_folder
from t1_jax.train.data import section_pairs

TEA = """# Green tea

Steep it at eighty degrees. Boiling water makes the leaves bitter, and they lose their smell.
Pour the water off after two minutes.

## Storage

Keep the leaves dry and dark in a tin. Light fades them within a few weeks, as air does too.
"""
LATE_TRAINS = "The train was late again on Monday. The clerk there could not say for how long."


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "tea.md").write_text(TEA)
    (tmp_path / "late-trains.txt").write_text(LATE_TRAINS)
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    return tmp_path


def test_headings_names_and_sentences_find_the_passage_without_them(notes):
    found = section_pairs(read_folder(notes).documents, least=1)
    documents = {document.id: document for document in found.pairs.documents}
    positives = {}
    for record in found.pairs.records:
        (name,) = record.positives
        positives[record.query] = documents[name]
        assert record.query not in documents[name].full_text
    assert {"Green tea", "late trains", "Steep it at eighty degrees."} <= set(positives)
    assert positives["Green tea"].text.startswith("Steep it at eighty degrees.")
    assert positives["Green tea: Storage"].title == ""
    first = positives["Steep it at eighty degrees."]
    assert (first.title, first.text[:7]) == ("Green tea", "Boiling")
    assert positives["The train was late again on Monday."].text.startswith("The clerk")
    assert found.counts["headings"] == 2
    assert found.counts["file names"] == 1


def test_the_other_forms_of_a_passage_are_excluded(notes):
    found = section_pairs(read_folder(notes).documents, least=1)
    (heading,) = (record for record in found.pairs.records if record.query == "Green tea")
    names = {document.id for document in found.pairs.documents}
    forms = {name for name in names if name.split(" without")[0] == "tea.md:3"}
    assert len(forms) > 2
    assert heading.excluded | heading.positives.keys() == forms


def test_queries_of_one_section_are_one_group(notes):
    found = section_pairs(read_folder(notes).documents, least=1)
    groups = {record.query: found.groups[record.query_id] for record in found.pairs.records}
    assert groups["Green tea"] == groups["Steep it at eighty degrees."]
    assert groups["Green tea"] != groups["Green tea: Storage"]


def test_code_tables_and_front_matter_are_no_queries(tmp_path):
    (tmp_path / "guide.md").write_text(
        "---\ntitle: the guide\nsection: one of two\n---\n\n"
        "# The guide\n\n```\nmake all of it now\n```\n\n| a | table of words here |\n\n"
        "- Read this sentence before all of the others.\n\nThen go on with the next page here.\n"
    )
    found = section_pairs(read_folder(tmp_path).documents, least=1)
    assert {record.query for record in found.pairs.records} == {
        "The guide",
        "Read this sentence before all of the others.",
        "Then go on with the next page here.",
    }


def test_a_text_that_many_passages_share_is_no_query(tmp_path):
    for number in range(3):
        text = f"# Usage notes\n\nTool number {number} reads a file of settings and prints them.\n"
        (tmp_path / f"tool{number}.md").write_text(text)
    with pytest.raises(DataError, match="give 0 headings, names and sentences") as caught:
        section_pairs(read_folder(tmp_path).documents)
    assert "t1 search" in str(caught.value.hint)
