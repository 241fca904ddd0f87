import pytest

from t1_jax.train.data import TrainingRecord, read_records, write_records


def test_words_give_negatives(t1, pets, tmp_path):
    out = tmp_path / "mined.jsonl"
    answer = t1("mine", "-c", pets, "--split", "test", "-o", out, "negatives=2", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["records"] == 4
    assert answer.json["taken"] == {"bm25": answer.json["mined"]}
    records = {record.query_id: record for record in read_records(out)}
    assert records["q3"].positives == {"owl": 1}
    assert set(records["q3"].negatives) == {"cat"}  # "hunts" is the only word they share
    again = tmp_path / "again.jsonl"
    answer = t1("mine", "-c", pets, "--split", "test", "-o", again, "negatives=2")
    assert "these are queries of test: do not train on them" in answer.out
    assert "BM25 drops only near duplicates of positives" in answer.out
    assert again.read_bytes() == out.read_bytes()


def test_vectors_of_an_index_and_words_together(t1, pets, pets_index, base_model, tmp_path):
    given = tmp_path / "given.jsonl"
    write_records(
        given,
        [
            TrainingRecord(
                query_id="a", query="who barks", positives={"dog": 1}, thoughts=("woof",)
            ),
            TrainingRecord(
                query_id="b",
                query="who barks again",
                positives={"dog": 1},
                thoughts=("woof",),
                instruction="Find it",
            ),
        ],
    )
    out = tmp_path / "mined.parquet"
    common = ("mine", "-c", pets, "--split", "test", "-r", given, "-m", base_model,
              "--dtype", "float32", "max_ratio=null")  # fmt: skip
    answer = t1(*common, "--by", "both", "--index", pets_index, "--thought", "given", "-o", out,
                "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["mined"] == 14
    assert answer.json["taken"]["dense"] > 0
    fresh = tmp_path / "fresh.parquet"
    assert t1(*common, "--by", "both", "--thought", "given", "-o", fresh).code == 0
    assert read_records(fresh) == read_records(out)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (("--index", "somewhere"), "BM25 needs no index"),
        (("negatives=0",), "negatives must be at least 1"),
        (("negativs=3",), "negatives"),
        (("-r", "gone.jsonl"), "gone.jsonl cannot be read"),
        (("--by", "dense", "--thought", "given"), "4 records without thought, the first is 'q1'"),
    ],
)
def test_a_users_mistake_is_named(t1, pets, tmp_path, more, fault):
    answer = t1("mine", "-c", pets, "--split", "test", "-o", tmp_path / "m.jsonl", *more)
    assert answer.code == 2
    assert fault in answer.err


def test_the_output_is_looked_at_first(t1, pets, tmp_path):
    taken = tmp_path / "taken.jsonl"
    taken.write_text("mine\n")
    answer = t1("mine", "-c", pets, "--split", "test", "-o", taken)
    assert (answer.code, taken.read_text()) == (2, "mine\n")
    assert "already exists" in answer.err
    assert t1("mine", "-c", pets, "--split", "test", "-o", taken, "--overwrite").code == 0
    answer = t1("mine", "-c", pets, "-o", tmp_path / "m.txt")
    assert "ends in .jsonl or .parquet" in answer.err
