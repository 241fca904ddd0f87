"""FLOPs of a program, counted in its jaxpr: every matrix product, as often as it runs."""

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import Jaxpr


def count_flops(jaxpr: Any, *, loop_trips: int = 1) -> float:
    """FLOPs of the matrix products of a program over all devices, recomputation included.

    XLA's own count has the body of a scan once, however often it runs. A `while` loop, whose number
    of trips is not known, runs `loop_trips` times; of the branches of a condition the most
    expensive counts.

    `jaxpr` is that of `jax.stages.Traced`, a closed one in older versions of JAX.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    return float(sum(_of_equation(equation, loop_trips) for equation in jaxpr.eqns))


def _of_equation(equation: Any, loop_trips: int) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        size = math.prod(left[axis] for axis in contracted)
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * size
    inner = [count_flops(each, loop_trips=loop_trips) for each in _inner(parameters)]
    if not inner:
        return 0.0
    if name == "scan":
        return parameters["length"] * sum(inner)
    if name == "while":
        return loop_trips * sum(inner)
    if name == "cond":
        return max(inner)
    if name == "shard_map":
        # Its body has the shapes of one device. JAX 0.12 renamed the parameter.
        axes = parameters.get("newly_manual_axes", parameters.get("manual_axes"))
        return sum(inner) * math.prod(parameters["mesh"].shape[axis] for axis in axes)
    if name == "pallas_call":
        return sum(inner) * math.prod(parameters["grid_mapping"].grid)
    return sum(inner)


def _inner(parameters: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs of an equation: bodies, branches, and functions that it calls."""
    for value in parameters.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(each, "jaxpr", each)  # of a closed one
            if isinstance(inner, Jaxpr):
                yield inner
