"""Training data by name: without leaks, with a split to validate on, or refused with a reason."""

import json
from pathlib import Path

import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import load_collection
from t1_jax.train.config import ValidationConfig
from t1_jax.train.data import DataConfig, SourceConfig
from t1_jax.train.sources import TrainingData, load_training_data, validation_subset
from tests.train.toy_runs import ANIMALS, zoo_records


def load(toys: Path, validation: ValidationConfig | None = None, **fields: object) -> TrainingData:
    source = SourceConfig(collection=str(toys / "zoo"), records=(str(toys / "zoo.jsonl"),))
    config = DataConfig(**{"sources": {"zoo": source}, **fields})
    return load_training_data(config, validation or ValidationConfig())


def add_record(toys: Path, **fields: object) -> None:
    record = {"query_id": "extra", "query": "extra", "positives": ["cat"], **fields}
    with (toys / "zoo.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def test_records_documents_and_what_is_held_out(toys):
    data = load(toys)
    (zoo,) = data.sets
    assert (zoo.name, len(zoo.records), len(zoo.documents)) == ("zoo", 24, len(ANIMALS))
    assert set(data.held_out) == {("zoo", "validation"), ("zoo", "test")}
    assert next(query.id for query in data.validation["zoo"].queries) == "validation-cat-0"
    facts = data.facts()
    assert facts["sets"]["zoo"]["thoughts"] == 24
    assert facts["leaks"] == {"exact": 0, "near": 0, "merged": 0, "validation": 0}
    assert json.loads(json.dumps(facts)) == facts


def test_without_files_the_collection_gives_its_training_queries(toys):
    source = SourceConfig(collection=str(toys / "zoo"))
    data = load_training_data(DataConfig(sources={"zoo": source}), ValidationConfig())
    assert {record.query_id for record in data.sets[0].records} == {
        record.query_id for record in zoo_records()
    }
    assert not any(record.thoughts for record in data.sets[0].records)


def test_the_shortest_thoughts_alone(toys):
    add_record(toys, thought=["a longer thought", "brief", "a thought"])
    path = (str(toys / "zoo.jsonl"),)
    source = SourceConfig(collection=str(toys / "zoo"), records=path, shortest_thoughts=2)
    (zoo,) = load(toys, sources={"zoo": source}).sets
    assert zoo.records[-1].thoughts == ("brief", "a thought")
    assert zoo.records[0].thoughts == ("a cat",)
    with pytest.raises(ConfigError, match="shortest_thoughts must be at least 1"):
        SourceConfig(collection="zoo", shortest_thoughts=0)


def test_held_out_texts_are_taken_out_and_counted(toys):
    add_record(toys, query="my CAT is ill.")  # of the test split, but for case
    add_record(toys, query_id="near", query="What does the cat eat??")
    add_record(toys, query_id="again", query="Where is the cat?", positives=["dog"])
    data = load(toys, leaks="remove")
    assert (data.leaks.exact, data.leaks.near, data.leaks.merged) == (1, 1, 1)
    records = {record.query_id: record for record in data.sets[0].records}
    assert not {"extra", "near", "again"} & records.keys()
    assert set(records["train-cat-0"].positives) == {"cat", "dog"}
    assert load(toys, near_duplicates=1.0, leaks="remove").leaks.near == 0


def test_validation_queries_that_the_test_split_has_too_are_taken_out_and_counted(toys):
    queries = toys / "zoo" / "queries.jsonl"
    lines = [json.loads(line) for line in queries.read_text().splitlines()]
    for line in lines:
        if line["_id"] == "validation-dog-0":
            line["text"] = "MY CAT is ill!"
    queries.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (toys / "zoo" / "collection.json").unlink()
    data = load(toys)
    assert data.validation_leaks == data.facts()["leaks"]["validation"] == 1
    names = [query.id for query in data.validation["zoo"].queries]
    assert len(names) == len(ANIMALS) - 1
    assert "validation-dog-0" not in names


@pytest.mark.parametrize("fields", [{"query": "My cat is ill."}, {"thought": "My cat is ill."}])
def test_a_test_text_in_a_file_is_refused(toys, fields):
    add_record(toys, **fields)
    with pytest.raises(DataError, match=r"zoo\.jsonl: .* the text of query 'test-cat-0'") as error:
        load(toys)
    assert "data.leaks=remove" in str(error.value)


def test_a_collections_own_leaks_and_near_ones_are_taken_out_and_counted(toys):
    add_record(toys, query="What does the cat eat??")
    assert load(toys).leaks.near == 1
    queries = toys / "zoo" / "queries.jsonl"
    lines = [json.loads(line) for line in queries.read_text().splitlines()]
    for line in lines:
        if line["_id"] == "train-dog-0":
            line["text"] = "My cat is ill."
    queries.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (toys / "zoo" / "collection.json").unlink()
    source = SourceConfig(collection=str(toys / "zoo"))
    assert load(toys, sources={"zoo": source}).leaks.exact == 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"positives": ["unicorn"]}, "zoo.jsonl:25: .*'unicorn', which the corpus does not have"),
        ({"thought": "it ends <emb_token>"}, r"zoo.jsonl:25: .*contains the text <emb_token>"),
        ({"query": " "}, "zoo.jsonl:25"),
        ({"query_id": "train-cat-0"}, "train-cat-0"),
    ],
)
def test_bad_records_are_named(toys, fields, told):
    add_record(toys, **fields)
    with pytest.raises(DataError, match=told):
        load(toys)


def test_sources_that_cannot_be(toys):
    zoo = SourceConfig(collection=str(toys / "zoo"))
    with pytest.raises(DataError, match="two sources are named zoo"):
        load_training_data(DataConfig(sources={"a": zoo, "b": zoo}), ValidationConfig())
    made = SourceConfig(collection=str(toys / "zoo"), documents=True)
    with pytest.raises(DataError, match="have no titles to make pairs from"):
        load_training_data(DataConfig(sources={"a": made}), ValidationConfig())
    nowhere = SourceConfig(collection="nowhere")
    with pytest.raises(DataError, match="nowhere"):
        load_training_data(DataConfig(sources={"a": nowhere}), ValidationConfig())


def test_any_collection_with_titles_gives_corpus_pairs(toys):
    corpus = toys / "zoo/corpus.jsonl"
    documents = [json.loads(line) for line in corpus.read_text().splitlines()]
    (toys / "zoo/collection.json").unlink()
    corpus.write_text(
        "".join(json.dumps({**row, "title": row["_id"].upper()}) + "\n" for row in documents)
    )
    zoo = SourceConfig(collection=str(toys / "zoo"), documents=True)
    (found,) = load_training_data(DataConfig(sources={"a": zoo}), ValidationConfig()).sets
    pairs = [record for record in found.records if record.is_of_corpus]
    assert {(record.query, record.thoughts) for record in pairs if "cat" in record.positives} == {
        ("The animal is a cat, which we call cat.", ("CAT.",)),
        ("CAT", ("The animal is a cat, which we call cat.",)),
    }


def test_the_split_to_validate_on(toys):
    train = load(toys, ValidationConfig(split="train"))
    assert {query.id for query in train.validation["zoo"].queries} == {
        record.query_id for record in zoo_records()
    }
    (toys / "zoo/qrels/validation.tsv").unlink()
    assert set(load(toys, ValidationConfig(split="train")).held_out) == {("zoo", "test")}
    with pytest.raises(DataError, match="has no split validation .* it has test, train"):
        load(toys)


def test_every_split_but_those_for_training_is_held_out(toys):
    """BEIR calls its validation split dev."""
    (toys / "zoo/collection.json").unlink()
    qrels = toys / "zoo/qrels"
    (qrels / "validation.tsv").rename(qrels / "dev.tsv")
    header = (qrels / "test.tsv").read_text().partition("\n")[0]
    (qrels / "held-out.tsv").write_text(f"{header}\ntrain-cat-0\tcat\t1\n")
    (qrels / "train-large.tsv").write_text(f"{header}\ntrain-dog-0\tdog\t1\n")
    data = load(toys, ValidationConfig(split="dev"), leaks="remove")
    assert set(data.held_out) == {("zoo", "dev"), ("zoo", "test"), ("zoo", "held-out")}
    assert len(data.validation["zoo"].queries) == len(ANIMALS)
    assert data.leaks.exact == 1
    learned = {record.query_id for record in data.sets[0].records}
    assert "train-dog-0" in learned
    assert "train-cat-0" not in learned
    (qrels / "train.tsv").unlink()  # of files of records the collection gives the documents alone
    assert load(toys, ValidationConfig(split="dev"), leaks="remove").sets == data.sets
    with pytest.raises(ConfigError, match="chosen on the split test"):
        ValidationConfig(split="test")


def test_flaws_of_a_collection_are_accepted_when_its_source_says_so(toys):
    with (toys / "zoo" / "qrels" / "validation.tsv").open("a") as file:
        file.write("validation-cat-0\tunicorn\t1\n")
    with (toys / "zoo" / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "nothing", "title": "", "text": ""}\n')
    (toys / "zoo" / "collection.json").unlink()
    with pytest.raises(DataError, match=r"1 document without title and text(?s:.*)lenient=true"):
        load(toys)
    source = SourceConfig(
        collection=str(toys / "zoo"), records=(str(toys / "zoo.jsonl"),), lenient=True
    )
    data = load(toys, sources={"zoo": source})
    assert data.facts()["sets"]["zoo"]["notes"] == {"documents without title and text (dropped)": 1}
    assert data.validation["zoo"].absent_qrels == {"validation-cat-0": {"unicorn": 1}}


def test_no_negative_is_the_query_itself_or_answers_it(toys):
    add_record(toys, query="Where is the cat?", negatives=["dog"], instruction="find dogs")
    add_record(toys, query_id="owl", query="is an owl a raptor?", negatives=["owl", "dog"])
    data = load(toys)
    records = {record.query_id: record for record in data.sets[0].records}
    assert records["owl"].negatives == ("dog",)
    assert records["owl"].excluded == {"owl"}
    assert data.facts()["removed_negatives"] == data.removed_negatives == 1


def test_a_part_of_a_collection_keeps_what_is_judged(toys):
    whole = load_collection(toys / "zoo", "validation")
    part = validation_subset(whole, ValidationConfig(queries=2, documents=3))
    assert len(part.queries) == 2
    judged = {name for grades in part.qrels.values() for name in grades}
    names = [document.id for document in part.documents]
    assert judged < set(names)
    assert len(names) == 3
    assert names == [name for name in ANIMALS if name in names]
    everything = validation_subset(whole, ValidationConfig(queries=None))
    assert everything == whole
