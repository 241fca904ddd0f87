"""Converts between Hugging Face's `config.json` and `DecoderConfig`; ignores no field silently."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.hub.hf_auto import auto_config
from t1_jax.hub.hf_rope import rope_from_hf, rope_to_hf
from t1_jax.hub.json_files import MAX_SIZE, check_bool, check_float, check_int, short_repr
from t1_jax.model import MAX_LAYERS, DecoderConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ARCHITECTURES: Mapping[str, str] = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}

_FULL, _SLIDING = "full_attention", "sliding_attention"

# Fields that `decoder_config_from_hf` reads, for all families and for single ones.
_READ = frozenset({
    "architectures", "head_dim", "hidden_size", "intermediate_size", "max_position_embeddings",
    "model_type", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps",
    "rope_parameters", "rope_scaling", "rope_theta", "tie_word_embeddings", "vocab_size",
})  # fmt: skip
_FLAGS = frozenset({"attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window"})
# Upper bound of each size: beyond any model, and small enough for loops.
_SIZES: Mapping[str, int] = dict.fromkeys((
    "head_dim", "hidden_size", "intermediate_size", "max_position_embeddings", "max_window_layers",
    "num_attention_heads", "num_key_value_heads", "sliding_window",
), MAX_SIZE) | {"num_hidden_layers": MAX_LAYERS, "vocab_size": 2**26}  # fmt: skip
_READ_BY_TRANSFORMERS = _FLAGS | _SIZES.keys() | {"layer_types", "rms_norm_eps"}
_MAY_BE_NULL = frozenset({"head_dim", "layer_types", "num_key_value_heads", "sliding_window"})
_NEVER_NULL = {("head_dim", "qwen3"), ("num_key_value_heads", "mistral")}
_WINDOWS = frozenset({"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"})
_READ_BY_FAMILY: Mapping[str, frozenset[str]] = {
    "llama": frozenset({"attention_bias", "mlp_bias"}),
    "mistral": frozenset({"sliding_window"}),
    "qwen2": _WINDOWS,
    "qwen3": _WINDOWS | {"attention_bias"},
}

# Fields that would change the output, each with the one value that does not.
_ONLY: Mapping[str, Any] = {
    "add_cross_attention": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "is_encoder_decoder": False,
    "partial_rotary_factor": 1.0,
    "pretraining_tp": 1,
    "pruned_heads": {},
    "rope_interleaved": False,
    "use_mrope": False,
    "use_sliding_window": False,
}

# Fields that do not affect the logits: origin of the file, storage and initialization of weights,
# settings of generation (read elsewhere), further outputs of transformers, and labels of
# classification tasks.
NO_INFLUENCE = frozenset({
    "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "attn_implementation",
    "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "chunk_size_feed_forward",
    "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample",
    "dtype", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id",
    "forced_eos_token_id", "gradient_checkpointing", "id2label", "initializer_range", "is_decoder",
    "is_llama_config", "label2id", "length_penalty", "max_length", "min_length",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_labels", "num_return_sequences",
    "output_attentions", "output_hidden_states", "output_scores", "pad_token_id", "prefix",
    "problem_type", "remove_invalid_values", "repetition_penalty", "return_dict",
    "return_dict_in_generate", "sep_token_id", "suppress_tokens", "task_specific_params",
    "temperature", "tf_legacy_loss", "tie_encoder_decoder", "tokenizer_class", "top_k", "top_p",
    "torch_dtype", "torchscript", "transformers.js_config", "transformers_version", "typical_p",
    "unsloth_fixed", "unsloth_version", "use_bfloat16", "use_cache",
})  # fmt: skip


def decoder_config_from_hf(config: Mapping[str, Any]) -> DecoderConfig:
    """The decoder of a `config.json`, equal to that of transformers.

    A missing field has the default of the family's class in transformers.

    Raises:
        UnsupportedError: unknown architecture or unsupported fields; names them.
        ConfigError: a field has the wrong type, is out of bounds or inconsistent.
    """
    family = _family(config)
    _reject_unsupported(config, family)
    stated = _checked_fields(config, family)
    rope = rope_from_hf(config)
    hf = auto_config(family, stated)
    heads = hf.num_attention_heads
    # Qwen2Config has no such field, but the model uses it if the config states it.
    head_dim = getattr(hf, "head_dim", None) or _default_head_dim(hf.hidden_size, heads)
    biased = family in ("llama", "qwen3") and hf.attention_bias
    return DecoderConfig(
        family=family,
        vocab_size=hf.vocab_size,
        embed_dim=hf.hidden_size,
        num_layers=hf.num_hidden_layers,
        num_heads=heads,
        num_kv_heads=hf.num_key_value_heads,
        head_dim=head_dim,
        mlp_dim=hf.intermediate_size,
        norm_eps=hf.rms_norm_eps,
        rope=rope,
        max_positions=hf.max_position_embeddings,
        qkv_bias=family == "qwen2" or biased,
        out_bias=biased,
        mlp_bias=family == "llama" and hf.mlp_bias,
        qk_norm=family == "qwen3",
        tie_embeddings=hf.tie_word_embeddings,
        windows=_windows(hf, family),
    )


def other_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a `config.json` without effect on decoder and dtype; export keeps them."""
    written = {"dtype", "torch_dtype", "use_sliding_window", "_commit_hash", "_name_or_path"}
    names = (NO_INFLUENCE | _ONLY.keys()) - written
    return {name: value for name, value in config.items() if name in names}


def hf_config_from_decoder(config: DecoderConfig, *, dtype: str, **other: Any) -> dict[str, Any]:
    """The `config.json` from which transformers builds the same decoder, without padding.

    `dtype` is that of the stored weights; `other` are fields without effect, see `other_fields`.

    Raises:
        UnsupportedError: the family's transformers class cannot represent this decoder.
    """
    _check_expressible(config)
    fields: dict[str, Any] = {
        "architectures": [ARCHITECTURES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions,
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tie_embeddings,
        "use_cache": True,
        "dtype": dtype,
        "torch_dtype": dtype,
        **rope_to_hf(config.rope),
        **other,
    }
    if config.family in ("llama", "qwen3"):
        fields["attention_bias"] = config.qkv_bias
    if config.family == "llama":
        fields["mlp_bias"] = config.mlp_bias
    elif config.family == "mistral":
        fields["sliding_window"] = config.windows[0] or None
    else:
        fields |= _window_fields(config)
    return fields


def _family(config: Mapping[str, Any]) -> str:
    family, architectures = config.get("model_type"), config.get("architectures")
    if not isinstance(family, str) or family not in ARCHITECTURES:
        raise UnsupportedError(
            f"architecture {short_repr(family)} (model_type) is not supported; "
            f"known: {', '.join(ARCHITECTURES)}",
            hint="use a checkpoint of a known family; Qwen2.5 is qwen2, SmolLM2 is llama",
        )
    causal = ARCHITECTURES[family]
    # Embedding models have no head: Qwen3Model has the other weights of Qwen3ForCausalLM.
    if architectures and architectures not in ([causal], [causal.replace("ForCausalLM", "Model")]):
        raise UnsupportedError(
            f"architectures {short_repr(architectures)} is not the causal language model of "
            f"{family!r}, {causal}"
        )
    if config.get("quantization_config") is not None:
        raise UnsupportedError(
            "quantized weights are not supported (quantization_config = "
            f"{short_repr(config['quantization_config'])})",
            hint="use the unquantized checkpoint of the same model, or a GGUF file of it",
        )
    return family


def _reject_unsupported(config: Mapping[str, Any], family: str) -> None:
    """Raises unless every field is read or known to have no effect; null means missing."""
    read = _READ | _READ_BY_FAMILY[family]
    unsupported, known = [], read | NO_INFLUENCE | _ONLY.keys()
    for name, value in config.items():
        if value is None or name in read or name in NO_INFLUENCE:
            continue
        if name in _ONLY and value == _ONLY[name]:
            continue
        advice = f"only {_ONLY[name]!r} is supported" if name in _ONLY else suggestion(name, known)
        unsupported.append(f"{short_repr(name)[1:-1]} = {short_repr(value)} ({advice})")
    if unsupported:
        raise UnsupportedError(
            "the config has unsupported fields:\n  " + "\n  ".join(unsupported),
            hint="remove a field only if you know that it does not change the model's output",
        )


def _checked_fields(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Fields for the family's class in transformers, except rope settings, with checked values."""
    stated: dict[str, Any] = {}
    for name in _READ_BY_TRANSFORMERS & (_READ | _READ_BY_FAMILY[family]):
        if name not in config:
            continue
        value = config[name]
        if value is None and name in _MAY_BE_NULL and (name, family) not in _NEVER_NULL:
            stated[name] = None
        elif name in _FLAGS:
            stated[name] = check_bool(name, value)
        elif name in _SIZES:
            least = 0 if name == "max_window_layers" else 1
            stated[name] = check_int(name, value, least=least, most=_SIZES[name])
        elif name == "rms_norm_eps":
            stated[name] = check_float(name, value)
        else:
            stated[name] = _layer_types(value)
    heads, width = stated.get("num_attention_heads"), stated.get("hidden_size")
    if stated.get("head_dim") is None and family != "qwen3" and heads and width:
        _default_head_dim(width, heads)
    return stated


def _default_head_dim(width: int, heads: int) -> int:
    if width % heads:
        raise ConfigError(
            f"the config has no head_dim, and hidden_size {width} is not a multiple of "
            f"num_attention_heads {heads}"
        )
    return width // heads


def _layer_types(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(kind, str) for kind in value):
        raise ConfigError(f"layer_types must be a list of strings, got {short_repr(value)}")
    unknown = sorted({*value} - {_FULL, _SLIDING})
    if unknown:
        raise UnsupportedError(
            f"layer_types {', '.join(unknown)} are not supported; known: {_FULL}, {_SLIDING}"
        )
    return value


def _windows(config: "PreTrainedConfig", family: str) -> tuple[int, ...]:
    """Window size of each layer, 0 for full attention, as in transformers."""
    if family == "llama" or (family == "mistral" and config.sliding_window is None):
        return ()
    if family == "mistral":
        return (config.sliding_window,) * config.num_hidden_layers
    kinds: list[str] = config.layer_types
    window = config.sliding_window or 0
    if len(kinds) != config.num_hidden_layers:
        raise ConfigError(
            f"layer_types has {len(kinds)} entries for {config.num_hidden_layers} layers"
        )
    if _SLIDING in kinds and not window:
        raise ConfigError(
            f"layer_types names {_SLIDING}, but there is no window: use_sliding_window is "
            f"{config.use_sliding_window}, sliding_window {config.sliding_window}"
        )
    return tuple(window if kind == _SLIDING else 0 for kind in kinds)


def _window_fields(config: DecoderConfig) -> dict[str, Any]:
    """Fields of sliding windows; older transformers reads `max_window_layers`."""
    sliding = [window > 0 for window in config.windows]
    first = sliding.index(True) if True in sliding else config.num_layers
    return {
        "use_sliding_window": any(sliding),
        "sliding_window": max(config.windows) or None,
        "max_window_layers": first,
        "layer_types": [_SLIDING if slides else _FULL for slides in sliding],
    }


def _check_expressible(config: DecoderConfig) -> None:
    """Raises if the family's class in transformers cannot represent the decoder."""
    family = config.family
    inexpressible = []
    if config.qk_norm != (family == "qwen3"):
        inexpressible.append(f"qk_norm={config.qk_norm}")
    biases = {"qwen2": [(True, False)], "mistral": [(False, False)]}
    known_biases = biases.get(family, [(False, False), (True, True)])
    if (config.qkv_bias, config.out_bias) not in known_biases:
        inexpressible.append(f"qkv_bias={config.qkv_bias} with out_bias={config.out_bias}")
    if family != "llama" and config.mlp_bias:
        inexpressible.append("mlp_bias=True")
    windows = {window for window in config.windows if window}
    if (
        len(windows) > 1
        or (windows and family == "llama")
        or (family == "mistral" and config.uniform_window is None)
    ):
        inexpressible.append(f"windows={config.windows}")
    if inexpressible:
        raise UnsupportedError(
            f"transformers' {ARCHITECTURES[family]} cannot represent {', '.join(inexpressible)}",
            hint="choose another family for this decoder",
        )
