"""Rotary position embedding in Hugging Face configs: both layouts that transformers has written."""

import math
from collections.abc import Mapping
from typing import Any

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.model import RopeConfig

# What each rope type reads beside rope_type and rope_theta; transformers ignores or warns about
# anything else, we refuse it.
_PARAMETERS: Mapping[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "dynamic": frozenset({"factor"}),
    "llama3": frozenset(
        {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}
    ),
    "yarn": frozenset(
        {
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
        }
    ),
}


def rope_from_hf(config: Mapping[str, Any]) -> RopeConfig:
    """Reads `rope_parameters` (transformers 5) or `rope_theta` with `rope_scaling` (before).

    Defaults within a rope type are those of transformers' `modeling_rope_utils`; the base
    `rope_theta` has none.

    Raises:
        UnsupportedError: an unknown rope type or parameter.
        ConfigError: no `rope_theta`, two that disagree, or a parameter missing.
    """
    parameters = _one_layout(config)
    theta = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    if kind not in _PARAMETERS:
        raise UnsupportedError(
            f"rope type {kind!r} is not implemented; known: {', '.join(_PARAMETERS)}",
            mend="use a checkpoint with one of the known rope types",
        )
    unknown = sorted(parameters.keys() - _PARAMETERS[kind])
    if unknown:
        raise UnsupportedError(
            f"rope type {kind!r} does not honour: {', '.join(unknown)}",
            mend="remove the fields if they do not change the computation",
        )
    if kind == "default":
        return RopeConfig(theta=theta)
    if kind in ("linear", "dynamic"):
        return RopeConfig(theta=theta, kind=kind, factor=_number(parameters, kind, "factor"))
    # transformers' own default: the context that the config states.
    original = parameters.get("original_max_position_embeddings", _positions(config))
    if kind == "llama3":
        return RopeConfig(
            theta=theta,
            kind=kind,
            factor=_number(parameters, kind, "factor"),
            original_max_positions=original,
            low_freq_factor=_number(parameters, kind, "low_freq_factor"),
            high_freq_factor=_number(parameters, kind, "high_freq_factor"),
        )
    factor = parameters.get("factor") or _positions(config) / original
    return RopeConfig(
        theta=theta,
        kind=kind,
        factor=float(factor),
        original_max_positions=original,
        beta_fast=float(parameters.get("beta_fast") or 32),
        beta_slow=float(parameters.get("beta_slow") or 1),
        attention_factor=_attention_factor(parameters, float(factor)),
        truncate=parameters.get("truncate", True),
    )


def rope_to_hf(rope: RopeConfig) -> dict[str, Any]:
    """Both layouts at once, so that every version of transformers reads the same angles."""
    scaling: dict[str, Any] = {"rope_type": rope.kind}
    if rope.kind != "default":
        scaling["factor"] = rope.factor
    if rope.kind in ("llama3", "yarn"):
        scaling["original_max_position_embeddings"] = rope.original_max_positions
    if rope.kind == "llama3":
        scaling["low_freq_factor"] = rope.low_freq_factor
        scaling["high_freq_factor"] = rope.high_freq_factor
    if rope.kind == "yarn":
        scaling["attention_factor"] = rope.attention_factor
        scaling["beta_fast"] = rope.beta_fast
        scaling["beta_slow"] = rope.beta_slow
        if not rope.truncate:
            scaling["truncate"] = False
    return {
        "rope_parameters": {"rope_theta": rope.theta, **scaling},
        "rope_theta": rope.theta,
        "rope_scaling": None if rope.kind == "default" else scaling,
    }


def _one_layout(config: Mapping[str, Any]) -> dict[str, Any]:
    """The two layouts merged into one flat dict with `rope_theta` and `rope_type`."""
    old, new = config.get("rope_scaling") or {}, config.get("rope_parameters") or {}
    for name, layout in (("rope_scaling", old), ("rope_parameters", new)):
        nested = [key for key, value in layout.items() if isinstance(value, Mapping)]
        if nested:
            raise UnsupportedError(f"{name} differs between kinds of layers: {', '.join(nested)}")
    parts = [{"rope_theta": config.get("rope_theta")}, _spelt_out(old), _spelt_out(new)]
    parts = [{key: v for key, v in part.items() if v is not None} for part in parts]
    merged: dict[str, Any] = {}
    for part in parts:
        clashes = [key for key in part.keys() & merged.keys() if part[key] != merged[key]]
        if clashes:
            raise ConfigError(
                f"the config gives two values for {', '.join(sorted(clashes))}",
                mend="keep either rope_parameters, or rope_theta with rope_scaling",
            )
        merged |= part
    if "rope_theta" not in merged:
        raise ConfigError(
            "the config has no rope_theta, neither on its own nor in rope_parameters",
            mend='add it; very old Llama checkpoints mean "rope_theta": 10000.0',
        )
    return {"rope_type": "default", **merged, "rope_theta": float(merged["rope_theta"])}


def _spelt_out(layout: Mapping[str, Any]) -> dict[str, Any]:
    """One layout with its type under `rope_type`, also where it is still called `type`."""
    renamed = {key: value for key, value in layout.items() if key != "type"}
    if "type" in layout:
        renamed.setdefault("rope_type", layout["type"])
    return renamed


def _positions(config: Mapping[str, Any]) -> int:
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        raise ConfigError(f"max_position_embeddings must be a whole number, got {positions!r}")
    return positions


def _number(parameters: Mapping[str, Any], kind: str, name: str) -> float:
    value = parameters.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"rope type {kind!r} needs a number for {name}, got {value!r}")
    return float(value)


def _attention_factor(parameters: Mapping[str, Any], factor: float) -> float:
    """The multiplier of cos and sin, resolved as transformers does (arXiv:2309.00071, eq. 22)."""

    def mscale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    stated = parameters.get("attention_factor")
    if stated is not None:
        return float(stated)
    weight, weight_all = parameters.get("mscale"), parameters.get("mscale_all_dim")
    if weight and weight_all:
        return mscale(weight) / mscale(weight_all)
    return mscale(1.0)
