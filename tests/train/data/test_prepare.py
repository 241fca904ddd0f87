import dataclasses
import json
from pathlib import Path

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import load_collection
from t1_jax.train.data import (
    COLLECTION,
    RECORDS,
    PreparedPairs,
    TrainingSet,
    check_prepared,
    prepare_pairs,
    read_pairs,
    read_records,
    save_prepared,
)

ANIMALS = ("cat", "dog", "fish", "bird", "horse", "snake", "bee", "owl", "ant", "fox")
ASKED = ("where is the {}", "who has seen that {}", "a {} ate my lunch")


def without_thoughts(data: TrainingSet):
    return data.records, 0


@pytest.fixture
def pairs(tmp_path: Path):
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"query": form.format(name), "positive": f"The animal is a {name}."}
        for form in ASKED
        for name in ANIMALS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_pairs([path])


def prepared_from(pairs, **options) -> PreparedPairs:
    return prepare_pairs(pairs, "zoo", held_out=True, write_thoughts=without_thoughts, **options)


def test_queries_are_held_out_once_and_the_rest_is_trained_on(pairs):
    prepared = prepared_from(pairs)
    ids = {split: {q.id for q in part.queries} for split, part in prepared.splits.items()}
    assert set(ids) == {"train", "validation", "test"}
    assert sum(map(len, ids.values())) == len(set.union(*ids.values())) == 30
    assert {record.query_id for record in prepared.training.records} == ids["train"]


def test_a_group_of_queries_is_held_out_as_a_whole(pairs):
    groups = {record.query_id: next(iter(record.positives)) for record in pairs.records}

    def held(prepared: PreparedPairs, split: str) -> set[str]:
        return {groups[query.id] for query in prepared.splits[split].queries}

    grouped, free = prepared_from(pairs, groups=groups), prepared_from(pairs)
    assert held(grouped, "train").isdisjoint(held(grouped, "test") | held(grouped, "validation"))
    assert held(free, "train") & held(free, "test")


def test_nothing_is_held_out_if_asked_so(pairs):
    prepared = prepare_pairs(pairs, "zoo", held_out=False, write_thoughts=without_thoughts)
    assert set(prepared.splits) == {"train"}
    assert len(prepared.training.records) == 30


def test_too_few_queries_to_hold_some_out(pairs):
    few = dataclasses.replace(pairs, records=pairs.records[:2])
    with pytest.raises(DataError, match="leave none for train") as caught:
        prepared_from(few)
    assert "--no-validation" in str(caught.value.hint)


def test_the_saved_folder_is_what_training_reads(pairs, tmp_path):
    prepared = prepared_from(pairs)
    assert not check_prepared(prepared, tmp_path / "run")
    save_prepared(prepared, tmp_path / "run")
    folder = tmp_path / "run"
    for split, part in prepared.splits.items():
        assert load_collection(folder / COLLECTION, split).qrels_hash == part.qrels_hash
    assert read_records(folder / RECORDS) == prepared.training.records


def test_other_data_do_not_replace_those_of_a_run(pairs, tmp_path):
    folder = tmp_path / "run"
    save_prepared(prepared_from(pairs), folder)
    assert check_prepared(prepared_from(pairs), folder)
    others = prepared_from(dataclasses.replace(pairs, records=pairs.records[1:]))
    with pytest.raises(DataError, match="prepared from other data"):
        check_prepared(others, folder)
    save_prepared(others, folder)
    assert check_prepared(others, folder)
    assert read_records(folder / RECORDS) == others.training.records
