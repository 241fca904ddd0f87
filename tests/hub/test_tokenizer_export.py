"""Tokenizers and configs written again: transformers reads of them what it reads of the source."""

import json
from pathlib import Path

import pytest
import transformers
from tokenizers import AddedToken, processors

from t1_jax.hub.tokenizer import ModelTokenizer


def write_rich_files(folder: Path, tokenizer: ModelTokenizer) -> None:
    """Everything that a source's files can say and T1 has no use for."""
    backend = tokenizer.backend
    backend.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    backend.add_special_tokens([AddedToken("<|image|>", special=True), AddedToken("<|mask|>")])
    backend.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 263)]
    )
    backend.save(str(folder / "tokenizer.json"))
    added = backend.get_added_tokens_decoder()
    entries = {str(index): token.__getstate__() for index, token in added.items()}
    written = {
        "tokenizer_config.json": {
            "added_tokens_decoder": entries,
            "additional_special_tokens": ["<|im_start|>", "<|image|>"],
            "eos_token": {"__type": "AddedToken", "content": "<|end|>", "special": True},
            "pad_token": "<|im_start|>",
            "mask_token": "<|mask|>",
            "image_token": "<|image|>",
            "bos_token": None,
            "unk_token": None,
            "add_prefix_space": False,
            "model_max_length": 4096,
            "padding_side": "left",
            "truncation_side": "left",
            "clean_up_tokenization_spaces": True,
            "errors": "replace",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": [
                {"name": "default", "template": "{{ messages }}"},
                {"name": "tool_use", "template": "{{ tools }} é"},
            ],
        },
        "generation_config.json": {
            "bos_token_id": 7,
            "eos_token_id": [262, 5],
            "pad_token_id": 9,
            "do_sample": True,
            "temperature": 0.6,
            "top_p": 0.95,
            "transformers_version": "4.51.0",
        },
        "config.json": {
            **json.loads((folder / "config.json").read_text()),
            "bos_token_id": 7,
            "eos_token_id": 5,
            "pad_token_id": 9,
            "initializer_range": 0.04,
            "use_cache": False,
            "task_specific_params": {"x": {"y": 1}},
            "unsloth_version": "2025.1",
        },
    }
    for name, fields in written.items():
        (folder / name).write_text(json.dumps(fields))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_an_export_loses_nothing_that_its_source_said(export_tiny, family: str) -> None:
    """Field by field, as transformers reads both folders; `<emb_token>` is all that is new."""
    _, base, folder = export_tiny(family, prepare=write_rich_files)
    before, after = (transformers.AutoTokenizer.from_pretrained(path) for path in (base, folder))
    for text in ("hello 12", "a<think>b<|image|>", "e\u0301  日本\n\n", "<|end|><|mask|>hello"):
        assert before(text).input_ids == after(text).input_ids
    assert after.special_tokens_map == before.special_tokens_map
    assert after.extra_special_tokens == [*before.extra_special_tokens, "<emb_token>"]
    added = {str(index): repr(token) for index, token in after.added_tokens_decoder.items()}
    assert added.pop("267").startswith('AddedToken("<emb_token>"')
    assert added == {str(i): repr(token) for i, token in before.added_tokens_decoder.items()}
    names = ("model_max_length", "padding_side", "truncation_side", "chat_template", "image_token")
    for name in (*names, "clean_up_tokenization_spaces", "add_prefix_space"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.init_kwargs["errors"] == before.init_kwargs["errors"]
    before, after = (transformers.AutoConfig.from_pretrained(path) for path in (base, folder))
    assert after.to_dict() == before.to_dict() | {"_name_or_path": str(folder)}
    before, after = (transformers.GenerationConfig.from_pretrained(path) for path in (base, folder))
    ends = {"eos_token_id": [262, 5, 267]}
    assert after.to_dict() == before.to_dict() | ends


def test_a_pad_token_that_the_source_lacks_is_the_one_that_ends_a_text(export_tiny) -> None:
    """Llama 3 has none."""

    def without_pad(folder: Path, tokenizer: ModelTokenizer) -> None:
        tokenizer.backend.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))

    _, _, folder = export_tiny(prepare=without_pad)
    document = transformers.AutoTokenizer.from_pretrained(folder / "document")
    assert document.pad_token == "<|end|>"
    assert transformers.AutoTokenizer.from_pretrained(folder).pad_token is None
