"""config.json: read as transformers reads it, written so that transformers reads it back."""

from typing import Any

import pytest
import transformers

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.hub.hf_config import NO_INFLUENCE, decoder_config_from_hf, hf_config_from_decoder
from t1_jax.model import RopeConfig

CLASSES = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
}

# As published, field by field.
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 576,
    "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pad_token_id": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}},
    "transformers_version": "4.42.3",
    "use_cache": True,
    "vocab_size": 49152,
}
QWEN3_4B = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 9728,
    "max_position_embeddings": 262144,
    "max_window_layers": 36,
    "model_type": "qwen3",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 5000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
LLAMA3_SCALING = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def test_smollm2_is_read_with_its_own_theta_and_divided_head_dim() -> None:
    config = decoder_config_from_hf(SMOLLM2)
    assert (config.family, config.head_dim, config.num_kv_heads) == ("llama", 64, 3)
    assert config.rope == RopeConfig(theta=1e5)
    assert config.norm_eps == 1e-5
    assert config.tie_embeddings
    assert not any((config.qkv_bias, config.out_bias, config.mlp_bias, config.qk_norm))


def test_qwen3_is_read_with_its_own_head_dim_and_norms() -> None:
    config = decoder_config_from_hf(QWEN3_4B)
    assert (config.embed_dim, config.num_heads, config.head_dim) == (2560, 32, 128)
    assert config.rope.theta == 5e6
    assert config.qk_norm
    assert config.windows == (0,) * 36


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("llama", {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "tie_embeddings": False}),
        ("qwen2", {}),
        ("qwen2", {"windows": (0, 0, 64)}),
        ("qwen3", {"qkv_bias": True, "out_bias": True}),
        ("qwen3", {"windows": (64, 0, 64)}),
        ("mistral", {}),
        ("mistral", {"windows": (64, 64, 64), "tie_embeddings": False}),
        ("llama", {"rope": RopeConfig(theta=7e3, kind="linear", factor=4.0)}),
        ("llama", {"rope": RopeConfig(theta=7e3, kind="dynamic", factor=4.0)}),
        (
            "llama",
            {
                "rope": RopeConfig(
                    theta=5e5,
                    kind="llama3",
                    factor=8.0,
                    original_max_positions=128,
                    low_freq_factor=1.5,
                    high_freq_factor=3.5,
                )
            },
        ),
        (
            "qwen3",
            {
                "rope": RopeConfig(
                    theta=1e6,
                    kind="yarn",
                    factor=4.0,
                    original_max_positions=128,
                    beta_fast=24.0,
                    beta_slow=2.0,
                    attention_factor=1.1,
                    truncate=False,
                )
            },
        ),
    ],
    ids=str,
)
def test_a_round_trip_through_transformers_changes_nothing(
    tiny_config, family: str, changes: dict[str, Any]
) -> None:
    config = tiny_config(family, vocab_multiple=128, num_kv_heads=4, **changes)
    fields = hf_config_from_decoder(config, dtype="bfloat16", eos_token_id=2)
    assert decoder_config_from_hf(fields) == config
    theirs = CLASSES[family](**fields).to_dict()
    assert decoder_config_from_hf(theirs | {"architectures": None}) == config


def test_an_embedding_models_architecture_is_that_of_its_decoder() -> None:
    bare = decoder_config_from_hf(QWEN3_4B | {"architectures": ["Qwen3Model"]})
    assert bare == decoder_config_from_hf(QWEN3_4B)


@pytest.mark.parametrize(
    ("stated", "window"), [({}, 4096), ({"sliding_window": None}, 0), ({"sliding_window": 99}, 99)]
)
def test_mistrals_window_holds_for_all_layers(stated: dict[str, Any], window: int) -> None:
    """As transformers' MistralConfig: null is none, and absent is 4,096."""
    dropped = ("attention_bias", "mlp_bias", "is_llama_config", "pretraining_tp", "architectures")
    fields = {key: value for key, value in SMOLLM2.items() if key not in dropped}
    fields |= {"model_type": "mistral", **stated}
    assert decoder_config_from_hf(fields).windows == (window,) * 30
    assert transformers.MistralConfig(**fields).sliding_window == (window or None)


def test_both_layouts_of_rope_say_the_same() -> None:
    old = SMOLLM2 | {"rope_theta": 5e5, "rope_scaling": LLAMA3_SCALING}
    new = {k: v for k, v in old.items() if k not in ("rope_theta", "rope_scaling")}
    new["rope_parameters"] = {"rope_theta": 5e5, **LLAMA3_SCALING}
    assert decoder_config_from_hf(old) == decoder_config_from_hf(new)
    assert decoder_config_from_hf(old).rope.kind == "llama3"


def test_sliding_windows_follow_max_window_layers() -> None:
    fields = QWEN3_4B | {"use_sliding_window": True, "sliding_window": 4096}
    fields["max_window_layers"] = 30
    assert decoder_config_from_hf(fields).windows == (0,) * 30 + (4096,) * 6


def test_layer_types_win_over_max_window_layers() -> None:
    kinds = ["sliding_attention", "full_attention"] * 18
    fields = QWEN3_4B | {"use_sliding_window": True, "sliding_window": 512, "layer_types": kinds}
    assert decoder_config_from_hf(fields).windows == (512, 0) * 18


def test_a_window_that_is_switched_off_does_nothing() -> None:
    assert decoder_config_from_hf(QWEN3_4B | {"sliding_window": 4096}).uniform_window == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' (only 'silu' is supported)"),
        ({"attention_dropout": 0.1}, "attention_dropout = 0.1 (only 0.0 is supported)"),
        ({"pretraining_tp": 2}, "pretraining_tp = 2"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"quantization_config": {"bits": 4}}, "quantized weights are not supported"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "auto_map"),
        ({"use_sliding_window": True}, "use_sliding_window = True"),
        ({"rope_interleaved": True}, "rope_interleaved"),
        ({"rope_tetha": 1e6}, "rope_tetha = 1000000.0 (did you mean 'rope_theta'?)"),
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, "rope type 'longrope'"),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "x": 1}},
            "has unsupported parameters: x",
        ),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "between layer types"),
        ({"model_type": "mixtral"}, "architecture 'mixtral' (model_type)"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
    ],
    ids=str,
)
def test_what_is_not_honored_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        decoder_config_from_hf(SMOLLM2 | change)
    assert message in str(caught.value)


def test_all_fields_that_are_not_honored_are_listed_at_once() -> None:
    with pytest.raises(UnsupportedError) as caught:
        decoder_config_from_hf(SMOLLM2 | {"hidden_act": "relu", "logit_scale": 2.0})
    assert "hidden_act" in str(caught.value)
    assert "logit_scale" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_theta": None}, "rope_theta must be a positive finite number, got None"),
        ({"rms_norm_eps": None}, "rms_norm_eps must be a positive finite number, got None"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a positive finite number, got nan"),
        ({"num_attention_heads": 0}, "num_attention_heads must be an integer from 1"),
        ({"num_hidden_layers": 10**10}, "num_hidden_layers must be an integer from 1 to 10000"),
        ({"vocab_size": 10**12}, "vocab_size must be an integer"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings must be true or false, got None"),
        ({"rope_scaling": "linear"}, "rope_scaling must be an object, got 'linear'"),
        ({"rope_scaling": {"rope_type": ["yarn"]}}, "rope_type must be a string"),
        ({"hidden_size": "576"}, "hidden_size must be an integer"),
        ({"hidden_size": 577}, "not a multiple of num_attention_heads"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings must be true or false"),
        ({"num_key_value_heads": 2}, "num_heads 9 is not a multiple"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "two values for rope_theta"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor of rope type 'linear' must be"),
    ],
    ids=str,
)
def test_what_is_missing_or_inconsistent_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decoder_config_from_hf(SMOLLM2 | change)


def test_qwen3_without_a_head_dim_is_refused_rather_than_divided() -> None:
    with pytest.raises(ConfigError, match="head_dim must be an integer"):
        decoder_config_from_hf(QWEN3_4B | {"head_dim": None})


@pytest.mark.parametrize(
    ("family", "absent"),
    [
        ("llama", ["rope_theta", "num_key_value_heads", "head_dim", "rms_norm_eps"]),
        ("llama", ["tie_word_embeddings", "attention_bias", "mlp_bias", "architectures"]),
        ("qwen2", ["rope_theta", "rms_norm_eps", "head_dim", "max_window_layers"]),
        ("qwen3", ["rope_theta", "head_dim", "sliding_window", "layer_types"]),
    ],
    ids=str,
)
def test_an_absent_field_has_the_default_of_transformers(
    tiny_config, family: str, absent: list[str]
) -> None:
    config = tiny_config(family, embed_dim=16, num_kv_heads=4)
    fields = hf_config_from_decoder(config, dtype="float32")
    fields |= {"rope_scaling": None, "rope_parameters": None}
    fields = {name: value for name, value in fields.items() if name not in absent}
    ours, theirs = decoder_config_from_hf(fields), CLASSES[family](**fields)
    assert ours.rope.theta == theirs.rope_parameters["rope_theta"]
    assert ours.num_kv_heads == theirs.num_key_value_heads
    assert ours.head_dim == getattr(theirs, "head_dim", 16 // 4)
    assert ours.norm_eps == theirs.rms_norm_eps
    assert ours.tie_embeddings == theirs.tie_word_embeddings


@pytest.mark.parametrize(
    "change",
    [
        {"layer_types": ["full_attention"]},
        {"layer_types": ["sliding_attention"] * 36},
    ],
    ids=["too few", "no window"],
)
def test_inconsistent_layer_types_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="layer_types"):
        decoder_config_from_hf(QWEN3_4B | change)


@pytest.mark.parametrize("family", CLASSES)
def test_every_field_transformers_writes_by_default_is_known(family: str) -> None:
    """A new transformers version that adds a field must be looked at, not trusted."""
    theirs = CLASSES[family](num_hidden_layers=2, head_dim=8).to_dict()
    decoder_config_from_hf(theirs)
    assert "initializer_range" in NO_INFLUENCE


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"windows": (0, 8, 8)}),
        ("llama", {"qkv_bias": True}),
        ("llama", {"qk_norm": True}),
        ("mistral", {"qkv_bias": True, "out_bias": True}),
        ("mistral", {"windows": (0, 8, 8)}),
        ("qwen2", {"qkv_bias": False}),
        ("qwen2", {"mlp_bias": True}),
        ("qwen3", {"windows": (0, 8, 16)}),
    ],
    ids=str,
)
def test_a_decoder_that_transformers_cannot_express_is_refused(
    tiny_config, family: str, changes: dict[str, Any]
) -> None:
    config = tiny_config(family, **changes)
    with pytest.raises(UnsupportedError):
        hf_config_from_decoder(config, dtype="float32")
