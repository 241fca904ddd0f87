"""`t1 adapt`: a folder becomes an adapter of its own, compared on held-out sections."""

from pathlib import Path

import pytest

from tests.cli.machine import use_known_machine
from tests.train.toy_runs import NO_HEALTH, SMALL

USES = {
    "kettle": "boils water",
    "violin": "plays music",
    "hammer": "drives nails",
    "lantern": "gives light",
    "basket": "holds apples",
    "anchor": "stops a ship",
    "ladder": "reaches a roof",
    "mirror": "shows a face",
    "whistle": "calls a dog",
}


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_known_machine(monkeypatch)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "notes"
    folder.mkdir()
    for thing, use in USES.items():
        (folder / f"{thing}.md").write_text(
            f"# The old {thing}\n\nMy {thing} {use} every single day. It came from a market in "
            f"town years ago.\n\n## Care of the {thing}\n\nClean the {thing} with a soft cloth. "
            f"Never leave a {thing} in the rain for a whole night.\n"
        )
    return folder


def toy_fields() -> list[str]:
    """The chosen recipe in the sizes that other tests compile, and one step of one stage."""
    micro_batch = ", ".join(f"{name}: {value}" for name, value in SMALL["micro_batch"].items())
    health = ", ".join(f"{name}: null" for name in NO_HEALTH)
    return [
        "model.dtype=float32",
        "model.remat=none",
        "data.lengths={query: 96, thought: 8, document: 64}",
        f"stages.s1.micro_batch={{{micro_batch}, keep_residuals: false}}",
        "stages.s1.data.batch_size=4",
        "stages.s1.steps=1",
        "run=[s1]",
        "validate_first=false",
        "validation.max_thought_tokens=4",
        f"health={{{health}}}",
    ]


def test_a_folder_is_learned_and_held_out_sections_show_what_it_gained(t1, notes, base_model):
    answer = t1("adapt", "notes", *toy_fields(), "-m", base_model, "--json")
    assert answer.code == 0, answer.err
    words = " ".join(answer.err.split())
    assert "notes: 9 files, 18 passages; queries: 18 headings" in words
    assert "notes/test: after minus before, own thought, nDCG@10" in words
    assert 't1 search notes "your query" -m runs/adapt-notes/train/best' in words
    result = answer.json
    assert result["queries"]["train"] > result["queries"]["test"] > 0
    weights = Path(result["weights"])
    assert (weights / "adapter_config.json").exists()


def test_the_plan_reads_the_folder_and_writes_nothing(t1, notes, base_model):
    answer = t1("adapt", notes, "-m", base_model, "--plan")
    assert answer.code == 0, answer.err
    assert "training takes about" in answer.out
    assert not (notes.parent / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere does not exist"),
        (("notes", "recipe.yaml"), "`t1 adapt` chooses its recipe itself"),
        (("empty",), "holds no text"),
        (("small",), "headings, names and sentences to learn from"),
    ],
)
def test_bad_input_is_a_message(t1, notes, base_model, arguments, message):
    (notes.parent / "empty").mkdir()
    (notes.parent / "small").mkdir()
    (notes.parent / "small" / "a.txt").write_text("One short note about nothing much at all.")
    answer = t1("adapt", *arguments, "-m", base_model)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
    assert not (notes.parent / "runs").exists()
