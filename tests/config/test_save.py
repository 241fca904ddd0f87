"""What is written reads back equal."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from t1_jax.config import load_config, save_config
from tests.config.recipe import Optimizer, Recipe, Stage

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
