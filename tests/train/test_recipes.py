"""Training recipes under configs/ fit the models and the meshes that they are written for."""

from functools import cache
from pathlib import Path

import pytest

from t1_jax.config import load_config
from t1_jax.model import DecoderConfig, RopeConfig
from t1_jax.train import TrainConfig
from t1_jax.train.checks import check_shapes

CONFIGS = Path(__file__).parents[2] / "configs"
OTHERS = ("quickstart", "evaluate", "evaluate_sampled", "measure", "benchmark")
RECIPES = sorted(
    str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml") if path.stem not in OTHERS
)


@cache
def recipe(name: str) -> TrainConfig:
    return load_config(TrainConfig, CONFIGS / name)


def shape(family: str, width: int, layers: int, heads: int, kv_heads: int) -> DecoderConfig:
    """The sizes that a recipe must fit, with the context that its checkpoint states."""
    contexts = {"llama": 8192, "qwen2": 32768, "qwen3": 40960}
    return DecoderConfig(
        family=family,
        vocab_size=151_936 if family != "llama" else 49_152,
        embed_dim=width,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=128 if family != "llama" else 64,
        mlp_dim=4 * width,
        norm_eps=1e-6,
        rope=RopeConfig(theta=1e6),
        max_positions=contexts[family],
        qkv_bias=family == "qwen2",
        qk_norm=family == "qwen3",
    )


SHAPES = {
    "smollm2-135m-instruct": shape("llama", 576, 30, 9, 3),
    "Qwen/Qwen3-0.6B": shape("qwen3", 1024, 28, 16, 8),
    "Qwen/Qwen2.5-1.5B-Instruct": shape("qwen2", 1536, 28, 12, 2),
    "Qwen/Qwen3-4B-Instruct-2507": shape("qwen3", 2560, 36, 32, 8),
}


def base_model(config: TrainConfig) -> str:
    """The model of a recipe; one that goes on from the adapter of another has that one's."""
    path = Path(config.model.path)
    if "stages" not in path.parts:
        return config.model.path
    before = next(
        found
        for found in map(recipe, RECIPES)
        if path.parent.parent == found.output and path.name in found.stages
    )
    assert config.model.lora is None  # that of the adapter
    assert config.model.preset == before.model.preset
    return base_model(before)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_its_model_and_its_mesh(name):
    config = recipe(name)
    mesh = config.mesh
    devices = max(mesh.data, 1) * mesh.fsdp
    model = SHAPES[base_model(config)]
    check_shapes(config, model, devices)
    # Weights are split along their width, heads and units.
    assert model.embed_dim % mesh.fsdp == 0
    assert model.num_kv_heads % mesh.tensor == 0
    for stage in config.stages.values():
        assert stage.rollout.max_rows % stage.rollout.num_generations == 0
    text = (CONFIGS / name).read_text()
    is_tpu = config.model.attention == "splash"
    command = f"launch/tpu_v5.sh train configs/{name}" if is_tpu else f"t1 train configs/{name}"
    assert text.startswith(f"# {command}\n")


def test_every_model_that_was_promised_has_a_recipe():
    paths = {base_model(recipe(name)) for name in RECIPES}
    assert paths == SHAPES.keys()


def test_no_two_recipes_share_a_run_folder():
    outputs = [recipe(name).output for name in RECIPES]
    assert len(set(outputs)) == len(outputs)


def test_the_baseline_never_thinks_and_alternative_b_teaches_no_reasoning():
    contrastive = recipe("experiment/contrastive.yaml")
    assert contrastive.running == ("contrastive",)
    assert not contrastive.stages["contrastive"].think
    b = recipe("untested/alternative_b.yaml")
    assert b.stages["s1"].fixed_thought == "The embedding is"
    assert b.running == ("s1", "s2", "s3")
    decoupled = recipe("ablations/decoupled.yaml")
    assert decoupled.stages["s2"].losses.sft == 0
    assert decoupled.stages["s2"].losses.infonce == 1
    assert recipe("ablations/full.yaml").model.lora is None
