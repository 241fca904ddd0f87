"""`config.json` of Hugging Face to our decoder config and back; no field is silently ignored."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.hub.hf_auto import auto_config
from t1_jax.hub.hf_rope import rope_from_hf, rope_to_hf
from t1_jax.hub.values import MAX_SIZE, flag, real_number, shown, whole_number
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

# Fields that `decoder_config_from_hf` reads, for every family and for some.
_READ = frozenset(
    {
        "architectures",
        "head_dim",
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "tie_word_embeddings",
        "vocab_size",
    }
)
_FLAGS = frozenset({"attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window"})
# The largest value of each size: far beyond any model, and small enough to be looped over.
_SIZES: Mapping[str, int] = {
    "head_dim": MAX_SIZE,
    "hidden_size": MAX_SIZE,
    "intermediate_size": MAX_SIZE,
    "max_position_embeddings": MAX_SIZE,
    "max_window_layers": MAX_SIZE,
    "num_attention_heads": MAX_SIZE,
    "num_hidden_layers": MAX_LAYERS,
    "num_key_value_heads": MAX_SIZE,
    "sliding_window": MAX_SIZE,
    "vocab_size": 2**26,
}
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

# Fields that would change the computation; only the value at which they do nothing is accepted.
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

# Fields that do not touch the function from tokens to logits: how the file was made, how weights
# are stored and initialized, which ids and settings generation starts from (read elsewhere), what
# else transformers returns, and labels of tasks that a language model does not have.
NO_INFLUENCE = frozenset(
    {
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "attn_implementation",
        "bad_words_ids",
        "begin_suppress_tokens",
        "bos_token_id",
        "chunk_size_feed_forward",
        "cross_attention_hidden_size",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "dtype",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "eos_token_id",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "gradient_checkpointing",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_llama_config",
        "label2id",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_labels",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "pad_token_id",
        "prefix",
        "problem_type",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict",
        "return_dict_in_generate",
        "sep_token_id",
        "suppress_tokens",
        "task_specific_params",
        "temperature",
        "tf_legacy_loss",
        "tie_encoder_decoder",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torch_dtype",
        "torchscript",
        "transformers.js_config",
        "transformers_version",
        "typical_p",
        "unsloth_fixed",
        "unsloth_version",
        "use_bfloat16",
        "use_cache",
    }
)


def decoder_config_from_hf(config: Mapping[str, Any]) -> DecoderConfig:
    """The decoder that a `config.json` describes, exactly as transformers would build it.

    A field that is absent has the default of the family's class in transformers.

    Raises:
        UnsupportedError: an unknown architecture, or fields that are not honored, by name.
        ConfigError: a field is of the wrong type, out of bounds, or inconsistent.
    """
    family = _family(config)
    _refuse_unhonored(config, family)
    stated = _stated(config, family)
    rope = rope_from_hf(config)
    layers = auto_config(family, stated)
    heads = layers.num_attention_heads
    # Qwen2 has no such field, but reads it where a config states it.
    head_dim = getattr(layers, "head_dim", None) or _divided(layers.hidden_size, heads)
    biased = family in ("llama", "qwen3") and layers.attention_bias
    return DecoderConfig(
        family=family,
        vocab_size=layers.vocab_size,
        embed_dim=layers.hidden_size,
        num_layers=layers.num_hidden_layers,
        num_heads=heads,
        num_kv_heads=layers.num_key_value_heads,
        head_dim=head_dim,
        mlp_dim=layers.intermediate_size,
        norm_eps=layers.rms_norm_eps,
        rope=rope,
        max_positions=layers.max_position_embeddings,
        qkv_bias=family == "qwen2" or biased,
        out_bias=biased,
        mlp_bias=family == "llama" and layers.mlp_bias,
        qk_norm=family == "qwen3",
        tie_embeddings=layers.tie_word_embeddings,
        windows=_windows(layers, family),
    )


def other_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a `config.json` says beside the decoder and its weights' dtype; export keeps it."""
    ours = {"dtype", "torch_dtype", "use_sliding_window", "_commit_hash", "_name_or_path"}
    kept = (NO_INFLUENCE | _ONLY.keys()) - ours
    return {name: value for name, value in config.items() if name in kept}


def hf_config_from_decoder(config: DecoderConfig, *, dtype: str, **other: Any) -> dict[str, Any]:
    """The `config.json` that transformers builds the same decoder from.

    Args:
        config: the decoder; its vocabulary is written without padding.
        dtype: name of the dtype the weights are stored in.
        other: further fields without influence on the computation; see `other_fields`.

    Raises:
        UnsupportedError: the family's transformers class cannot express this decoder.
    """
    _refuse_inexpressible(config)
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
            f"architecture {shown(family)} (model_type) is not implemented; "
            f"known: {', '.join(ARCHITECTURES)}",
            hint="use a checkpoint of a known family; Qwen2.5 is qwen2, SmolLM2 is llama",
        )
    causal = ARCHITECTURES[family]
    # Embedding models are saved without a head: Qwen3Model has the weights of Qwen3ForCausalLM.
    if architectures and architectures not in ([causal], [causal.replace("ForCausalLM", "Model")]):
        raise UnsupportedError(
            f"architectures {shown(architectures)} is not the causal language model of {family!r}, "
            f"{causal}"
        )
    if config.get("quantization_config") is not None:
        raise UnsupportedError(
            "the checkpoint is quantized (quantization_config = "
            f"{shown(config['quantization_config'])}), and such weights are not read",
            hint="take the unquantized checkpoint of the same model, or a GGUF file of it",
        )
    return family


def _refuse_unhonored(config: Mapping[str, Any], family: str) -> None:
    """Every field is read, known to do nothing, or refused; a null states nothing."""
    read = _READ | _READ_BY_FAMILY[family]
    refused, known = [], read | NO_INFLUENCE | _ONLY.keys()
    for name, value in config.items():
        if value is None or name in read or name in NO_INFLUENCE:
            continue
        if name in _ONLY and value == _ONLY[name]:
            continue
        wanted = f"only {_ONLY[name]!r} is" if name in _ONLY else suggestion(name, known)
        refused.append(f"{shown(name)[1:-1]} = {shown(value)} ({wanted})")
    if refused:
        raise UnsupportedError(
            "the config has fields that are not honored:\n  " + "\n  ".join(refused),
            hint="remove a field only if you know that it does not change the model's output",
        )


def _stated(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    """The fields but for rope that the family's class in transformers reads, each checked."""
    stated: dict[str, Any] = {}
    for name in _READ_BY_TRANSFORMERS & (_READ | _READ_BY_FAMILY[family]):
        if name not in config:
            continue
        value = config[name]
        if value is None and name in _MAY_BE_NULL and (name, family) not in _NEVER_NULL:
            stated[name] = None
        elif name in _FLAGS:
            stated[name] = flag(name, value)
        elif name in _SIZES:
            least = 0 if name == "max_window_layers" else 1
            stated[name] = whole_number(name, value, least=least, most=_SIZES[name])
        elif name == "rms_norm_eps":
            stated[name] = real_number(name, value)
        else:
            stated[name] = _kinds_of_layers(value)
    heads, width = stated.get("num_attention_heads"), stated.get("hidden_size")
    if stated.get("head_dim") is None and family != "qwen3" and heads and width:
        _divided(width, heads)
    return stated


def _divided(width: int, heads: int) -> int:
    if width % heads:
        raise ConfigError(
            f"the config has no head_dim, and hidden_size {width} is not a multiple of "
            f"num_attention_heads {heads}"
        )
    return width // heads


def _kinds_of_layers(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(kind, str) for kind in value):
        raise ConfigError(f"layer_types must be a list of texts, got {shown(value)}")
    unknown = sorted({*value} - {_FULL, _SLIDING})
    if unknown:
        raise UnsupportedError(
            f"layer_types {', '.join(unknown)} are not implemented; known: {_FULL}, {_SLIDING}"
        )
    return value


def _windows(config: "PreTrainedConfig", family: str) -> tuple[int, ...]:
    """One window a layer, 0 for none, as transformers resolves them."""
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
    """The four fields of sliding windows; `max_window_layers` is for older transformers."""
    sliding = [window > 0 for window in config.windows]
    first = sliding.index(True) if True in sliding else config.num_layers
    return {
        "use_sliding_window": any(sliding),
        "sliding_window": max(config.windows) or None,
        "max_window_layers": first,
        "layer_types": [_SLIDING if slides else _FULL for slides in sliding],
    }


def _refuse_inexpressible(config: DecoderConfig) -> None:
    """What our decoder can compute and the family's class in transformers cannot."""
    family = config.family
    faults = []
    if config.qk_norm != (family == "qwen3"):
        faults.append(f"qk_norm={config.qk_norm}")
    if family == "qwen2" and not (config.qkv_bias and not config.out_bias):
        faults.append(f"qkv_bias={config.qkv_bias} with out_bias={config.out_bias}")
    if family == "mistral" and (config.qkv_bias or config.out_bias):
        faults.append(f"qkv_bias={config.qkv_bias} with out_bias={config.out_bias}")
    if family in ("llama", "qwen3") and config.qkv_bias != config.out_bias:
        faults.append(f"qkv_bias={config.qkv_bias} with out_bias={config.out_bias}")
    if family != "llama" and config.mlp_bias:
        faults.append("mlp_bias=True")
    windows = {window for window in config.windows if window}
    if (
        len(windows) > 1
        or (windows and family == "llama")
        or (family == "mistral" and config.uniform_window is None)
    ):
        faults.append(f"windows={config.windows}")
    if faults:
        raise UnsupportedError(
            f"transformers' {ARCHITECTURES[family]} cannot express {', '.join(faults)}",
            hint="choose another family for this decoder",
        )
