"""The shipped benchmarks state what the published tables are computed on."""

from pathlib import Path

import pytest

from t1_jax.config import to_yaml, undocumented_fields
from t1_jax.errors import ConfigError
from t1_jax.retrieval.benchmarks import (
    Benchmark,
    BenchmarkMean,
    BenchmarkTask,
    benchmark_names,
    load_benchmark,
)

OLD = "a75a0eb483f6a5233a6efc2d63d71540a4443dfb"


def test_bright_is_pinned_with_the_numbers_of_its_queries_and_labels():
    bright = load_benchmark("bright")
    assert bright.revision == "3066d29c9651a576c8aba4832d249807b181ecae"
    assert len(bright.tasks) == 12
    assert sum(task.queries for task in bright.tasks.values()) == 1384
    assert sum(task.qrels for task in bright.tasks.values()) == 7618
    assert bright.metric == "nDCG@10"
    assert bright.corpus_of("theoremqa_questions") == bright.corpus_of("aops") == "aops"
    assert set(bright.tasks) - set(bright.members("without Pony")) == {"pony"}
    assert bright.members("StackExchange") == tuple(bright.tasks)[:7]


def test_the_long_benchmark_has_other_documents_labels_and_metric():
    long = load_benchmark("bright-long")
    assert (long.documents, long.gold, long.metric) == (
        "long_documents",
        "gold_ids_long",
        "recall@1",
    )
    assert len(long.tasks) == 8
    assert long.instruction_of("pony") == "pony_long"
    assert long.tasks["pony"].mteb == "BrightPonyLongRetrieval"


@pytest.mark.parametrize("name", ["bright", "bright-long"])
def test_mteb_has_the_same_tasks_from_its_own_copy(name):
    own, mteb = load_benchmark(name), load_benchmark(name.replace("bright", "bright-mteb"))
    assert mteb.tasks == own.tasks
    assert mteb.dataset == "mteb/BRIGHT"
    assert mteb.revision == "c26703e6600d97c579ee2985f16cf307db13ed85"
    assert mteb.instructions == "mteb-v1.1"


def test_nanobeir_has_thirteen_data_sets():
    nano = load_benchmark("nanobeir")
    assert len(nano.tasks) == 13
    assert all(task.dataset == f"zeta-alpha-ai/{name}" for name, task in nano.tasks.items())
    assert nano.revision is None


@pytest.mark.parametrize("name", benchmark_names())
def test_a_shipped_file_says_the_command(name):
    path = Path(__file__).parents[3] / "t1_jax" / "resources" / "benchmarks" / f"{name}.yaml"
    assert f"t1 evaluate --benchmark {name} --output" in path.read_text()
    assert load_benchmark(name).name == name


def test_every_field_is_explained():
    for cls in (Benchmark, BenchmarkTask, BenchmarkMean):
        assert undocumented_fields(cls) == []


def test_the_old_revision_is_rejected_with_the_reason(tmp_path):
    path = tmp_path / "old.yaml"
    for revision in (OLD, OLD[:7]):
        path.write_text(f"extends: bright\nname: old\nrevision: {revision}\n")
        with pytest.raises(ConfigError, match="is rejected: it is of June 2024, with 205 and 65"):
            load_benchmark(path)


def test_a_benchmark_of_ones_own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\ntitle: Own\nlayout: beir\ntasks: {bugs: {split: dev}, docs: {}}\n"
        "means: {bugs only: {tasks: [bugs]}}\n"
    )
    own = load_benchmark(path)
    assert own.tasks["bugs"].split == "dev"
    assert own.members("bugs only") == ("bugs",)
    assert own.select(["docs", "bugs"]) == ("bugs", "docs") == own.select([])
    (tmp_path / "copy.yaml").write_text(to_yaml(own))
    assert load_benchmark(tmp_path / "copy.yaml").hash == own.hash


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("name: a/b", "'a/b' cannot name a folder"),
        ("tasks: {'..': {}}", "'..' cannot name a folder"),
        ("tasks: {aops: {corpus: aop}}", "tasks.aops.corpus: there is no task 'aop'"),
        ("layout: beir", "theoremqa_questions.corpus: a folder in the layout beir has its own"),
        ("means: {m: {without: [poni]}}", "did you mean 'pony'?"),
        ("means: {m: {tasks: [pony], without: [pony]}}", "means.m has no task"),
        ("metric: wow@10", "unknown metric 'wow@10'"),
        ("layout: beer", "beer"),
        ("taks: {}", "did you mean 'tasks'?"),
    ],
)
def test_what_makes_no_sense_is_rejected(tmp_path, change, named):
    base = "" if change.startswith("name") else "name: mine\n"
    (tmp_path / "mine.yaml").write_text(f"extends: bright\n{base}{change}\n")
    with pytest.raises(ConfigError) as caught:
        load_benchmark(tmp_path / "mine.yaml")
    assert named in str(caught.value)


def test_unknown_names(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'bright'"):
        load_benchmark("brigt")
    (tmp_path / "mine.yaml").write_text("extends: bright\nmetric: recall@10\n")
    with pytest.raises(ConfigError, match="differs from the benchmark 'bright' and has its name"):
        load_benchmark(tmp_path / "mine.yaml")
    with pytest.raises(ConfigError, match="did you mean 'biology'"):
        load_benchmark("bright").select(["biologie"])
