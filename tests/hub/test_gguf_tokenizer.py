"""Tokenizers from GGUF metadata: the pieces each variant cuts, and refusals by name."""

from pathlib import Path

import pytest

from t1_jax.errors import UnsupportedError, WeightsError
from t1_jax.hub.gguf_file import GGUFFile
from t1_jax.hub.gguf_tokenizer import tokenizer_from_gguf


@pytest.fixture
def described(tiny_vocabulary):
    """Metadata of the tiny vocabulary: 262 tokens, 3 control tokens, 1 user-defined, 2 unused."""

    def make(pre: str = "smollm", **changes: object) -> GGUFFile:
        tokens, merges = tiny_vocabulary()
        extra = ["<|end|>", "<|start|>", "<spare>", "<think>", "[PAD266]", "[PAD267]"]
        fields: dict[str, object] = {
            "model": "gpt2",
            "pre": pre,
            "tokens": [*tokens, *extra],
            "token_type": [1] * len(tokens) + [3, 3, 3, 4, 5, 5],
            "merges": merges,
            "bos_token_id": 263,
            "eos_token_id": 262,
            "eot_token_id": 263,
            "padding_token_id": 262,
            **changes,
        }
        metadata = {f"tokenizer.ggml.{key}": value for key, value in fields.items()}
        metadata |= {"tokenizer.chat_template": "{{ x }}"}
        return GGUFFile(path=Path("m.gguf"), metadata=metadata, tensors={})

    return make


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("smollm", "hello 12", ["hello", "Ġ", "1", "2"]),
        ("qwen2", "hello 12", ["hello", "Ġ", "1", "2"]),
        ("llama-bpe", "hello 12", ["hello", "Ġ", "12"]),
        ("smollm", "e\u0301", ["e", "Ì", "ģ"]),
        ("qwen2", "e\u0301", ["Ã", "©"]),
    ],
)
def test_each_variant_cuts_as_its_model_was_trained(
    described, pre: str, text: str, pieces: list[str]
) -> None:
    tokenizer = tokenizer_from_gguf(described(pre, add_bos_token=False))
    assert tokenizer.backend.encode(text).tokens == pieces


def test_roles_ends_and_template_are_read(described) -> None:
    tokenizer = tokenizer_from_gguf(described())
    assert tokenizer.special_tokens == {
        "bos_token": "<|start|>",
        "eos_token": "<|end|>",
        "pad_token": "<|end|>",
    }
    assert tokenizer.eos_ids == (262, 263)
    assert tokenizer.chat_template == "{{ x }}"


def test_control_and_user_tokens_stay_whole_and_unused_rows_have_no_token(described) -> None:
    backend = tokenizer_from_gguf(described()).backend
    assert backend.encode("h<|end|><think>").ids[-2:] == [262, 265]
    assert backend.decode([262, 265]) == "<think>"  # only control tokens are special
    assert backend.id_to_token(266) is None
    assert tokenizer_from_gguf(described()).assigned(268).sum() == 266


def test_a_role_on_an_unused_row_has_no_token(described) -> None:
    tokenizer = tokenizer_from_gguf(described(padding_token_id=267))
    assert set(tokenizer.special_tokens) == {"bos_token", "eos_token"}
    assert tokenizer.pad_token == "<|end|>"


def test_a_beginning_token_is_added_where_the_model_expects_one(described) -> None:
    ids = lambda *args, **changes: (  # noqa: E731
        tokenizer_from_gguf(described(*args, **changes)).backend.encode("hello").ids
    )
    assert ids("smollm")[0] != 263
    assert ids("smollm", add_bos_token=True)[0] == 263
    assert ids("llama-bpe")[0] == 263
    assert ids("llama-bpe", add_bos_token=False)[0] != 263


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pre": "tekken"}, "'gpt2' with pre-tokenizer 'tekken'"),
        ({"model": "llama"}, "'llama'"),
        ({"pre": ["qwen2"]}, r"pre-tokenizer \['qwen2'\]"),
    ],
)
def test_other_tokenizers_are_refused_by_name(described, changes, named: str) -> None:
    with pytest.raises(UnsupportedError, match=named):
        tokenizer_from_gguf(described(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"merges": None}, "merges: must be a list of strings"),
        ({"merges": ["he"]}, "merges: 'he' is not a pair"),
        ({"token_type": [1]}, "token_type: 1 entries for 268 tokens"),
        ({"merges": ["he zz"]}, "tokens and merges are invalid"),
        ({"token_type": 5}, "token_type: must be a list of integers"),
        ({"token_type": ["x"] * 268}, "token_type: must be a list of integers"),
        ({"eos_token_id": 300}, "eos_token_id: must be an id below 268, got 300"),
        ({"eos_token_id": True}, "eos_token_id: must be an id below 268, got True"),
        ({"tokens": [*"ab"] * 134, "merges": []}, "tokens: a token is listed twice"),
        ({"add_bos_token": "no"}, "add_bos_token: must be true or false, got 'no'"),
    ],
)
def test_inconsistent_metadata_is_refused(described, changes, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        tokenizer_from_gguf(described(**changes))
