import json
import math
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from t1_jax.config import load_config
from t1_jax.errors import ConfigError, DataError
from t1_jax.train.data import (
    CORPUS_PREFIX,
    BatchIterator,
    Example,
    StageDataConfig,
    TrainingRecord,
    TrainingSet,
    epoch_steps,
)
from tests.train.data.toys import documents, trained_on, training_set

# Grain's shuffle takes the longer for an index the smaller the set is.
SETS = (training_set("a", 83), training_set("b", 41))
CONFIG = StageDataConfig(batch_size=6, hard_negatives=2, seed=5)


def batches(count: int, sets=SETS, config: StageDataConfig = CONFIG) -> list[tuple[Example, ...]]:
    return list(islice(BatchIterator(sets, config), count))


def test_the_stream_is_the_same_everywhere():
    """Expected values pinned: another Python, NumPy or Grain must not reorder a run."""
    (batch,) = batches(1)
    found = [(d.set_name, d.positive, d.negatives, (d.thought or "")[:9]) for d in batch]
    assert found == [
        ("a", "d44", ("d48", "d47"), "thought a"),
        ("a", "d81", ("d83", "d85"), "thought a"),
        ("a", "d76", ("d81", "d79"), "thought b"),
        ("b", "d31", ("d36", "d34"), "thought b"),
        ("a", "d57", ("d59", "d61"), "thought a"),
        ("a", "d77", ("d81", "d80"), "thought a"),
    ]


def test_a_draw_has_the_task_of_its_set_and_none_from_a_name():
    (plain,), (tasked,) = batches(1), batches(1, [replace(SETS[0], task="cwe"), SETS[1]])
    assert {(example.set_name, example.task) for example in plain} == {("a", None), ("b", None)}
    assert {(example.set_name, example.task) for example in tasked} == {("a", "cwe"), ("b", None)}


def test_a_stop_leaves_no_trace():
    straight = batches(20)
    for stop in (0, 1, 12):
        first = BatchIterator(SETS, CONFIG)
        assert list(islice(first, stop)) == straight[:stop]
        state = json.loads(json.dumps(first.state_dict()))
        second = BatchIterator(SETS, CONFIG)
        next(second)
        second.load_state_dict(state)
        assert list(islice(second, 20 - stop)) == straight[stop:]


def test_a_stop_while_draws_wait_leaves_no_trace():
    item = training_set("a", 17)
    config = replace(CONFIG, batch_size=15)
    straight = batches(6, [item], config)
    waited = 0
    for stop in range(1, 6, 2):
        first = BatchIterator([item], config)
        list(islice(first, stop))
        waited += bool(first.state_dict()["lanes"][""]["waiting"])
        second = BatchIterator([item], config)
        second.load_state_dict(first.state_dict())
        assert list(islice(second, 6 - stop)) == straight[stop:]
    assert waited  # or the test shows nothing


@pytest.mark.parametrize(
    ("sets", "config"),
    [
        (SETS, replace(CONFIG, seed=6)),
        (SETS, replace(CONFIG, batch_size=4)),
        (SETS[:1], CONFIG),
        ((SETS[0], training_set("b", 42)), CONFIG),
    ],
)
def test_a_position_in_other_data_is_refused(
    sets: tuple[TrainingSet, ...], config: StageDataConfig
):
    with pytest.raises(DataError, match="have changed since the checkpoint"):
        BatchIterator(sets, config).load_state_dict(BatchIterator(SETS, CONFIG).state_dict())


@pytest.mark.parametrize("records", [24, 25, 47])
def test_each_pass_has_every_record_once_and_no_batch_has_a_text_twice(records: int):
    passes = 6
    count = records * passes // 24
    drawn = batches(count, [training_set("a", records)], replace(CONFIG, batch_size=24))
    for batch in drawn:
        assert len({example.record.query for example in batch}) == len(batch) == 24
    counts = Counter(example.record.query_id for batch in drawn for example in batch)
    # At most one draw of each record waits at the end.
    assert set(counts) == {f"q{i}" for i in range(records)}
    assert set(counts.values()) <= {passes - 1, passes, passes + 1}


def test_records_that_repeat_a_text_are_in_different_batches():
    item = trained_on(*(f"text {i}" for i in range(8)), "Text 0", " text 0")
    drawn = batches(20, [item], replace(CONFIG, batch_size=3))
    for batch in drawn:
        assert len({example.record.query.strip().lower() for example in batch}) == 3
    assert {example.record.query_id for batch in drawn for example in batch} == {
        f"q{i}" for i in range(10)
    }


def test_order_and_choice_change_with_pass_and_seed():
    item = training_set("a", 6)
    one, two = ([example.record.query_id for example in batch] for batch in batches(2, [item]))
    assert sorted(one) == sorted(two)
    assert one != two
    other = batches(1, [item], replace(CONFIG, seed=6))[0]
    assert [example.record.query_id for example in other] != one

    def of_q0(passes: list[tuple[Example, ...]]) -> list[Example]:
        return [example for batch in passes for example in batch if example.record.query_id == "q0"]

    examples = of_q0(batches(12, [item]))
    assert len({example.thought for example in examples}) == 2
    assert len({example.negatives for example in examples}) > 4
    assert of_q0(batches(12, [item], replace(CONFIG, seed=6))) != examples


def test_what_is_chosen_belongs_to_the_record_and_not_to_the_batch():
    def choices(sets: list[TrainingSet], config: StageDataConfig) -> dict[str, Example]:
        first: dict[str, Example] = {}
        for batch in batches(40, sets, config):
            for example in batch:
                if example.set_name == "b":
                    first.setdefault(example.record.query_id, example)
        return first

    graded = replace(CONFIG, positives="graded")
    alone = choices([SETS[1]], graded)
    backwards = replace(SETS[1], records=SETS[1].records[::-1])
    assert len(alone) == 41
    assert choices([SETS[1], SETS[0]], replace(graded, batch_size=8)) == alone
    assert choices([backwards], graded) == alone


def test_parts_share_no_text_and_leave_none_out():
    def ids(sets: list[TrainingSet], query_range: tuple[float, float], seed: int = 5) -> set[str]:
        config = replace(CONFIG, query_range=query_range, batch_size=1, seed=seed)
        count = 2 * sum(len(item.records) for item in sets)
        return {f"{d.set_name}{d.record.query}" for (d,) in batches(count, sets, config)}

    first, second = ids([*SETS], (0.0, 0.6)), ids([*SETS], (0.6, 1.0))
    assert not first & second
    assert len(first | second) == 83 + 41
    assert 0.45 < len(first) / (83 + 41) < 0.75
    assert ids([*SETS], (0.0, 0.6), seed=6) == first
    config = replace(CONFIG, batch_size=1, query_range=(0.0, 0.6))
    assert epoch_steps(SETS[:1], config) == sum(id.startswith("a") for id in first)
    # The text decides: no stage sees under another name what is kept for a later one.
    texts = [f"text {i}" for i in range(20)]
    twins = trained_on(*texts, *(text.upper() for text in texts))
    found = ids([twins], (0.0, 0.5))
    assert 0 < len(found) < 40
    assert {text.lower() for text in found} & {
        text.lower() for text in ids([twins], (0.5, 1.0))
    } == set()


def test_a_part_that_holds_nothing_or_is_none():
    with pytest.raises(DataError, match=r"is in query_range \[0.0, 1e-06\]; it has 83"):
        BatchIterator(SETS, replace(CONFIG, query_range=(0.0, 1e-6)))
    for query_range in ((0.5, 0.5), (0.6, 0.2), (-0.1, 1.0), (0.0, 1.1), (math.nan, 1.0)):
        with pytest.raises(ConfigError, match="query_range must be two increasing fractions"):
            replace(CONFIG, query_range=query_range)


def test_negatives_are_the_records_own_and_never_twice():
    for batch in batches(20):
        for example in batch:
            assert len(set(example.negatives)) == len(example.negatives) == 2
            assert set(example.negatives) <= set(example.record.negatives)


def test_too_few_negatives_are_not_made_up():
    drawn = batches(5, [training_set("a", 10, negatives=1)])
    assert {len(example.negatives) for batch in drawn for example in batch} == {1}
    none = batches(5, SETS, replace(CONFIG, hard_negatives=0))
    assert {example.negatives for batch in none for example in batch} == {()}


def test_all_negatives_are_drawn_as_often():
    drawn = batches(2, [training_set("a", 1000, negatives=4)], replace(CONFIG, batch_size=1000))
    counts = Counter(
        example.record.negatives.index(name)
        for batch in drawn
        for example in batch
        for name in example.negatives
    )
    # 2000 draws of 2 of 4: mean 1000, standard deviation 22.
    assert all(abs(count - 1000) < 5 * 22 for count in counts.values())
    assert len(counts) == 4


def graded_set(positives: dict[str, int]) -> TrainingSet:
    records = tuple(
        TrainingRecord(query_id=f"q{i}", query=f"query {i}", positives=positives)
        for i in range(1000)
    )
    return TrainingSet(name="a", records=records, documents=documents(3))


def test_positives_in_proportion_to_their_grades():
    item = graded_set({"d0": 5, "d1": 1, "d2": 4})
    config = replace(CONFIG, batch_size=1000, positives="graded")
    counts = Counter(example.positive for batch in batches(2, [item], config) for example in batch)
    for name, share in (("d0", 0.5), ("d1", 0.1), ("d2", 0.4)):
        assert abs(counts[name] - 2000 * share) < 5 * math.sqrt(2000 * share * (1 - share))


def test_only_the_best_positives_by_default():
    item = graded_set({"d0": 5, "d1": 1, "d2": 5})
    drawn = batches(1, [item], replace(CONFIG, batch_size=200))
    counts = Counter(example.positive for batch in drawn for example in batch)
    assert counts.keys() == {"d0", "d2"}
    assert min(counts.values()) > 60


def test_thoughts_as_asked_for():
    mixed = trained_on("one", "two")
    with_one = replace(mixed.records[0], thoughts=("because",))
    mixed = replace(mixed, records=(with_one, mixed.records[1]))
    config = replace(CONFIG, batch_size=2)

    def thoughts(how: str) -> set[str | None]:
        (batch,) = batches(1, [mixed], replace(config, thoughts=how))
        return {example.thought for example in batch}

    assert thoughts("optional") == {"because", None}
    assert thoughts("none") == {None}
    with pytest.raises(DataError, match="set: query 'q1' has no thought, and 1 of 2 records"):
        thoughts("required")


def test_required_thoughts_are_drawn():
    drawn = batches(10, SETS, replace(CONFIG, thoughts="required"))
    assert all(example.thought in example.record.thoughts for batch in drawn for example in batch)


@pytest.mark.parametrize(
    ("mixture", "share"),
    [({}, 83 / 124), ({"a": 1.0, "b": 1.0}, 1 / 2), ({"a": 2.0, "b": 6.0}, 1 / 4)],
)
def test_sets_are_mixed_as_asked_for(mixture: dict[str, float], share: float):
    drawn = batches(60, SETS, replace(CONFIG, mixture=mixture))
    counts = Counter(example.set_name for batch in drawn for example in batch)
    assert counts["a"] / counts.total() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("mixture", "fault"),
    [
        ({"a": 1.0, "bb": 1.0}, r"mixture\.bb is not a set\n  hint: .*'?b"),
        ({"a": 1.0}, "the mixture has no share for b"),
        ({"a": 0.1, "b": 99.9}, "would contain query 'q0' of b more than once"),
    ],
)
def test_mixtures_that_cannot_be_drawn(mixture: dict[str, float], fault: str):
    with pytest.raises(ConfigError, match=fault):
        BatchIterator(SETS, replace(CONFIG, batch_size=42, mixture=mixture))


def with_corpus(name: str, queries: int, pairs: int) -> TrainingSet:
    """A set of which some records were made of the corpus."""
    item = training_set(name, queries + pairs)
    records = tuple(
        replace(record, query_id=f"{CORPUS_PREFIX}d{number}:0") if number >= queries else record
        for number, record in enumerate(item.records)
    )
    return replace(item, records=records)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_queries_and_texts_of_the_corpus_are_mixed_as_asked_for(share: float):
    sets = [with_corpus("a", 30, 90), with_corpus("b", 20, 15)]
    drawn = batches(50, sets, replace(CONFIG, corpus_pair_fraction=share))
    for name in ("a", "b"):
        kinds = [d.record.is_of_corpus for batch in drawn for d in batch if d.set_name == name]
        assert sum(kinds) / len(kinds) == pytest.approx(share, abs=0.02)
    # Each kind goes on where it stood, so that all of it comes up.
    asked = {d.record.query_id for batch in drawn for d in batch if not d.record.is_of_corpus}
    assert len(asked) == (30 if share < 1 else 0)


def test_both_kinds_come_up_as_often_as_there_are_any_by_default():
    drawn = batches(80, [with_corpus("a", 30, 90)])
    kinds = [example.record.is_of_corpus for batch in drawn for example in batch]
    assert sum(kinds) / len(kinds) == pytest.approx(0.75, abs=0.02)


def test_a_kind_that_a_set_does_not_have():
    with pytest.raises(DataError, match=r"a; it has none\n.*sources\.a\.documents=true"):
        BatchIterator(SETS, replace(CONFIG, corpus_pair_fraction=0.5))
    with pytest.raises(DataError, match="needs queries of a, which has none"):
        BatchIterator([with_corpus("a", 0, 9)], replace(CONFIG, corpus_pair_fraction=0.5))
    with pytest.raises(ConfigError, match="corpus_pair_fraction must be from 0 to 1, got 1.5"):
        replace(CONFIG, corpus_pair_fraction=1.5)


@pytest.mark.parametrize("corpus_pair_fraction", [None, 0.5])
def test_a_step_keeps_to_one_set(corpus_pair_fraction: float | None):
    sets = [with_corpus("a", 40, 43), with_corpus("b", 20, 21)]
    config = replace(
        CONFIG, homogeneous_batches=True, batch_size=15, corpus_pair_fraction=corpus_pair_fraction
    )
    straight = batches(30, sets, config)
    names = [{example.set_name for example in batch} for batch in straight]
    assert all(len(found) == 1 for found in names)
    assert sum(found == {"a"} for found in names) / 30 == pytest.approx(83 / 124, abs=0.04)
    for batch in straight:
        assert len({example.record.query for example in batch}) == 15
    for stop in (1, 7):
        first = BatchIterator(sets, config)
        list(islice(first, stop))
        second = BatchIterator(sets, config)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert list(islice(second, 8)) == straight[stop : stop + 8]


def test_more_queries_for_a_step_are_others_of_its_set():
    sets = [training_set("a", 30), training_set("b", 24)]
    for config in (CONFIG, replace(CONFIG, homogeneous_batches=True)):
        config = replace(config, batch_size=10)
        stream = BatchIterator(sets, config)
        for _ in range(3):
            found = [*next(stream), *stream.more()]
            assert len({example.record.query for example in found}) == 20
            assert len({example.set_name for example in found}) == (
                1 if config.homogeneous_batches else 2
            )
    # In the end there are no others, and the next step starts again.
    stream = BatchIterator([training_set("a", 30)], replace(CONFIG, batch_size=12))
    assert [len(next(stream)), len(stream.more()), len(stream.more()), len(stream.more())] == [
        12, 12, 6, 0,
    ]  # fmt: skip
    assert len(next(stream)) == 12


def test_a_step_of_one_set_needs_its_queries():
    config = replace(CONFIG, homogeneous_batches=True)
    BatchIterator(SETS, replace(config, batch_size=41))
    with pytest.raises(ConfigError, match="of 42 queries would contain query 'q0' of b more"):
        BatchIterator(SETS, replace(config, batch_size=42))


def test_a_batch_larger_than_the_data_is_refused():
    BatchIterator([SETS[1]], replace(CONFIG, batch_size=41))
    with pytest.raises(ConfigError, match="of 42 queries would contain query 'q0' of b more"):
        BatchIterator([SETS[1]], replace(CONFIG, batch_size=42))
    with pytest.raises(ConfigError, match="a batch of 2 queries would contain query 'q1'"):
        BatchIterator([trained_on("one", "One", "two")], replace(CONFIG, batch_size=2))


def test_the_steps_of_an_epoch():
    assert epoch_steps([SETS[0]], replace(CONFIG, batch_size=83)) == 1
    assert epoch_steps([SETS[0]], replace(CONFIG, batch_size=82)) == 2
    assert epoch_steps([SETS[0]], replace(CONFIG, batch_size=100)) == 1
    equal = replace(CONFIG, mixture={"a": 1.0, "b": 1.0}, batch_size=16)
    assert epoch_steps(SETS, equal) == math.ceil(2 * 83 / 16)
    drawn = batches(epoch_steps(SETS, equal), SETS, equal)
    seen = {(example.set_name, example.record.query_id) for batch in drawn for example in batch}
    assert len(seen) >= 124 - 1  # one may wait
    kinds = replace(CONFIG, corpus_pair_fraction=0.25, batch_size=10)
    assert epoch_steps([with_corpus("a", 30, 90)], kinds) == 90 / (0.25 * 10)
    assert epoch_steps([with_corpus("a", 30, 90)], replace(kinds, homogeneous_batches=True)) == 36


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"hard_negatives": -1}, "hard_negatives must be at least 0"),
        ({"mixture": {"a": 0.0}}, r"mixture\.a must be a number above 0"),
        ({"mixture": {"a": math.inf}}, r"mixture\.a must be a number above 0"),
    ],
)
def test_impossible_settings_are_refused(fields: dict, fault: str):
    with pytest.raises(ConfigError, match=fault):
        StageDataConfig(**fields)


def test_the_config_is_read_from_overrides():
    overrides = ["positives=graded", "thoughts=required", "mixture.cwe=2.5", "batch_size=8"]
    assert load_config(StageDataConfig, overrides=overrides) == StageDataConfig(
        positives="graded", thoughts="required", mixture={"cwe": 2.5}, batch_size=8
    )
