"""Tokenisers from folders: roles, end ids and templates in every place they are written."""

import json
from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import WeightsError
from t1_jax.hub.tokeniser import tokeniser_from_folder


@pytest.fixture
def folder(tmp_path: Path, tiny_tokeniser) -> Path:
    tiny_tokeniser().backend.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder: Path, name: str, **content) -> None:
    (folder / name).write_text(json.dumps(content))


def test_tokenizer_json_alone_is_enough(folder: Path) -> None:
    tokeniser = tokeniser_from_folder(folder)
    assert tokeniser.backend.encode("hello<|end|>").tokens == ["hello", "<|end|>"]
    assert (tokeniser.eos_ids, tokeniser.special_tokens) == ((), {})
    assert tokeniser.chat_template is None
    assert tokeniser.emb_token_id is None


def test_roles_are_texts_or_objects_and_the_map_wins(folder: Path) -> None:
    write(
        folder,
        "tokenizer_config.json",
        eos_token={"content": "<|end|>", "lstrip": False},
        pad_token="a",
        bos_token=None,
    )
    write(folder, "special_tokens_map.json", pad_token="<|im_start|>")
    tokeniser = tokeniser_from_folder(folder)
    assert tokeniser.special_tokens == {"eos_token": "<|end|>", "pad_token": "<|im_start|>"}
    assert tokeniser.id_of_role("pad_token") == 263
    assert tokeniser.id_of_role("bos_token") is None


def test_every_stated_end_counts_once(folder: Path) -> None:
    write(folder, "generation_config.json", eos_token_id=[5, 262])
    write(folder, "config.json", eos_token_id=7)
    write(folder, "tokenizer_config.json", eos_token="<|end|>")
    assert tokeniser_from_folder(folder).eos_ids == (5, 262, 7)


def test_the_chat_template_is_found_wherever_it_stands(folder: Path) -> None:
    named = [{"name": "tool", "template": "x"}, {"name": "default", "template": "named"}]
    write(folder, "tokenizer_config.json", chat_template=named)
    assert tokeniser_from_folder(folder).chat_template == "named"
    write(folder, "tokenizer_config.json", chat_template="field")
    assert tokeniser_from_folder(folder).chat_template == "field"
    (folder / "chat_template.jinja").write_text("file")
    assert tokeniser_from_folder(folder).chat_template == "file"


def test_assigned_rows_are_those_with_a_token(folder: Path) -> None:
    assigned = tokeniser_from_folder(folder).assigned(300)
    np.testing.assert_array_equal(np.flatnonzero(assigned), np.arange(264))


def test_more_ids_than_rows_are_refused(folder: Path) -> None:
    with pytest.raises(WeightsError, match="ids up to 263, the vocabulary only 263 rows"):
        tokeniser_from_folder(folder).assigned(263)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"tokenizer\.json is missing"),
        ("{", r"tokenizer\.json, line 1: not JSON"),
        ("{}", "has no tokeniser model"),
        ('{"version": "1.0", "model": {"type": "Oracle"}}', "not a tokeniser that is understood"),
    ],
)
def test_damaged_tokenisers_are_refused(folder: Path, content: str | None, message: str) -> None:
    file = folder / "tokenizer.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(WeightsError, match=message):
        tokeniser_from_folder(folder)
