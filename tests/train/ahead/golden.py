"""Tables of the recipes for slices; `python -m tests.train.ahead.golden` writes them.

What is in them changes only where somebody means to change how a model lies on its devices, what
these send each other, or what they keep in memory.
"""

import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import jax

from t1_jax.config import load_config
from t1_jax.hub import known_shape
from t1_jax.parallel import Topology, find_topology, make_mesh_context
from t1_jax.train import TrainConfig
from t1_jax.train.ahead.abstract import AbstractModel, abstract_model
from t1_jax.train.ahead.hlo import collectives
from t1_jax.train.ahead.programs import StagePrograms, stage_programs

FILE = Path(__file__).with_suffix(".json")
RECIPES: Mapping[str, str] = {
    "qwen3-0.6b": "v5e-8",
    "qwen2.5-1.5b-instruct": "v5e-8",
    "qwen3-4b-instruct-2507": "v5p-8",
    "qwen3-4b-instruct-2507-lora": "v5e-8",
    "qwen3-4b-instruct-2507-v5e-16": "v5e-16",
}
"""Recipe -> the slice that it is for."""

ON_CPU = ("qwen3-0.6b",)
"""Recipes whose update is compiled for CPU devices too, which takes seconds each."""

UPDATE = "forward and backward, queries"
LAYERS = 2
_CONFIGS = Path(__file__).parents[3] / "configs" / "untested"


@dataclass(frozen=True)
class Recipe:
    """A recipe with two layers on a topology."""

    config: TrainConfig
    model: AbstractModel
    topology: Topology

    def stage(self, name: str) -> StagePrograms:
        """What is compiled, and the state of a stage."""
        with self.model.parts.mesh_context.activate():
            return stage_programs(self.config, name, self.model)


def open_recipe(name: str, topology: Topology) -> Recipe:
    """The recipe for these devices; on other ones than its own, `fsdp` takes all of them."""
    config = load_config(TrainConfig, _CONFIGS / f"{name}.yaml")
    shape = known_shape(config.model.path)
    assert shape is not None
    shape = replace(shape, num_layers=LAYERS, windows=shape.windows[:LAYERS])
    is_tpu = topology.chip.platform == "tpu"
    model = config.model if is_tpu else replace(config.model, attention="xla")
    mesh = replace(config.mesh, fsdp=topology.num_devices)
    mesh_context = make_mesh_context(mesh, devices=topology.devices())
    platform = "tpu" if is_tpu else "cpu"
    return Recipe(config, abstract_model(model, shape, mesh_context, platform), topology)


def shardings(recipe: Recipe) -> dict[str, str]:
    """Path -> shape and partition of every weight; those in training, and the sampler's."""
    found = {}
    for role, tree in (
        ("trained", recipe.model.trained),
        ("frozen", recipe.model.parts.frozen),
        ("sampler", recipe.model.sampler_state),
    ):
        for path, leaf in jax.tree.leaves_with_path(tree):
            spec = ", ".join(str(entry) for entry in leaf.sharding.spec)
            name = role + jax.tree_util.keystr(path)
            found[name] = f"{leaf.dtype}{list(leaf.shape)} over ({spec})"
    return found


def update(recipe: Recipe) -> dict[str, Any]:
    """Memory and collectives of the first stage's update."""
    name = next(iter(recipe.config.running))
    (program,) = (each for each in recipe.stage(name).programs if each.name.startswith(UPDATE))
    # As in training, not in tests: splash attention has no products of bf16 in float32.
    precision = "default" if recipe.topology.chip.platform == "tpu" else "float32"
    with recipe.model.parts.mesh_context.activate(), jax.default_matmul_precision(precision):
        compiled = program.trace().lower().compile()
    memory = cast("Any", compiled.memory_analysis())
    return {
        "compiler": version("jaxlib"),
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "sent": {
            each.kind: int(each.sent)
            for each in collectives(compiled.as_text() or "", recipe.topology.num_devices)
        },
    }


def state(recipe: Recipe) -> dict[str, dict[str, int]]:
    """Stage -> kind -> bytes on each device."""
    return {name: recipe.stage(name).state for name in recipe.config.running}


def _write() -> None:
    cpu = find_topology("cpu-8")
    tables: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    names = sys.argv[1:] or list(RECIPES)
    for name in names:
        on_cpu = open_recipe(name, cpu)
        table = tables.setdefault(name, {})
        table["shardings"] = shardings(on_cpu)
        table["state"] = state(on_cpu)
        if name in ON_CPU:
            table[cpu.name] = update(on_cpu)
        if importlib.util.find_spec("libtpu") is not None:
            table[RECIPES[name]] = update(open_recipe(name, find_topology(RECIPES[name])))
        FILE.write_text(json.dumps(tables, indent=1) + "\n")
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    importlib.import_module("tests.conftest")  # the settings of JAX that tests have

    _write()
