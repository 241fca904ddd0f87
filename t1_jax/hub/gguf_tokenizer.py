"""`ModelTokenizer` from the metadata of a GGUF file: byte-level BPE in three known variants."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

from t1_jax.errors import UnsupportedError, WeightsError
from t1_jax.hub.gguf_file import GGUFFile
from t1_jax.hub.json_files import short_repr
from t1_jax.hub.tokenizer import ModelTokenizer

# `tokenizer.ggml.token_type`
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split_by(pattern: str) -> PreTokenizer:
    split = Split(Regex(pattern), behavior="isolated")
    return Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])


@dataclass(frozen=True, kw_only=True)
class _Variant:
    """Text processing before the merges, for one value of `tokenizer.ggml.pre`.

    Attributes:
        pre_tokenizer: factory of the pre-tokenizer.
        normalize: whether to normalize to NFC.
        ignore_merges: whether words in the vocabulary skip the merges, as in tokenizers' BPE.
        bos_by_default: whether a BOS token is added unless the file states otherwise.
    """

    pre_tokenizer: Callable[[], PreTokenizer]
    normalize: bool = False
    ignore_merges: bool = False
    bos_by_default: bool = False


_VARIANTS: Mapping[str, _Variant] = {
    "smollm": _Variant(
        pre_tokenizer=lambda: Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )
    ),
    "qwen2": _Variant(
        pre_tokenizer=lambda: _split_by(rf"{_CONTRACTIONS}|\p{{N}}{_REST}"), normalize=True
    ),
    "llama-bpe": _Variant(
        pre_tokenizer=lambda: _split_by(rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}{_REST}"),
        ignore_merges=True,
        bos_by_default=True,
    ),
}

_ROLE_KEYS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "pad_token": "padding_token_id",
    "unk_token": "unknown_token_id",
}
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def tokenizer_from_gguf(file: GGUFFile) -> ModelTokenizer:
    """Builds the tokenizer from the metadata of a GGUF file.

    Rows that the file marks as unused get no token.

    Raises:
        UnsupportedError: unsupported kind of tokenizer; names it.
        WeightsError: metadata is missing or inconsistent.
    """
    fields = _Fields(file)
    variant = _variant(fields)
    tokens = fields.texts("tokens")
    kinds = fields.kinds(len(tokens))
    ids = {key: fields.id_of(key, len(tokens)) for key in (*_ROLE_KEYS.values(), *_END_KEYS)}
    try:
        merges = [_split_merge(fields, merge) for merge in fields.texts("merges")]
        backend = _backend(variant, tokens, kinds, merges)
        bos = ids["bos_token_id"]
        if bos is not None and fields.flag("add_bos_token", default=variant.bos_by_default):
            name = tokens[bos]
            backend.post_processor = processors.TemplateProcessing(
                single=[name, "$A"], pair=[name, "$A", name, "$B"], special_tokens=[(name, bos)]
            )
    except WeightsError:
        raise
    except Exception as error:  # tokenizers raises no more specific type
        raise WeightsError(
            f"{file.path}: tokens and merges are invalid: {error}", hint="download the file again"
        ) from error
    if len(backend.get_vocab()) != sum(kind != _UNUSED for kind in kinds):
        raise fields.error("tokens", "a token is listed twice")
    template = file.metadata.get("tokenizer.chat_template")
    return ModelTokenizer(
        backend=backend,
        special_tokens={
            role: tokens[index]
            for role, key in _ROLE_KEYS.items()
            if (index := ids[key]) is not None and kinds[index] != _UNUSED
        },
        eos_ids=tuple(dict.fromkeys(i for key in _END_KEYS if (i := ids[key]) is not None)),
        chat_template=template if isinstance(template, str) else None,
    )


def _backend(
    variant: _Variant, tokens: list[str], kinds: list[int], merges: list[tuple[str, str]]
) -> Tokenizer:
    vocabulary = {
        token: index
        for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind != _UNUSED
    }
    backend = Tokenizer(BPE(vocabulary, merges, ignore_merges=variant.ignore_merges))
    backend.pre_tokenizer = variant.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    if variant.normalize:
        backend.normalizer = normalizers.NFC()
    for token, kind in zip(tokens, kinds, strict=True):
        if kind in (_CONTROL, _USER_DEFINED):
            backend.add_tokens([AddedToken(token, normalized=False, special=kind == _CONTROL)])
    return backend


def _variant(fields: "_Fields") -> _Variant:
    model, pre = fields.get("model"), fields.get("pre")
    if model != "gpt2" or not isinstance(pre, str) or pre not in _VARIANTS:
        raise UnsupportedError(
            f"{fields.file.path}: tokenizer {short_repr(model)} with pre-tokenizer "
            f"{short_repr(pre)} is not supported in GGUF files; known: 'gpt2' with "
            f"{', '.join(map(repr, _VARIANTS))}",
            hint="import the Hugging Face folder of the same model, which has tokenizer.json",
        )
    return _VARIANTS[pre]


def _split_merge(fields: "_Fields", merge: str) -> tuple[str, str]:
    left, space, right = merge.partition(" ")
    if not (left and space and right):
        raise fields.error("merges", f"{merge!r} is not a pair")
    return left, right


@dataclass(frozen=True)
class _Fields:
    """The metadata under `tokenizer.ggml.`."""

    file: GGUFFile

    def get(self, key: str, default: Any = None) -> Any:
        return self.file.metadata.get(f"tokenizer.ggml.{key}", default)

    def error(self, key: str, reason: str) -> WeightsError:
        return WeightsError(
            f"{self.file.path}: tokenizer.ggml.{key}: {reason}", hint="download the file again"
        )

    def texts(self, key: str) -> list[str]:
        texts = self.get(key)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self.error(key, "must be a list of strings")
        return texts

    def kinds(self, n_tokens: int) -> list[int]:
        kinds = self.get("token_type", [1] * n_tokens)
        if not isinstance(kinds, list) or not all(isinstance(kind, int) for kind in kinds):
            raise self.error("token_type", "must be a list of integers")
        if len(kinds) != n_tokens:
            raise self.error("token_type", f"{len(kinds)} entries for {n_tokens} tokens")
        return kinds

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, got {short_repr(value)}")
        return value

    def id_of(self, key: str, n_tokens: int) -> int | None:
        index = self.get(key)
        if index is None:
            return None
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < n_tokens:
            raise self.error(key, f"must be an id below {n_tokens}, got {short_repr(index)}")
        return index
