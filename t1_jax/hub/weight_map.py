"""The map between Hugging Face tensors and parameters of the decoder, used in both directions."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from einops import rearrange

from t1_jax.model import DecoderConfig


def _always(config: DecoderConfig) -> bool:
    return True


@dataclass(frozen=True)
class Rule:
    """A Hugging Face tensor and its parameter.

    Attributes:
        hf_name: Hugging Face name; with `{i}` for one tensor per layer, which are stacked along
            the first axis of the parameter.
        path: path of the parameter.
        pattern: einops pattern from the Hugging Face layout to that of the parameter: d embed,
            n query heads, k kv heads, h head dim, f mlp, v vocabulary.
        when: function from a config to whether the decoder has the parameter.
    """

    hf_name: str
    path: str
    pattern: str
    when: Callable[[DecoderConfig], bool] = _always

    @property
    def stacked(self) -> bool:
        """Whether there is one tensor per layer."""
        return "{i}" in self.hf_name

    @property
    def vocab_axis(self) -> int | None:
        """Axis of the vocabulary in the parameter of one layer, or None."""
        axes = self.pattern.split(" -> ")[1].split()
        return axes.index("v") if "v" in axes else None


_TABLE = (
    Rule("model.embed_tokens.weight", "embed/table", "v d -> v d"),
    Rule("lm_head.weight", "head/kernel", "v d -> d v", lambda c: not c.tie_embeddings),
    Rule("model.norm.weight", "final_norm/scale", "d -> d"),
    *(
        Rule(f"model.layers.{{i}}.{hf_name}", f"blocks/{path}", pattern, when)
        for hf_name, path, pattern, when in (
            ("input_layernorm.weight", "attention_norm/scale", "d -> d", _always),
            ("self_attn.q_proj.weight", "attention/q/kernel", "(n h) d -> d n h", _always),
            ("self_attn.k_proj.weight", "attention/k/kernel", "(k h) d -> d k h", _always),
            ("self_attn.v_proj.weight", "attention/v/kernel", "(k h) d -> d k h", _always),
            ("self_attn.o_proj.weight", "attention/o/kernel", "d (n h) -> n h d", _always),
            ("self_attn.q_proj.bias", "attention/q/bias", "(n h) -> n h", lambda c: c.qkv_bias),
            ("self_attn.k_proj.bias", "attention/k/bias", "(k h) -> k h", lambda c: c.qkv_bias),
            ("self_attn.v_proj.bias", "attention/v/bias", "(k h) -> k h", lambda c: c.qkv_bias),
            ("self_attn.o_proj.bias", "attention/o/bias", "d -> d", lambda c: c.out_bias),
            ("self_attn.q_norm.weight", "attention/q_norm/scale", "h -> h", lambda c: c.qk_norm),
            ("self_attn.k_norm.weight", "attention/k_norm/scale", "h -> h", lambda c: c.qk_norm),
            ("post_attention_layernorm.weight", "mlp_norm/scale", "d -> d", _always),
            ("mlp.gate_proj.weight", "mlp/gate/kernel", "f d -> d f", _always),
            ("mlp.up_proj.weight", "mlp/up/kernel", "f d -> d f", _always),
            ("mlp.down_proj.weight", "mlp/down/kernel", "d f -> f d", _always),
            ("mlp.gate_proj.bias", "mlp/gate/bias", "f -> f", lambda c: c.mlp_bias),
            ("mlp.up_proj.bias", "mlp/up/bias", "f -> f", lambda c: c.mlp_bias),
            ("mlp.down_proj.bias", "mlp/down/bias", "d -> d", lambda c: c.mlp_bias),
        )
    ),
)


def rules_for(config: DecoderConfig) -> tuple[Rule, ...]:
    """The rules of all parameters of a decoder."""
    return tuple(rule for rule in _TABLE if rule.when(config))


def hf_names(rule: Rule, config: DecoderConfig) -> tuple[str, ...]:
    """Names of the tensors of a rule, in the order of layers."""
    if not rule.stacked:
        return (rule.hf_name,)
    return tuple(rule.hf_name.format(i=layer) for layer in range(config.num_layers))


def expected_tensors(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all Hugging Face tensors of a decoder."""
    return {
        name: hf_shape(rule, config)
        for rule in rules_for(config)
        for name in hf_names(rule, config)
    }


def hf_shape(rule: Rule, config: DecoderConfig, *, rank: int = 0) -> tuple[int, ...]:
    """Shape of a tensor in the Hugging Face layout, without vocabulary padding; `rank`: LoRA's."""
    sizes = _sizes(config) | {"r": rank}
    axes = re.findall(r"\(.+?\)|\w", rule.pattern.split(" -> ")[0])
    return tuple(math.prod(sizes[letter] for letter in re.findall(r"\w", axis)) for axis in axes)


def param_shape(rule: Rule, config: DecoderConfig) -> tuple[int, ...]:
    """Shape of one layer of the parameter, without vocabulary padding."""
    sizes = _sizes(config)
    return tuple(sizes[letter] for letter in rule.pattern.split(" -> ")[1].split())


def from_hf(rule: Rule, array: np.ndarray, config: DecoderConfig) -> np.ndarray:
    """A Hugging Face tensor in the layout of the parameter, as a view."""
    return rearrange(array, rule.pattern, **_sizes_in(rule.pattern, config))


def to_hf(rule: Rule, array: np.ndarray, config: DecoderConfig) -> np.ndarray:
    """One layer of a parameter in the Hugging Face layout, without vocabulary padding."""
    if rule.vocab_axis is not None:
        array = array[(slice(None),) * rule.vocab_axis + (slice(config.vocab_size),)]
    hf_axes, axes = rule.pattern.split(" -> ")
    return rearrange(array, f"{axes} -> {hf_axes}", **_sizes_in(rule.pattern, config))


def _sizes(config: DecoderConfig) -> dict[str, int]:
    """Letter in a pattern -> size."""
    return {
        "d": config.embed_dim,
        "n": config.num_heads,
        "k": config.num_kv_heads,
        "h": config.head_dim,
        "f": config.mlp_dim,
        "v": config.vocab_size,
    }


def _sizes_in(pattern: str, config: DecoderConfig) -> dict[str, int]:
    return {letter: size for letter, size in _sizes(config).items() if letter in pattern}
