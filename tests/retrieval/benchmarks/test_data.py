"""The readers of benchmarks: what they keep, what they reject, and with which words."""

import dataclasses
import json
import shutil

import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import load_collection, save_collection
from t1_jax.retrieval.benchmarks import (
    BenchmarkData,
    load_benchmark,
    read_rewriting,
    write_source,
)
from tests.retrieval.benchmarks.bright_files import (
    DOCUMENTS,
    EXAMPLES,
    TINY_LONG,
    example,
    split_file,
    write_parquet,
)

OLD = "a75a0eb483f6a5233a6efc2d63d71540a4443dfb"


@pytest.fixture
def data(tiny, bright_folder) -> BenchmarkData:
    return BenchmarkData(benchmark=tiny, folder=bright_folder)


def test_a_task_is_a_collection_with_exclusions(data):
    biology = data.collection("biology")
    assert [document.id for document in biology.documents] == ["b 1", "b 2", "b 3", "b 4", "b 5"]
    assert biology.documents_by_id["b 2"].text == "bbbb\n"
    assert biology.qrels == {"0": {"b 1": 1, "b 4": 1}, "1": {"b 3": 1}}
    assert biology.excluded == {"0": frozenset({"b 5"})}
    assert biology.notes == {
        "duplicate lines in the corpus (ignored)": 1,
        "excluded ids that the corpus lacks (ignored)": 1,
    }
    assert (biology.name, biology.task) == ("tiny-biology", "biology")
    assert biology.metadata["queries"] == "original"
    assert biology.metadata["dataset"] == "xlangai/BRIGHT"
    assert biology.metadata["revision"] == "unknown"
    assert data.queries("biology") == biology.queries


def test_shared_documents_are_read_once(data, bright_folder):
    documents = data.documents("aops")
    shutil.rmtree(bright_folder / "documents")
    aops = data.collection("aops", documents)
    questions = data.collection("theoremqa_questions", documents)
    assert questions.documents is aops.documents
    assert questions.excluded == {"t/0": frozenset({"m1"})}
    assert questions.data_hash == aops.data_hash


def test_long_documents_have_their_own_labels(tmp_path, bright_folder):
    (tmp_path / "long.yaml").write_text(TINY_LONG)
    long = BenchmarkData(benchmark=load_benchmark(tmp_path / "long.yaml"), folder=bright_folder)
    biology = long.collection("biology")
    assert biology.qrels == {"0": {"whole 1": 1}, "1": {"whole 2": 1}}
    assert biology.excluded == {}
    assert biology.task == "biology_long"


def test_only_mteb_strips_documents(data):
    stripped = dataclasses.replace(data, strip_documents=True).collection("biology")
    assert stripped.documents_by_id["b 2"].text == "bbbb"
    assert stripped.data_hash != data.collection("biology").data_hash


def test_the_counts_of_the_benchmark_are_checked(data, bright_folder):
    rows = EXAMPLES["theoremqa_questions"]
    path = split_file(bright_folder, "examples", "theoremqa_questions")
    write_parquet(path, [*rows, example("t/1", "mmmm", ["m2"])])
    with pytest.raises(DataError, match="has 2 queries, and Tiny has 1 .*a75a0eb is rejected"):
        data.queries("theoremqa_questions")
    write_parquet(path, [example("t/0", "vvvv", ["m3", "m2"])])
    with pytest.raises(DataError, match="has 2 relevance labels, and Tiny has 1"):
        data.collection("theoremqa_questions")
    write_parquet(path, [example("t/0", "vvvv", ["m3", "m3"])])  # one label, listed twice
    assert data.collection("theoremqa_questions").qrels == {"t/0": {"m3": 1}}


def test_a_known_commit_must_be_that_of_the_benchmark(data, bright_folder):
    wanted = data.benchmark.revision
    write_source(bright_folder, {"xlangai/BRIGHT": wanted})
    fresh = dataclasses.replace(data)
    assert fresh.collection("pony").metadata["revision"] == wanted
    write_source(bright_folder, {"xlangai/BRIGHT": OLD})
    with pytest.raises(DataError, match="is rejected: it is of June 2024"):
        dataclasses.replace(data).revisions  # noqa: B018
    write_source(bright_folder, {"xlangai/BRIGHT": "0" * 40})
    with pytest.raises(DataError, match=f"is revision {'0' * 40} .* has {wanted}"):
        dataclasses.replace(data).revisions  # noqa: B018
    (bright_folder / "source.json").write_text("[]")
    with pytest.raises(DataError, match=r"source\.json is malformed"):
        dataclasses.replace(data).revisions  # noqa: B018


def test_the_commit_of_a_snapshot_is_in_its_path(data, bright_folder, tmp_path):
    snapshot = tmp_path / "snapshots" / OLD
    shutil.copytree(bright_folder, snapshot)
    with pytest.raises(DataError, match="is rejected"):
        dataclasses.replace(data, folder=snapshot).revisions  # noqa: B018


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([{"id": "p1", "content": "x"}, {"id": "p1", "content": "y"}], ":2: id 'p1' occurred"),
        ([{"id": "p1", "content": None}, {"id": "p1", "content": "y"}], ":1: document 'p1'"),
        ([{"id": "", "content": "x"}], ':1: field "id": the id is empty'),
        ([{"id": "p1", "content": 3}], ':1: field "content" must be a string'),
        ([{"id": "p1", "text": "x"}], "has no column 'content'; found id, text"),
        ([{"id": "p2", "content": "x"}], ":1: unknown document 'p1'"),
    ],
)
def test_malformed_documents(data, bright_folder, rows, named):
    path = split_file(bright_folder, "documents", "pony")
    write_parquet(path, rows)
    with pytest.raises(DataError) as caught:
        data.collection("pony")
    assert named in caught.value.message
    assert "pony-00000-of-00001.parquet" in caught.value.message


def test_lenient_reading_keeps_labels_of_absent_documents(data, bright_folder):
    path = split_file(bright_folder, "documents", "pony")
    write_parquet(path, [{"id": "p2", "content": "x"}, {"id": "p4", "content": " "}])
    with pytest.raises(DataError, match="1 document without title and text"):
        data.collection("pony")
    pony = dataclasses.replace(data, lenient=True).collection("pony")
    assert pony.absent_qrels == {"0": {"p1": 1}}
    assert [document.id for document in pony.documents] == ["p2"]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([example("0", "oooo", ["p1"], excluded=["p1"])], "'p1' of query '0' is both relevant"),
        ([example("0", " ", ["p1"])], ':1: field "query": the text is empty'),
        ([example("0", "x", []), example("0", "y", ["p1"])], ":2: query '0' occurred before"),
        ([{**example("0", "x", []), "gold_ids": "p1"}], ':1: field "gold_ids" must be a list'),
        ([{**example("0", "x", ["p1"]), "excluded_ids": [3]}], '"excluded_ids" must be a list of'),
    ],
)
def test_malformed_examples(data, bright_folder, rows, named):
    write_parquet(split_file(bright_folder, "examples", "pony"), rows)
    with pytest.raises(DataError) as caught:
        data.queries("pony")
    assert named in caught.value.message


def test_missing_and_damaged_files(data, bright_folder):
    path = split_file(bright_folder, "documents", "pony")
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=r"pony-00000-of-00001\.parquet does not exist"):
        data.files("pony")
    path.write_bytes(content[:-9])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        data.collection("pony")


def test_a_corpus_in_several_files_must_be_complete(data, bright_folder):
    split_file(bright_folder, "documents", "pony").unlink()
    rows = [{"id": name, "content": text} for name, text in DOCUMENTS["pony"]]
    folder = bright_folder / "documents"
    write_parquet(folder / "pony-00000-of-00002.parquet", rows[:1])
    with pytest.raises(DataError, match=r"pony-00001-of-00002\.parquet does not exist"):
        data.collection("pony")
    write_parquet(folder / "pony-00001-of-00002.parquet", rows[1:])
    assert [document.id for document in data.collection("pony").documents] == ["p1", "p2", "p3"]
    assert len(data.file_hashes("pony")) == 3


def test_queries_can_be_rewritten(data, bright_folder, tmp_path):
    original = data.collection("biology")
    rewriting = read_rewriting("gpt4_reason", bright_folder, ["biology"])
    rewritten = dataclasses.replace(data, rewriting=rewriting)
    collection = rewritten.collection("biology")
    assert [query.text for query in collection.queries] == ["aaaa z", "bb c z"]
    assert collection.queries == rewritten.queries("biology")
    assert collection.qrels == original.qrels
    assert collection.metadata["queries"] == "gpt4_reason"
    assert collection.qrels_hash != original.qrels_hash
    path = tmp_path / "own.json"
    path.write_text(json.dumps([{"id": "0", "query": "bbbb"}, {"id": "1", "query": "cccc"}]))
    of_file = dataclasses.replace(
        data, rewriting=read_rewriting(str(path), bright_folder, ["biology"])
    )
    assert of_file.queries_name == "own.json"
    assert of_file.queries("biology")[0].text == "bbbb"
    path.write_text(json.dumps({"pony": [{"id": "0", "query": "y"}], "aops": []}))
    assert read_rewriting(str(path), bright_folder, ["pony"]).texts == {"pony": {"0": "y"}}


@pytest.mark.parametrize(
    ("content", "error", "named"),
    [
        ('[{"id": "0", "query": "x"}]', DataError, "has no text for the query '1' of biology"),
        (
            json.dumps([{"id": name, "query": "x"} for name in "012"]),
            DataError,
            "has a text for the unknown query '2'",
        ),
        ('[{"id": "0"}]', DataError, "entry 1 of biology is not an object with the strings"),
        ('[{"id": "0", "query": " "}]', DataError, "entry 1 of biology: the text is empty"),
        ('[{"id": "0", "query": "x"}, {"id": "0", "query": "x"}]', DataError, "occurred before"),
        ('{"pony": []}', DataError, "has no queries of biology"),
        ('{"biology": 3}', DataError, "biology is not a list"),
        ("3", DataError, "expected a list or an object, found int"),
        ("[", DataError, "cannot be read as JSON"),
    ],
)  # fmt: skip
def test_malformed_rewritings(data, bright_folder, tmp_path, content, error, named):
    (tmp_path / "own.json").write_text(content)

    def read() -> None:
        rewriting = read_rewriting(str(tmp_path / "own.json"), bright_folder, ["biology"])
        dataclasses.replace(data, rewriting=rewriting).collection("biology")

    with pytest.raises(error) as caught:
        read()
    assert named in caught.value.message


def test_unknown_rewritings(bright_folder, tmp_path):
    with pytest.raises(ConfigError, match="use one of gpt4_reason, or a .json file"):
        read_rewriting("gpt5_reason", bright_folder, ["biology"])
    (tmp_path / "own.json").write_text("[]")
    with pytest.raises(ConfigError, match="one list of queries, and there are 2 tasks"):
        read_rewriting(str(tmp_path / "own.json"), bright_folder, ["biology", "pony"])


def write_nano(folder):
    write_parquet(
        folder / "corpus" / "train-00000-of-00001.parquet",
        [{"_id": "d1", "text": "one"}, {"_id": "d2", "text": "two"}, {"_id": "d3", "text": ""}],
    )
    write_parquet(
        folder / "queries" / "train-00000-of-00001.parquet",
        [{"_id": "q1", "text": "1"}, {"_id": "q2", "text": "2"}],
    )
    write_parquet(
        folder / "qrels" / "train-00000-of-00001.parquet",
        [{"query-id": "q1", "corpus-id": "d1"}, {"query-id": "q2", "corpus-id": "d3"}],
    )


def test_nanobeir_leaves_out_empty_documents_and_keeps_their_labels(tmp_path):
    write_nano(tmp_path / "NanoNQ")
    data = BenchmarkData(benchmark=load_benchmark("nanobeir"), folder=tmp_path)
    assert [query.id for query in data.queries("NanoNQ")] == ["q1", "q2"]
    nano = data.collection("NanoNQ")
    assert [document.id for document in nano.documents] == ["d1", "d2"]
    assert nano.all_qrels == {"q1": {"d1": 1}, "q2": {"d3": 1}}
    assert nano.metadata["dataset"] == "zeta-alpha-ai/NanoNQ"
    assert len(data.files("NanoNQ")) == 3
    with pytest.raises(DataError, match="NanoFEVER does not exist"):
        data.queries("NanoFEVER")
    path = tmp_path / "NanoNQ" / "qrels" / "train-00000-of-00001.parquet"
    rows = [{"query-id": "q1", "corpus-id": "d1", "score": label} for label in (1, 2)]
    write_parquet(path, rows)
    with pytest.raises(DataError, match="'q1' has two labels for document 'd1'"):
        data.collection("NanoNQ")


def test_folders_in_the_layout_of_beir(tmp_path, data):
    save_collection({"dev": data.collection("biology")}, tmp_path / "own" / "bugs")
    (tmp_path / "own.yaml").write_text(
        "name: own\ntitle: Own\nlayout: beir\ntasks: {bugs: {split: dev, queries: 2}, docs: {}}"
    )
    own = BenchmarkData(
        benchmark=load_benchmark(tmp_path / "own.yaml"), folder=tmp_path / "own", hint="look"
    )
    collection = own.collection("bugs")
    assert collection.qrels == load_collection(tmp_path / "own" / "bugs", "dev").qrels
    assert (collection.name, collection.task) == ("own-bugs", "bugs")
    assert own.queries("bugs") == ()
    assert own.documents("bugs") is None
    assert "bugs/corpus.jsonl" in own.file_hashes("bugs")
    with pytest.raises(DataError, match="docs does not exist") as caught:
        own.queries("docs")
    assert caught.value.hint == "look"
