"""Thoughts in a file: as at once, resumed after any kill, and noticing every change."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from t1_jax.errors import DataError, T1Error
from t1_jax.generate import SamplingParams
from t1_jax.interrupt import Interrupted
from t1_jax.retrieval import Query
from t1_jax.retriever import T1, ThoughtCache, ThoughtCounts, journal, write_thoughts
from t1_jax.retriever.journal import Journal
from tests.retriever.tiny import Killed, with_provenance

QUERIES = tuple(Query(id=f"q{number}", text=f"query {number % 9}") for number in range(11))
SAMPLING = SamplingParams(seed=1)


@pytest.fixture
def model(tiny_t1: T1, tiny_origin) -> T1:
    return with_provenance(tiny_t1, tiny_origin)


def written(
    model: T1, output: Path, queries: Sequence[Query] = QUERIES, **options
) -> ThoughtCounts:
    fields = {
        "instruction": "Find it.", "max_thought_tokens": 3, "sampling": SAMPLING,
        "seed_by_id": False, "block_queries": 3,
    }  # fmt: skip
    return write_thoughts(model, iter(queries), output, **(fields | options))


def begun(model: T1, output: Path, **options) -> None:
    """A run that ends after three of four blocks."""

    def until() -> Iterator[Query]:
        yield from QUERIES[:9]
        raise Interrupted

    with pytest.raises(Interrupted):
        written(model, output, until(), **options)  # pyright: ignore[reportArgumentType]


def test_a_line_for_each_query_with_the_thoughts_of_the_model(model, tmp_path) -> None:
    counts = written(model, tmp_path / "t.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [(line["_id"], line["text"]) for line in lines] == [(q.id, q.text) for q in QUERIES]
    _, thoughts = model.encode_query(
        [query.text for query in QUERIES],
        instruction="Find it.",
        max_thought_tokens=3,
        sampling=SAMPLING,
        return_thoughts=True,
    )
    for line, (thought,) in zip(lines, thoughts, strict=True):
        (stored,) = line["thoughts"]
        assert stored["text"] == thought.text
        assert stored["finish_reason"] == thought.finish_reason.value
        assert stored["tokens"] == thought.reasoning_tokens
    flat = [thought for (thought,) in thoughts]
    assert counts == ThoughtCounts(
        queries=11,
        thoughts=11,
        tokens=sum(thought.reasoning_tokens for thought in flat),
        truncated=sum(thought.finish_reason.value == "length" for thought in flat),
        empty=sum(not thought.text.strip() for thought in flat),
    )


def test_truncated_repeated_empty_and_repetitive_are_counted(model, tmp_path, monkeypatch) -> None:
    texts = iter(["go on and on. " * 5, " \n", "fine"])
    tokenizer = type(model.tokenizer)
    monkeypatch.setattr(tokenizer, "decode_thought", lambda self, ids: next(texts))
    queries = [
        Query(id="a", text="same"),
        Query(id="b", text="same"),
        Query(id="c", text="long " * 500),
        Query(id="d", text="short"),
    ]
    counts = written(model, tmp_path / "t.jsonl", queries, block_queries=4)
    assert (counts.truncated_queries, counts.repeated_queries) == (1, 1)
    assert counts.thoughts == 4  # equal queries share a thought
    assert (counts.empty, counts.repetitive) in [(1, 1), (2, 1), (1, 2)]


@pytest.mark.parametrize("seed", range(20))
def test_killed_at_any_moment_it_goes_on_and_ends_in_the_same_bytes(
    model, tmp_path, monkeypatch, seed
) -> None:
    written(model, tmp_path / "straight.jsonl")
    output = tmp_path / "t.jsonl"
    chance = random.Random(seed)
    calls = 0

    def kill_in(
        patch: pytest.MonkeyPatch, module: object, name: str, after: int, *, half: bool = False
    ) -> None:
        function = getattr(module, name)

        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls <= after:
                return function(*arguments, **options)
            if half:  # some of the bytes reach the disk
                path, data = arguments
                function(path, data[: chance.randrange(len(data))])
            raise Killed

        patch.setattr(module, name, call)

    with monkeypatch.context() as patch:
        moment = chance.choice(["think", "append", "torn", "finish"])
        if moment == "think":
            kill_in(patch, type(model.sampler), "think", chance.randrange(4))
        elif moment == "finish":
            kill_in(patch, Journal, "finish", 0)
        else:
            kill_in(patch, journal, "append_durably", chance.randrange(8), half=moment == "torn")
        with pytest.raises(Killed):
            written(model, output)
    assert not output.exists()
    assert written(model, output).queries == 11
    assert output.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["straight.jsonl", "t.jsonl"]


def test_finished_blocks_are_not_thought_again_and_a_line_says_so(model, tmp_path) -> None:
    begun(model, tmp_path / "t.jsonl")
    lines: list[str] = []
    done: list[tuple[int, int]] = []
    counts = written(
        model,
        tmp_path / "t.jsonl",
        log=lines.append,
        progress=lambda queries, tokens: done.append((queries, tokens)),
    )
    assert lines == ["resuming: 9 queries have their thoughts"]
    assert counts.resumed == 9
    assert done[:3] == [(3, 0)] * 3
    assert sum(queries for queries, _ in done) == 11


def test_a_damaged_block_costs_it_and_those_after_it(model, tmp_path) -> None:
    begun(model, tmp_path / "t.jsonl")
    file = tmp_path / ".t.jsonl.parts" / "output"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # in the second of three blocks
    file.write_bytes(content)
    assert written(model, tmp_path / "t.jsonl").resumed == 3
    written(model, tmp_path / "straight.jsonl")
    assert (tmp_path / "t.jsonl").read_bytes() == (tmp_path / "straight.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"instruction": "Look."}, 'instruction was "Find it." and is "Look."'),
        ({"max_thought_tokens": 2}, "max_thought_tokens was 3 and is 2"),
        ({"sampling": replace(SAMPLING, temperature=0.5)}, "temperature was 1.0 and is 0.5"),
        ({"n": 2}, "n was 1 and is 2"),
        ({"seed_by_id": True}, "seed_by_id was false and is true"),
    ],
)
def test_another_setting_is_an_error_that_names_it(model, tmp_path, change, named) -> None:
    begun(model, tmp_path / "t.jsonl")
    with pytest.raises(T1Error, match="begun with other settings") as caught:
        written(model, tmp_path / "t.jsonl", **change)
    assert named in caught.value.message
    assert "add --overwrite" in (caught.value.hint or "")


def test_another_model_and_other_prompts_are_errors_too(model, tmp_path) -> None:
    begun(model, tmp_path / "t.jsonl")
    model.provenance = replace(model.provenance, fingerprint="1" * 64)
    model.preset = replace(model.preset, query_template=model.preset.query_template + " ")
    del model.__dict__["thought_fingerprint"]
    with pytest.raises(T1Error, match="model was .*; prompt was "):
        written(model, tmp_path / "t.jsonl")
    assert written(model, tmp_path / "t.jsonl", overwrite=True).resumed == 0


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        ((*QUERIES[:4], replace(QUERIES[4], text="changed"), *QUERIES[5:]), "in query 4 or a"),
        (QUERIES[:6], "there were more than 6"),
    ],
)
def test_queries_that_changed_are_an_error_and_overwritten_on_request(
    model, tmp_path, queries, said
) -> None:
    begun(model, tmp_path / "t.jsonl")
    with pytest.raises(T1Error, match=f"the queries changed since .*{said}"):
        written(model, tmp_path / "t.jsonl", queries)
    counts = written(model, tmp_path / "t.jsonl", queries, overwrite=True)
    assert counts.queries == len(queries)
    written(model, tmp_path / "straight.jsonl", queries)
    assert (tmp_path / "t.jsonl").read_bytes() == (tmp_path / "straight.jsonl").read_bytes()


def test_a_cache_gives_the_same_file(model, tmp_path) -> None:
    written(model, tmp_path / "plain.jsonl")
    model.thought_cache = ThoughtCache(tmp_path / "cache")
    for name in ("cold.jsonl", "warm.jsonl"):
        written(model, tmp_path / name)
        assert (tmp_path / name).read_bytes() == (tmp_path / "plain.jsonl").read_bytes()
    assert model.thought_cache.hits >= 9


def test_a_second_process_is_refused_and_no_query_is_an_error(model, tmp_path) -> None:
    with (
        Journal.opened(tmp_path / "t.jsonl", {}, start_again=False),
        pytest.raises(T1Error, match="another process is writing"),
    ):
        written(model, tmp_path / "t.jsonl")
    with pytest.raises(DataError, match="there is no query"):
        written(model, tmp_path / "u.jsonl", ())
