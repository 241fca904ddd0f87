"""Tokenizers from folders: roles, end ids and templates in every place they are written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, pre_tokenizers

from t1_jax.errors import UnsupportedError, WeightsError
from t1_jax.hub.emb_token import add_emb_token
from t1_jax.hub.tokenizer import tokenizer_from_folder


@pytest.fixture
def folder(tmp_path: Path, tiny_tokenizer) -> Path:
    tiny_tokenizer().backend.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder: Path, name: str, **content) -> None:
    (folder / name).write_text(json.dumps(content))


def test_tokenizer_json_alone_is_enough(folder: Path) -> None:
    tokenizer = tokenizer_from_folder(folder)
    assert tokenizer.backend.encode("hello<|end|>").tokens == ["hello", "<|end|>"]
    assert (tokenizer.eos_ids, tokenizer.special_tokens) == ((), {})
    assert tokenizer.chat_template is None
    assert tokenizer.emb_token_id is None


def test_roles_are_texts_or_objects_and_the_map_wins(folder: Path) -> None:
    write(
        folder,
        "tokenizer_config.json",
        eos_token={"__type": "AddedToken", "content": "<|end|>", "lstrip": False},
        pad_token="a",
        bos_token=None,
    )
    write(folder, "special_tokens_map.json", pad_token={"content": "<|im_start|>"})
    tokenizer = tokenizer_from_folder(folder)
    assert tokenizer.special_tokens == {"eos_token": "<|end|>", "pad_token": "<|im_start|>"}
    assert tokenizer.id_of_role("pad_token") == 263
    assert tokenizer.id_of_role("bos_token") is None


@pytest.mark.parametrize(
    ("roles", "pad"),
    [
        ({"pad_token": "<|im_start|>", "eos_token": "<|end|>"}, "<|im_start|>"),
        ({"eos_token": "<|end|>"}, "<|end|>"),
        ({}, None),
    ],
    ids=str,
)
def test_a_text_that_ends_pads_where_nothing_else_does(folder: Path, roles, pad) -> None:
    write(folder, "tokenizer_config.json", **roles)
    assert tokenizer_from_folder(folder).pad_token == pad


def test_a_token_that_only_the_config_lists_keeps_its_row(folder: Path) -> None:
    entry = {"content": "<|tool|>", "special": True, "normalized": False}
    known = {"262": {"content": "<|end|>", "special": True}}
    known["263"] = {"content": "<|im_start|>", "special": True}
    write(folder, "tokenizer_config.json", added_tokens_decoder=known | {"264": entry})
    tokenizer = tokenizer_from_folder(folder)
    assert tokenizer.backend.encode("a<|tool|>").ids[1:] == [264]
    assert add_emb_token(tokenizer, 300)[1].id == 265


def test_a_token_of_added_tokens_json_keeps_its_row(folder: Path) -> None:
    write(folder, "added_tokens.json", word=264)
    tokenizer = tokenizer_from_folder(folder)
    assert tokenizer.backend.encode("aworda").ids[1:2] == [264]
    assert add_emb_token(tokenizer, 300)[1].id == 265


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"270": {"content": "<|tool|>", "special": True}}},
            r"'<\|tool\|>' has the id 270 in .*tokenizer_config\.json and 264",
        ),
        ("added_tokens.json", {"word": 266}, "token 'word' has the id 266 .* and 264"),
        ("added_tokens.json", {"<|end|>": 3}, r"token '<\|end\|>' has the id 3 .* and 262"),
        ("added_tokens.json", {"word": "x"}, "cannot read the tokenizer"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": 5}}, "not a list of tokens"),
    ],
)
def test_files_that_disagree_about_an_id_are_refused(
    folder: Path, name: str, content: dict, message: str
) -> None:
    write(folder, name, **content)
    with pytest.raises(WeightsError, match=message):
        tokenizer_from_folder(folder)


def test_truncation_and_padding_of_the_file_are_ignored(folder: Path) -> None:
    plain = tokenizer_from_folder(folder).backend
    stored = Tokenizer.from_file(str(folder / "tokenizer.json"))
    stored.enable_truncation(2)
    stored.enable_padding(length=64, pad_id=262, pad_token="<|end|>")
    stored.save(str(folder / "tokenizer.json"))
    read = tokenizer_from_folder(folder).backend
    texts = ["a", "hello hello 12"]
    assert [e.ids for e in read.encode_batch(texts)] == [e.ids for e in plain.encode_batch(texts)]


def test_a_qwen2_folder_is_read_with_the_tokenizer_class_that_transformers_takes(
    folder: Path,
) -> None:
    """Qwen2's class normalizes and splits in its own way, whatever tokenizer.json says."""
    write(folder, "config.json", model_type="qwen2")
    write(folder, "tokenizer_config.json", pad_token="<|end|>", eos_token="<|end|>")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = tokenizer_from_folder(folder).backend
    for text in ("hello 12", "e\u0301 x", "it's 123"):
        assert ours.encode(text, add_special_tokens=False).ids == theirs(text)["input_ids"]
    assert ours.encode("e\u0301").ids == ours.encode("\xe9").ids


def test_a_tokenizer_that_is_not_byte_level_is_refused(folder: Path) -> None:
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.save(str(folder / "tokenizer.json"))
    with pytest.raises(UnsupportedError, match="not byte-level BPE"):
        tokenizer_from_folder(folder)


def test_nothing_of_transformers_reaches_the_screen(folder: Path) -> None:
    """In a process of its own: the library speaks when it is imported."""
    write(folder, "config.json", model_type="llama")
    write(folder, "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    program = (
        "import sys; from pathlib import Path; import t1_jax, t1_jax.hub;"
        "from t1_jax.hub.tokenizer import tokenizer_from_folder;"
        "assert 'transformers' not in sys.modules;"
        f"tokenizer_from_folder(Path({str(folder)!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_every_stated_end_counts_once(folder: Path) -> None:
    write(folder, "generation_config.json", eos_token_id=[5, 262])
    write(folder, "config.json", eos_token_id=7)
    write(folder, "tokenizer_config.json", eos_token="<|end|>")
    assert tokenizer_from_folder(folder).eos_ids == (5, 262, 7)


def test_the_chat_template_is_found_wherever_it_stands(folder: Path) -> None:
    named = [{"name": "tool", "template": "x"}, {"name": "default", "template": "named"}]
    write(folder, "tokenizer_config.json", chat_template=named)
    assert tokenizer_from_folder(folder).chat_template == {"tool": "x", "default": "named"}
    write(folder, "tokenizer_config.json", chat_template="field")
    assert tokenizer_from_folder(folder).chat_template == "field"
    (folder / "chat_template.jinja").write_text("file")
    assert tokenizer_from_folder(folder).chat_template == "file"


def test_a_role_without_a_token_is_refused(folder: Path) -> None:
    write(folder, "special_tokens_map.json", eos_token={})
    with pytest.raises(WeightsError, match="eos_token is not a token: ''"):
        tokenizer_from_folder(folder)


@pytest.mark.parametrize("name", ["../x", "a/b", ""])
def test_a_template_is_never_named_like_another_folder(folder: Path, name: str) -> None:
    named = [{"name": name, "template": "x"}]
    write(folder, "tokenizer_config.json", chat_template=named)
    with pytest.raises(WeightsError, match="chat_template must be a string, or strings by name"):
        tokenizer_from_folder(folder)


@pytest.mark.parametrize("stated", ["two", -1, 2.5, [1, None], True, {}])
def test_ends_that_are_no_ids_are_refused(folder: Path, stated: object) -> None:
    write(folder, "generation_config.json", eos_token_id=stated)
    with pytest.raises(
        WeightsError, match=r"generation_config\.json: eos_token_id must be an integer"
    ):
        tokenizer_from_folder(folder)


def test_assigned_rows_are_those_with_a_token(folder: Path) -> None:
    assigned = tokenizer_from_folder(folder).assigned(300)
    np.testing.assert_array_equal(np.flatnonzero(assigned), np.arange(264))


def test_an_end_beyond_the_vocabulary_is_refused(folder: Path) -> None:
    write(folder, "generation_config.json", eos_token_id=[5, 128001])
    with pytest.raises(WeightsError, match="eos_token_id 128001 is beyond the vocabulary of 300"):
        tokenizer_from_folder(folder).assigned(300)


def test_more_ids_than_rows_are_refused(folder: Path) -> None:
    with pytest.raises(WeightsError, match="ids up to 263, the vocabulary only 263 rows"):
        tokenizer_from_folder(folder).assigned(263)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"tokenizer\.json is missing"),
        ("{", r"tokenizer\.json, line 1: not JSON"),
        ("{}", "transformers cannot read the tokenizer"),
        ('{"added_tokens": [], "model": {"type": "Oracle"}}', "cannot read the tokenizer"),
    ],
)
def test_damaged_tokenizers_are_refused(folder: Path, content: str | None, message: str) -> None:
    file = folder / "tokenizer.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(WeightsError, match=message):
        tokenizer_from_folder(folder)
