"""Fuzzed benchmark files: every content gives a collection or a T1Error."""

import contextlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t1_jax.errors import T1Error
from t1_jax.retrieval import score_run
from t1_jax.retrieval.benchmarks import BenchmarkData, load_benchmark, read_rewriting
from tests.retrieval.benchmarks.bright_files import TINY, split_file, write_bright

CONFIGS = ("examples", "documents")

ids = st.sampled_from(["0", "1", "p1", "p2", "p 3", "N/A", "", " ", "\n", "é"])
texts = st.sampled_from(["oooo", "y", "", " ", "\u2028", "一"])
odd = st.none() | st.integers(0, 3) | st.booleans() | st.lists(ids, max_size=2) | texts


def rows(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows with these columns; a few of them have odd values, and a few columns are missing."""
    fields = st.fixed_dictionaries({}, optional=columns)
    whole = st.fixed_dictionaries(columns)
    return st.lists(whole, min_size=1, max_size=4) | st.lists(fields, min_size=1, max_size=2)


examples = rows(
    id=ids | odd,
    query=texts | odd,
    gold_ids=st.lists(ids, max_size=3) | odd,
    excluded_ids=st.lists(ids, max_size=3) | odd,
)
documents = rows(id=ids, content=texts) | rows(id=ids | odd, content=texts | odd)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkData:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "tiny.yaml").write_text(TINY.replace("pony: {queries: 1, qrels: 1}", "pony: {}"))
    tiny = load_benchmark(folder / "tiny.yaml")
    free = {name: {"queries": 0, "qrels": 0} for name in tiny.tasks}
    (folder / "free.yaml").write_text(f"extends: tiny.yaml\nname: free\ntasks: {free}\n")
    return BenchmarkData(
        benchmark=load_benchmark(folder / "free.yaml"), folder=write_bright(folder / "data")
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The undamaged files of a task."""
    folder = write_bright(tmp_path_factory.mktemp("whole"))
    return {name: split_file(folder, name, "pony").read_bytes() for name in CONFIGS}


def try_to_read(data: BenchmarkData, lenient: bool) -> None:
    with contextlib.suppress(T1Error):
        options = BenchmarkData(benchmark=data.benchmark, folder=data.folder, lenient=lenient)
        collection = options.collection("pony")
        assert len({document.id for document in collection.documents}) > 0
        score_run({}, collection.all_qrels, excluded=collection.excluded)


@settings(max_examples=100)
@given(rows=examples, documents=documents, lenient=st.booleans())
def test_no_rows_give_a_traceback(data: BenchmarkData, rows, documents, lenient: bool):
    for config, content in zip(CONFIGS, (rows, documents), strict=True):
        with contextlib.suppress(pa.ArrowException):  # rows that no table can hold
            pq.write_table(pa.Table.from_pylist(content), split_file(data.folder, config, "pony"))
    try_to_read(data, lenient)


@settings(max_examples=60)
@given(damaged=st.sampled_from(CONFIGS), choice=st.data(), lenient=st.booleans())
def test_no_bytes_give_a_traceback(
    data: BenchmarkData, whole: dict[str, bytes], damaged: str, choice: st.DataObject, lenient: bool
):
    for config, original in whole.items():
        split_file(data.folder, config, "pony").write_bytes(original)
    content = whole[damaged]
    start = choice.draw(st.integers(0, len(content) - 1))
    removed = choice.draw(st.integers(0, 9))
    added = choice.draw(st.binary(max_size=4))
    broken = content[:start] + added + content[start + removed :]
    split_file(data.folder, damaged, "pony").write_bytes(broken)
    try_to_read(data, lenient)


@given(content=st.binary(max_size=40) | st.text('[]{}":,01 idquery', max_size=40).map(str.encode))
def test_no_json_gives_a_traceback(data: BenchmarkData, content: bytes):
    path = data.folder / "own.json"
    path.write_bytes(content)
    with contextlib.suppress(T1Error):
        read_rewriting(str(path), data.folder, ["pony"])
