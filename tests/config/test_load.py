"""Configs from YAML and overrides, errors with their hints, and YAML that reads back equal."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.config import load_config, save_config
from t1_jax.errors import ConfigError
from tests.config.recipe import Optimizer, Recipe, Stage


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_defaults_then_file_then_overrides(tmp_path: Path) -> None:
    path = write(
        tmp_path, "name: s1\nsteps: 3\noptimizer:\n  betas: [0.8, 0.9]\nlosses: {sft: 1}\n"
    )
    recipe = load_config(Recipe, path, ["steps=5", "losses.triplet=2", "weights=a/b"])
    assert recipe == Recipe(
        name="s1",
        optimizer=Optimizer(rate=1e-5, betas=(0.8, 0.9)),
        steps=5,
        weights=Path("a/b"),
        losses={"sft": 1.0, "triplet": 2.0},
    )


@pytest.mark.parametrize(
    ("override", "warm_up"),
    [
        ("warm_up.rate=2e-3", Optimizer(rate=2e-3)),
        ("warm_up={rate: 2e-3}", Optimizer(rate=2e-3)),
        ("warm_up={}", Optimizer()),
        ("warm_up=null", None),
    ],
)
def test_an_optional_config_appears_when_it_is_given(
    override: str, warm_up: Optimizer | None
) -> None:
    assert load_config(Recipe, overrides=["name=a", override]).warm_up == warm_up


def test_a_value_may_refer_to_another() -> None:
    recipe = load_config(Recipe, overrides=["name=a", "note=run of ${name}"])
    assert recipe.note == "run of a"


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("optimizer.ratee=1", "unknown key 'optimizer.ratee'", "did you mean 'optimizer.rate'?"),
        ("schedule=1", "unknown key 'schedule'", "did you mean 'warm_up.schedule'?"),
        (
            "stages.s2.rate_facto=1",
            "unknown key 'stages.s2.rate_facto'",
            "did you mean 'stages.s2.rate_factor'?",
        ),
        (
            "stages.s2.warm_up.ratee=1",
            "unknown key 'stages.s2.warm_up.ratee'",
            "did you mean 'stages.s2.warm_up.rate'?",
        ),
        ("rate_facto=1", "unknown key", "did you mean 'stages.<name>.rate_factor'?"),
        ("stages.s2=3", "stages.s2 expects Stage, got 3 (int)", "value of type Stage"),
        ("stages.s2=null", "stages.s2 expects Stage, got None", "value of type Stage"),
        ("stages=3", "stages expects dict[str, Stage], got 3", "of type dict[str, Stage]"),
        ("stages.s2.rate_factor=a", "stages.s2.rate_factor expects float", "of type float"),
        ("zzz=1", "unknown key 'zzz'", "choose one of: losses, name, note, optimizer, "),
        ("steps=many", "steps expects int | None, got 'many' (str)", "value of type int | None"),
        ("steps=1.5", "steps expects int | None, got 1.5 (float)", "value of type int | None"),
        ("optimizer=3", "optimizer expects Optimizer, got 3 (int)", "value of type Optimizer"),
        ("optimizer=null", "optimizer expects Optimizer, got None", "value of type Optimizer"),
        ("optimizer.betas=[1, b]", "optimizer.betas expects tuple[float, ...]", "value of type"),
        ("optimizer.schedule=step", "expects 'constant' | 'cosine', got 'step'", "'cosine'"),
        ("name=1.10", "name expects str, got 1.1 (float)", 'write it in quotes: "1.1"'),
        ("note=off", "note expects str | None, got False (bool)", 'write it in quotes: "False"'),
        ("losses=3", "losses expects dict[str, float], got 3", "value of type dict[str, float]"),
    ],
)
def test_a_wrong_override_is_named_with_its_mend(override: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, overrides=["name=a", override])
    assert caught.value.message.startswith(f"override {override!r}: ")
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("override", ["steps", "=3", "steps=[1"])
def test_an_override_that_cannot_be_read_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="override"):
        load_config(Recipe, overrides=[override])


def test_a_wrong_key_in_a_file_is_named_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\nwarm_up:\n  sheddule: cosine\n")
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, path)
    assert caught.value.message == f"{path}: unknown key 'warm_up.sheddule'"
    assert caught.value.hint == "did you mean 'warm_up.schedule'?"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("name: a\nsteps: [1\nnote: b\n", "recipe.yaml:3: not well-formed"),
        ("name: a\nname: b\n", "recipe.yaml:2: not well-formed YAML: found duplicate key name"),
        ("- a\n", "expected field names with values, got a list"),
        ("3", "cannot be read as a config"),
        ("name: \x00", "cannot be read as a config"),
    ],
)
def test_malformed_yaml_is_named_with_its_line(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, write(tmp_path, text))
    assert where in caught.value.message


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: first\n")
    assert load_config(Recipe, path).name == "first"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read"):
        load_config(Recipe, tmp_path / "absent.yaml")


def test_a_mandatory_key_without_a_value_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "steps: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, path)
    assert caught.value.message == f"{path}: no value for name"
    assert caught.value.hint == "add it to the file, or pass name=VALUE"


def test_what_a_config_refuses_itself_gains_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, overrides=["name=a", "warm_up.rate=-1"])
    assert caught.value.message == "warm_up: rate must be above 0, got -1.0"
    assert caught.value.hint == "raise it"


def test_a_reference_to_nothing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"note: .*nowhere"):
        load_config(Recipe, overrides=["name=a", "note=${nowhere}"])


def test_a_file_may_extend_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\nsteps: 3\nlosses: {sft: 1}\n")
    path = write(tmp_path, "extends: base.yaml\nname: own\nlosses: {triplet: 2}\n")
    recipe = load_config(Recipe, path)
    assert (recipe.name, recipe.steps) == ("own", 3)
    assert recipe.losses == {"sft": 1.0, "triplet": 2.0}


def test_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: recipe.yaml\n")
    with pytest.raises(ConfigError, match="circular extends"):
        load_config(Recipe, write(tmp_path, "extends: base.yaml\n"))


def test_a_dict_of_configs_is_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "name: a\nstages:\n  s2: {warm_up: {rate: 1}}\n  s1: {}\n"
    recipe = load_config(Recipe, write(tmp_path, text))
    assert list(recipe.stages.items()) == [
        ("s2", Stage(warm_up=Optimizer(rate=1.0))),
        ("s1", Stage()),
    ]


def test_overrides_reach_into_a_dict_of_configs_and_may_add_to_it(tmp_path: Path) -> None:
    text = "name: a\nstages: {s1: {rate_factor: 3, optimizer: {betas: [1]}}}\n"
    overrides = ["stages.s1.optimizer.rate=1e-5", "stages.s2.warm_up.rate=2", "stages.s3={}"]
    recipe = load_config(Recipe, write(tmp_path, text), overrides)
    assert recipe.stages == {
        "s1": Stage(rate_factor=3.0, optimizer=Optimizer(rate=1e-5, betas=(1.0,))),
        "s2": Stage(warm_up=Optimizer(rate=2.0)),
        "s3": Stage(),
    }


def test_a_dict_of_configs_is_extended_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: a\nstages: {s1: {rate_factor: 2}, s2: {}}\n")
    path = write(
        tmp_path, "extends: base.yaml\nstages: {s3: {}, s1: {warm_up: {rate: 1}}, 4: {}}\n"
    )
    stages = load_config(Recipe, path).stages
    assert list(stages) == ["s1", "s2", "s3", "4"]
    assert stages["s1"] == Stage(rate_factor=2.0, warm_up=Optimizer(rate=1.0))


def test_entries_of_the_default_are_kept_and_changed() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Curriculum:
        """Has stages from the start.

        Attributes:
            stages: by name.
        """

        stages: dict[str, Stage] = field(default_factory=lambda: {"s1": Stage(rate_factor=7.0)})

    changed = load_config(Curriculum, overrides=["stages.s1.optimizer.rate=1"])
    assert changed.stages == {"s1": Stage(rate_factor=7.0, optimizer=Optimizer(rate=1.0))}
    assert load_config(Curriculum).stages == {"s1": Stage(rate_factor=7.0)}


def test_what_an_entry_refuses_itself_gains_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, overrides=["name=a", "stages.s2.optimizer.rate=-1"])
    assert caught.value.message == "stages.s2.optimizer: rate must be above 0, got -1.0"


def test_a_mandatory_key_of_an_entry_is_named() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Outer:
        """Has entries that need a name.

        Attributes:
            recipes: by name.
        """

        recipes: dict[str, Recipe] = field(default_factory=dict)

    with pytest.raises(ConfigError, match="no value for recipes.r.name"):
        load_config(Outer, overrides=["recipes.r.stages.s1.rate_factor=2"])
    outer = load_config(Outer, overrides=["recipes.r.stages.s1.rate_factor=2", "recipes.r.name=a"])
    assert outer.recipes["r"].stages["s1"] == Stage(rate_factor=2.0)


NUMBERS = st.floats(allow_nan=False)
TEXTS = st.text(st.characters(blacklist_characters="$", codec="utf-8")).filter(lambda t: t != "???")
OPTIMIZERS = st.builds(
    Optimizer,
    rate=NUMBERS.filter(lambda x: x > 0),
    schedule=st.sampled_from(["constant", "cosine"]),
    betas=st.lists(NUMBERS).map(tuple),
)
STAGES = st.builds(Stage, optimizer=OPTIMIZERS, warm_up=st.none() | OPTIMIZERS, rate_factor=NUMBERS)
RECIPES = st.builds(
    Recipe,
    name=TEXTS,
    optimizer=OPTIMIZERS,
    warm_up=st.none() | OPTIMIZERS,
    steps=st.none() | st.integers(),
    weights=st.sampled_from([Path("model"), Path("a b") / "1"]),
    losses=st.dictionaries(TEXTS, NUMBERS),
    stages=st.dictionaries(TEXTS, STAGES, max_size=3),
    note=st.none() | TEXTS | st.sampled_from(["null", "1e-5", "on", "a: b", "~", " "]),
)


@given(RECIPES)
def test_a_saved_config_loads_equal(recipe: Recipe) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        save_config(recipe, path)
        loaded = load_config(Recipe, path)
        assert loaded == recipe
        assert list(loaded.stages) == list(recipe.stages)
