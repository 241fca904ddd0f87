"""`t1 search` over files of the user: no option is needed, and every result says where it is."""

import json
import shutil
from pathlib import Path

import pytest

from t1_jax import T1, Searcher, T1Error
from t1_jax.errors import ConfigError
from t1_jax.retriever import OpenedModel, default_index_folder

TEA = "# Tea\n\n## Brewing\n\nSteep green tea at 80 degrees. It is bitter otherwise.\n"
HOW = ("--max-thought-tokens", 4, "--json")


@pytest.fixture
def notes(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "notes"
    (folder / "code").mkdir(parents=True)
    (folder / "tea.md").write_text(TEA)
    (folder / "code" / "lock.py").write_text("def release(lock):\n    lock.free()\n")
    (folder / "cats.csv").write_text("name,sound\nTom,purrs\nFelix,hisses\n")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\0\0")
    return folder


@pytest.fixture(scope="module")
def trained(t1_in_module, base_model, tmp_path_factory) -> Path:
    """A model that says it was trained on a collection called `library`."""
    folder = tmp_path_factory.mktemp("trained") / "my-model"
    assert t1_in_module("import", base_model, folder).code == 0
    fields = json.loads((folder / "t1.json").read_text()) | {"trained_on": ["cwe", "library"]}
    (folder / "t1.json").write_text(json.dumps(fields))
    return folder


def found(answer):
    return [result["id"] for result in answer.json["results"]]


def test_files_are_found_with_title_sentence_line_and_thought(t1, notes, trained, monkeypatch):
    monkeypatch.setattr("t1_jax.retriever.search_source.DEFAULT_MODEL", str(trained))
    answer = t1("search", "notes/", "otherwise it is bitter", *HOW)
    assert answer.code == 0, answer.err
    best = answer.json["results"][0]
    assert (best["rank"], best["id"], best["title"]) == (1, "tea.md:5", "Tea > Brewing")
    assert (best["path"], best["line"]) == ("notes/tea.md", 5)
    assert best["snippet"] == "It is bitter otherwise."
    assert best["bm25"] > 0
    assert -1 <= best["cosine"] <= 1
    assert answer.json["ranking"] == "hybrid"
    assert len(answer.json["thoughts"]) == 1
    assert sorted(found(answer)) == ["cats.csv:2", "cats.csv:3", "code/lock.py:1", "tea.md:5"]
    for words in (
        "skipped 1 file (binary): photo.jpg",
        "was trained on cwe (weaknesses behind vulnerability reports) and library, not on notes/",
        "4 passages, 4 encoded",
    ):
        assert words in answer.err
    text = t1("search", "notes/", "otherwise it is bitter", *HOW[:2]).out
    assert "thought: " in text
    assert "notes/tea.md:5  Tea > Brewing\n    It is bitter otherwise.\n" in text
    assert sorted(path.name for path in notes.iterdir()) == [
        "cats.csv", "code", "photo.jpg", "tea.md"
    ]  # fmt: skip


def test_the_index_remembers_its_model_and_follows_the_files(t1, notes, trained):
    first = t1("search", "notes", "tea", "-m", trained, "--dtype", "float32", *HOW)
    assert first.code == 0, first.err
    again = t1("search", "notes", "tea", *HOW)
    assert again.code == 0, again.err
    assert "encoded" not in again.err
    assert again.json == first.json
    (notes / "tea.md").write_text(TEA + "\n## Cups\n\nChina.\n")
    (notes / "cats.csv").unlink()
    changed = t1("search", "notes", "china", *HOW)
    assert "3 passages, 1 encoded, 2 removed" in changed.err
    assert found(changed)[0] == "tea.md:9"
    (index,) = (Path(line.split(":")[0]) for line in changed.err.splitlines() if "encoded" in line)
    inside = t1("search", index, "china", *HOW)  # the index names its folder
    assert found(inside) == found(changed)
    shutil.rmtree(notes)
    gone = t1("search", index, "china", *HOW)
    assert "is gone; searching what was indexed" in gone.err
    assert set(found(gone)) == set(found(changed))


def test_a_model_that_was_trained_on_the_folder_ranks_alone(t1, notes, trained):
    notes.rename("library")
    answer = t1("search", "library", "tea", "-m", trained, *HOW)
    assert answer.json["ranking"] == "dense"
    assert "rank together" not in answer.err
    assert t1("search", "library", "tea", "--hybrid", *HOW).json["ranking"] == "hybrid"


def test_bm25_no_thought_and_a_thought_of_the_user(t1, notes, trained):
    lexical = t1("search", "notes", "who purrs", "--bm25", "--json")
    assert lexical.json["ranking"] == "bm25"
    assert found(lexical) == ["cats.csv:2"]
    assert t1("search", "notes", "xyz", "--bm25").out == "no document has a word of the query\n"
    options = ("-m", trained, "--no-hybrid", "--index", "here", "--json")
    silent = t1("search", "notes", "tea", "--no-think", *options)
    assert silent.json["thoughts"] == []
    given = t1("search", "notes", "tea", "--thought", "a cat that purrs", *options)
    assert given.code == 0, given.err
    assert "thought: a cat that purrs" in given.err
    cosines = [{r["id"]: r["cosine"] for r in answer.json["results"]} for answer in (silent, given)]
    assert cosines[0] != cosines[1]
    assert Path("here/manifest.json").exists()


def test_python_gives_the_answer_of_the_command(t1, notes, trained, capsys):
    query = "otherwise it is bitter"
    answer = t1("search", "notes", query, "-m", trained, *HOW)
    assert answer.code == 0, answer.err
    searcher = Searcher.open("notes")
    hits = searcher.search(query, max_thought_tokens=4)
    assert [(hit.id, hit.score) for hit in hits] == [
        (result["id"], result["score"]) for result in answer.json["results"]
    ]
    assert hits.ranking == answer.json["ranking"] == "hybrid"
    assert hits.thoughts == tuple(thought["text"] for thought in answer.json["thoughts"])
    best = hits[0]
    assert (best.path, best.line, best.sentence) == (
        Path("notes/tea.md"), 5, "It is bitter otherwise."
    )  # fmt: skip
    printed = t1("search", "notes", query, *HOW[:2]).out.splitlines()
    assert [line for line in printed if line] == str(hits).splitlines()
    index = default_index_folder(Path("notes"))
    alone = Searcher.open(index, ranking="dense", instruction="Find it")
    assert (alone.ranking, alone.model is None) == ("dense", False)
    assert [hit.bm25 for hit in alone.search(query, 2, think=False)] == [None, None]
    words = Searcher.open("notes/cats.csv", ranking="bm25")
    assert (words.model, [hit.line for hit in words.search("who purrs")]) == (None, [2])


def test_a_loaded_model_searches_files_and_is_not_read_again(notes, trained, monkeypatch):
    query = "otherwise it is bitter"
    expected = Searcher.open("notes", model=str(trained)).search(query, max_thought_tokens=4)
    model = T1.load(trained)

    def load(*_, **__):
        raise AssertionError("the weights are read again")

    monkeypatch.setattr(OpenedModel, "load", load)
    hits = model.search("notes", query, max_thought_tokens=4)
    assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in expected]
    assert str(hits) == str(expected)
    alone = model.search(
        default_index_folder(Path("notes")), query, 2, ranking="dense", think=False
    )
    assert (alone.ranking, alone.thoughts, len(alone)) == ("dense", (), 2)
    with pytest.raises(ConfigError, match="dtype cannot change"):
        Searcher.open("notes", model=model, dtype="float32")


@pytest.mark.parametrize(
    ("source", "model", "problem"),
    [
        ("nowhere/", None, "nowhere/ does not exist"),
        ("notes", None, "smollm2-135m-instruct"),
        ("notes", "nothing", "nothing"),
    ],
)
def test_python_has_the_errors_of_the_command(notes, source, model, problem):
    with pytest.raises(T1Error, match=problem):
        Searcher.open(source, model=model)


def test_an_index_that_is_not_of_files_names_the_lines_of_its_collection(t1, pets_index):
    answer = t1("search", pets_index, "who barks", *HOW)
    assert answer.code == 0, answer.err
    (dog,) = (result for result in answer.json["results"] if result["id"] == "dog")
    assert (dog["path"], dog["line"]) == ("corpus.jsonl", 2)


def test_without_a_query_queries_are_read_and_the_model_stays_loaded(
    t1, notes, trained, monkeypatch
):
    loads = []
    from t1_jax.retriever import loading

    load = loading.load_opened
    monkeypatch.setattr(loading, "load_opened", lambda *a, **k: loads.append(1) or load(*a, **k))
    answer = t1("search", "notes", "-m", trained, *HOW, stdin="tea\n\nwho purrs\n" + "x " * 9000)
    assert answer.code == 0, answer.err
    lines = [json.loads(line) for line in answer.out.splitlines()]
    assert [line["query"] for line in lines[:2]] == ["tea", "who purrs"]
    assert len(lines) == 3
    assert loads == [1]


def test_a_prompt_ends_at_an_empty_line(t1, notes, monkeypatch):
    monkeypatch.setattr("t1_jax.cli.search._is_terminal", lambda: True)
    answer = t1("search", "notes", "--bm25", stdin="purrs\n\nnever read\n")
    assert "Searching notes. An empty line ends." in answer.out
    assert answer.out.count("cats.csv:2") == 1
    assert answer.err.count("query: ") == 2


def test_collections_keep_their_ids(t1, pets, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = t1("search", pets, "who barks", "-m", trained, *HOW)
    assert answer.code == 0, answer.err
    best = answer.json["results"][0]
    assert (best["id"], best["path"], best["line"]) == ("dog", str(pets / "corpus.jsonl"), 2)
    one_file = t1("search", pets / "corpus.jsonl", "who barks", "--bm25", "--json")
    assert found(one_file)[0] == "dog"
    run = t1("search", pets, "-q", pets, "-o", "run.trec", *HOW)
    assert run.code == 0, run.err
    assert run.json["tag"] == "t1-hybrid"
    (tmp_path / "rows.jsonl").write_text('{"title": "Dog", "text": "It barks."}\n')
    assert found(t1("search", "rows.jsonl", "barks", "--bm25", "--json")) == ["rows.jsonl:1"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("nowhere/", "x"), "nowhere/ does not exist"),
        (("nowhere", "x"), "neither a folder nor a known collection"),
        (("cwe", "x"), "t1 pull cwe"),
        (("notes", "x"), "t1 pull smollm2-135m-instruct"),
        (("notes", "--thought", "x"), "--thought is a thought about one query"),
        (("notes", "x", "--thought", "y", "--no-think"), "--thought is a thought about one query"),
        (("notes", "x", "--thought", "y", "-n", "2"), "apply only where thoughts are sampled"),
        (("notes", "x", "-n", "2", "-m", "MODEL"), "set a temperature above 0"),
        (("notes", "x", "--bm25", "--hybrid"), "--hybrid would do nothing"),
        (("photos", "x"), "holds no text to search (skipped: binary)"),
    ],
)
def test_mistakes_are_found_before_weights_are_read(t1, notes, trained, monkeypatch, given, named):
    def load(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("t1_jax.retriever.loading.load_opened", load)
    Path("photos").mkdir()
    (notes / "photo.jpg").rename("photos/photo.jpg")
    answer = t1("search", *(str(trained) if word == "MODEL" else word for word in given))
    assert answer.code == 2
    assert named in answer.err


def test_ten_thousand_files_are_searched(t1, tmp_path):
    for number in range(10_000):
        (tmp_path / f"{number}.txt").write_text(f"Note {number}.")
    answer = t1("search", tmp_path, "note 77", "--bm25", "-k", 1, "--json")
    assert found(answer) == ["77.txt:1"]
