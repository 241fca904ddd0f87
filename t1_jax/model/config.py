"""The decoder's shape: every field changes the computation, or is refused."""

import math
from dataclasses import dataclass, fields

from t1_jax.errors import ConfigError, UnsupportedError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
MAX_LAYERS = 10_000
"""More are taken for a damaged config: each needs an entry in several tables."""
ROPE_KINDS = ("default", "linear", "dynamic", "llama3", "yarn")

_ROPE_FIELDS = {
    "factor": ("linear", "dynamic", "llama3", "yarn"),
    "original_max_positions": ("llama3", "yarn"),
    "low_freq_factor": ("llama3",),
    "high_freq_factor": ("llama3",),
    "beta_fast": ("yarn",),
    "beta_slow": ("yarn",),
    "attention_factor": ("yarn",),
    "truncate": ("yarn",),
}
"""Which kinds of rope read a field; another kind takes only its default."""

_FLOAT32_MAX = 3.4028234663852886e38


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary position embedding (arXiv:2104.09864) and its extension to longer contexts.

    Attributes:
        theta: base of the geometric series of wavelengths (HF `rope_theta`).
        kind: `default`; `linear` (positions divided by `factor`); `dynamic` (NTK scaling, which
            raises theta for texts beyond the model's `max_positions`; the decoder takes none, so
            the angles are those of `default`, and `factor` is kept for the export); `llama3`
            (Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between);
            `yarn` (arXiv:2309.00071).
        factor: ratio of the extended to the original context; 1 for `default`.
        original_max_positions: context in tokens of the pre-training (`llama3`, `yarn`).
        low_freq_factor: `llama3`: wavelengths beyond original context / this are interpolated.
        high_freq_factor: `llama3`: wavelengths below original context / this are kept.
        beta_fast: `yarn`: rotations over the original context above which a dimension is kept.
        beta_slow: `yarn`: rotations below which a dimension is interpolated.
        attention_factor: `yarn`: multiplier of cos and sin; already resolved from
            `attention_factor`, `mscale` and `mscale_all_dim`; 1 for the other kinds.
        truncate: `yarn`: whether the ramp's ends are rounded outwards to whole dimensions.
    """

    theta: float
    kind: str = "default"
    factor: float = 1.0
    original_max_positions: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ROPE_KINDS:
            raise UnsupportedError(
                f"rope type {self.kind!r} is not implemented; known: {', '.join(ROPE_KINDS)}",
                hint="use a checkpoint with one of the known rope types",
            )
        for field in fields(self):
            value = self.__dict__[field.name]
            # Frequencies are computed in float32; "not a number" is not within its range either.
            if isinstance(value, int | float) and not abs(value) <= _FLOAT32_MAX:
                raise ConfigError(f"rope {field.name} must be a finite number, got {value}")
        if self.theta <= 0 or self.factor <= 0:
            raise ConfigError(
                f"rope theta and factor must be positive, got {self.theta} and {self.factor}"
            )
        if self.kind in ("llama3", "yarn") and self.original_max_positions <= 0:
            raise ConfigError(f"rope type {self.kind!r} needs original_max_position_embeddings")
        if self.kind == "yarn" and self.theta == 1:
            raise ConfigError("rope type 'yarn' needs a theta other than 1")
        if self.low_freq_factor <= 0:
            raise ConfigError(f"rope low_freq_factor must be positive, got {self.low_freq_factor}")
        if self.high_freq_factor <= self.low_freq_factor:
            raise ConfigError(
                f"rope high_freq_factor {self.high_freq_factor} must be above low_freq_factor "
                f"{self.low_freq_factor}"
            )
        if self.beta_fast < self.beta_slow or self.beta_slow <= 0:
            raise ConfigError(
                f"rope beta_fast {self.beta_fast} must be at least beta_slow {self.beta_slow}, "
                f"and both positive"
            )
        for field in fields(self):
            value = self.__dict__[field.name]
            kinds = _ROPE_FIELDS.get(field.name, ROPE_KINDS)
            if self.kind not in kinds and value != field.default:
                raise ConfigError(
                    f"rope type {self.kind!r} does not read {field.name}, got {value}",
                    hint=f"leave it out, or use rope type {' or '.join(kinds)}",
                )


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A decoder-only transformer of the llama, mistral, qwen2 or qwen3 form.

    Attributes:
        family: `llama`, `mistral`, `qwen2` or `qwen3`: the Hugging Face `model_type` it is
            exported as.
        vocab_size: V, token ids the checkpoint has rows for.
        vocab_multiple: embedding rows are padded up to a multiple of this so that they divide
            over a mesh; the logits of padding rows are minus infinity.
        embed_dim: D, width of the residual stream.
        num_layers: Y.
        num_heads: N, query heads.
        num_kv_heads: K, key and value heads; divides N.
        head_dim: H, even; not necessarily D / N.
        mlp_dim: F.
        norm_eps: epsilon of every RMSNorm.
        rope: rotary position embedding.
        max_positions: longest context in tokens the checkpoint was made for.
        qkv_bias: q, k and v projections have biases.
        out_bias: the attention's output projection has a bias.
        mlp_bias: gate, up and down projections have biases.
        qk_norm: RMSNorm over the head dimension of q and k before rotation.
        tie_embeddings: the language-model head is the embedding table.
        windows: one entry a layer: a token sees itself and the `window - 1` tokens before it;
            0 means all of them.
    """

    family: str
    vocab_size: int
    vocab_multiple: int = 128
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    norm_eps: float
    rope: RopeConfig
    max_positions: int
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tie_embeddings: bool = True
    windows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UnsupportedError(
                f"family {self.family!r} is not implemented; known: {', '.join(FAMILIES)}",
                hint="use a checkpoint of one of the known families",
            )
        for name in (field.name for field in fields(self) if field.type is int):
            if self.__dict__[name] <= 0:
                raise ConfigError(f"{name} must be positive, got {self.__dict__[name]}")
        if self.num_layers > MAX_LAYERS:
            raise ConfigError(f"num_layers must be at most {MAX_LAYERS}, got {self.num_layers}")
        if not math.isfinite(self.norm_eps) or self.norm_eps < 0:
            raise ConfigError(f"norm_eps must be a finite number >= 0, got {self.norm_eps}")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary embedding, got {self.head_dim}")
        if not self.windows:
            object.__setattr__(self, "windows", (0,) * self.num_layers)
        if len(self.windows) != self.num_layers or min(self.windows) < 0:
            raise ConfigError(
                f"windows needs one non-negative entry for each of {self.num_layers} layers, "
                f"got {self.windows}"
            )

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding table, padding included."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    @property
    def uniform_window(self) -> int | None:
        """The window that all layers share (0: none), or None where layers differ."""
        return self.windows[0] if len(set(self.windows)) == 1 else None
