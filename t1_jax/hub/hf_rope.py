"""Rotary embeddings in Hugging Face configs, in the layouts of transformers 4 and 5."""

import math
from collections.abc import Mapping
from typing import Any

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.hub.json_files import check_bool, check_float, check_int, check_object, short_repr
from t1_jax.model import RopeConfig

_DEFAULT_THETA = 10_000.0  # `RotaryEmbeddingConfigMixin.default_theta`

# Parameters of each rope type besides rope_type and rope_theta. Any other one raises an error;
# transformers ignores it or warns.
_PARAMETERS: Mapping[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "dynamic": frozenset({"factor"}),
    "llama3": frozenset({
        "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings",
    }),
    "yarn": frozenset({
        "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
        "mscale", "mscale_all_dim", "truncate",
    }),
}  # fmt: skip


def rope_from_hf(config: Mapping[str, Any]) -> RopeConfig:
    """Reads `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (older).

    Defaults are those of transformers' `modeling_rope_utils`.

    Raises:
        UnsupportedError: unknown rope type or parameter.
        ConfigError: the layouts disagree, or a parameter is missing or out of bounds.
    """
    parameters = _merged_layouts(config)
    theta = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    if kind not in _PARAMETERS:
        raise UnsupportedError(
            f"rope type {short_repr(kind)} is not supported; known: {', '.join(_PARAMETERS)}",
            hint="use a checkpoint with one of the known rope types",
        )
    unknown = sorted(parameters.keys() - _PARAMETERS[kind])
    if unknown:
        raise UnsupportedError(
            f"rope type {kind!r} has unsupported parameters: {', '.join(unknown)}",
            hint="remove the fields if they do not change the computation",
        )
    if kind == "default":
        return RopeConfig(theta=theta)
    if kind in ("linear", "dynamic"):
        return RopeConfig(theta=theta, kind=kind, factor=_number(parameters, kind, "factor"))
    # The default of transformers is max_position_embeddings.
    original = check_int(
        "original_max_position_embeddings",
        parameters.get("original_max_position_embeddings", config.get("max_position_embeddings")),
    )
    if kind == "llama3":
        return RopeConfig(
            theta=theta,
            kind=kind,
            factor=_number(parameters, kind, "factor"),
            original_max_positions=original,
            low_freq_factor=_number(parameters, kind, "low_freq_factor"),
            high_freq_factor=_number(parameters, kind, "high_freq_factor"),
        )
    if "factor" not in parameters:
        positions = config.get("max_position_embeddings")
        parameters["factor"] = check_int("max_position_embeddings", positions) / original
    factor = _number(parameters, kind, "factor")
    return RopeConfig(
        theta=theta,
        kind=kind,
        factor=factor,
        original_max_positions=original,
        beta_fast=_number({"beta_fast": 32, **parameters}, kind, "beta_fast"),
        beta_slow=_number({"beta_slow": 1, **parameters}, kind, "beta_slow"),
        attention_factor=_attention_factor(parameters, kind, factor),
        truncate=check_bool("truncate", parameters.get("truncate", True)),
    )


def rope_to_hf(rope: RopeConfig) -> dict[str, Any]:
    """Both layouts, so that every version of transformers computes the same angles."""
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


def _merged_layouts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Both layouts in one flat dict with `rope_theta` and `rope_type`."""
    layouts = []
    for name in ("rope_scaling", "rope_parameters"):
        layout = check_object(name, config.get(name) or {})
        nested = [key for key, value in layout.items() if isinstance(value, Mapping)]
        if nested:
            raise UnsupportedError(f"{name} differs between layer types: {', '.join(nested)}")
        layouts.append(_with_rope_type(layout))
    parts = [{"rope_theta": config.get("rope_theta")}, *layouts]
    parts = [{key: v for key, v in part.items() if v is not None} for part in parts]
    merged: dict[str, Any] = {}
    for part in parts:
        clashes = [key for key in part.keys() & merged.keys() if part[key] != merged[key]]
        if clashes:
            raise ConfigError(
                f"the config has two values for {', '.join(sorted(clashes))}",
                hint="keep either rope_parameters, or rope_theta with rope_scaling",
            )
        merged |= part
    if not isinstance(kind := merged.setdefault("rope_type", "default"), str):
        raise ConfigError(f"rope_type must be a string, got {short_repr(kind)}")
    theta = merged.get("rope_theta", config.get("rope_theta", _DEFAULT_THETA))
    merged["rope_theta"] = check_float("rope_theta", theta)
    return merged


def _with_rope_type(layout: Mapping[str, Any]) -> dict[str, Any]:
    """The layout with the older key `type` renamed to `rope_type`."""
    renamed = {key: value for key, value in layout.items() if key != "type"}
    if "type" in layout:
        renamed.setdefault("rope_type", layout["type"])
    return renamed


def _number(parameters: Mapping[str, Any], kind: str, name: str) -> float:
    """A required, positive parameter of a rope type."""
    return check_float(f"{name} of rope type {kind!r}", parameters.get(name))


def _attention_factor(parameters: Mapping[str, Any], kind: str, factor: float) -> float:
    """Factor of cos and sin, as in transformers (arXiv:2309.00071, eq. 22)."""

    def mscale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if "attention_factor" in parameters:
        return _number(parameters, kind, "attention_factor")
    if parameters.get("mscale") and parameters.get("mscale_all_dim"):
        weight, weight_all = (
            _number(parameters, kind, name) for name in ("mscale", "mscale_all_dim")
        )
        return mscale(weight) / mscale(weight_all)
    return mscale(1.0)
