"""The document side in sentence-transformers: same tokens, same vectors, and no silent queries."""

import json
from pathlib import Path

import numpy as np
import pytest
import transformers
from tokenizers import AddedToken

from t1_jax.hub.emb_token import add_emb_token
from t1_jax.hub.hf_config import hf_config_from_decoder
from t1_jax.hub.sentence_transformers import (
    DocumentPrompt,
    write_document_tokenizer,
    write_sentence_transformers,
)
from t1_jax.text import T1Tokenizer

TEMPLATE = "<|im_start|>hell\n{text}<|end|>\n<|im_start|>he\n"
DOCUMENTS = [
    "hello 12",
    "ends with specials <|end|><emb_token>",
    "long " * 60,
    "é日本 \n\n tail",
    "日本語" * 30,  # a cut falls between the three tokens of a character
    "a" + "😀" * 30,
    "é<think>12" * 20,
]


@pytest.fixture
def exported(tmp_path: Path, tiny_config, tiny_tokenizer, random_tensors, write_folder):
    """A folder with the layout, and the rows that T1 itself makes of the documents."""
    config = tiny_config("qwen3", vocab_size=300, num_kv_heads=4)
    folder = write_folder(tmp_path / "model", config, random_tensors(config))
    base = tiny_tokenizer()
    base.backend.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    tokenizer, emb = add_emb_token(base, config.vocab_size)
    ours = T1Tokenizer(tokenizer.backend, emb_token_id=emb.id, eos_ids=(262,), pad_id=262)
    encode = lambda text: tokenizer.backend.encode(text, add_special_tokens=False).ids  # noqa: E731
    side = DocumentPrompt(
        head_ids=(263,),
        text_prefix="hell\n",
        tail_ids=(*encode("<|end|>\n<|im_start|>he\n"), emb.id),
        max_tokens=48,
    )
    weights = [folder / "model.safetensors"]
    write_document_tokenizer(folder, tokenizer, side)
    write_sentence_transformers(folder, weights, config.embed_dim, side)
    prompts = ours.encode_prompts(TEMPLATE, instruction="", texts=DOCUMENTS, max_tokens=47)
    return folder, side, [ours.append_emb_token(prompt).ids.tolist() for prompt in prompts]


def test_tokens_are_those_of_t1_also_when_a_document_is_cut(exported) -> None:
    folder, side, rows = exported
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "document")
    texts = [side.text_prefix + document for document in DOCUMENTS]
    encoded = tokenizer(texts, truncation=True, max_length=side.max_tokens, padding=True)
    lengths = [sum(mask) for mask in encoded.attention_mask]
    for ids, length, row in zip(encoded.input_ids, lengths, rows, strict=True):
        assert ids[:length] == row
    assert lengths[4:] == [side.max_tokens] * 3


def test_the_emb_token_stands_once_and_last(exported) -> None:
    folder, side, _ = exported
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "document")
    for document in DOCUMENTS:
        for most in (12, 20, side.max_tokens):
            ids = tokenizer(document, truncation=True, max_length=most).input_ids
            assert ids.count(265) == 1
            assert ids[-1] == 265
            assert len(ids) <= most


def test_weights_are_shared_not_doubled(exported) -> None:
    folder, _, _ = exported
    for name in ("model.safetensors", "config.json"):
        assert (folder / name).stat().st_ino == (folder / "document" / name).stat().st_ino


def test_weights_are_copied_where_links_are_not_to_be_had(
    tmp_path: Path, tiny_tokenizer, monkeypatch
) -> None:
    def no_links(*args: object) -> None:
        raise OSError("not on this file system")

    monkeypatch.setattr("os.link", no_links)
    (tmp_path / "config.json").write_text("{}")
    tokenizer, emb = add_emb_token(tiny_tokenizer(), 300)
    side = DocumentPrompt(head_ids=(), text_prefix="", tail_ids=(emb.id,), max_tokens=9)
    write_document_tokenizer(tmp_path, tokenizer, side)
    write_sentence_transformers(tmp_path, [], 12, side)
    assert (tmp_path / "document" / "config.json").read_text() == "{}"


def test_card_and_config_say_that_queries_must_think(exported) -> None:
    folder, side, _ = exported
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    assert "must think" in config["t1_notice"]
    assert config["prompts"] == {"document": side.text_prefix}
    router = json.loads((folder / "router_config.json").read_text())
    assert list(router["structure"]) == ["document"]
    assert router["parameters"]["default_route"] is None
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert [name for name, on in pooling.items() if on is True] == [
        "pooling_mode_lasttoken",
        "include_prompt",
    ]


def test_sentence_transformers_encodes_documents_and_refuses_queries(exported) -> None:
    torch = pytest.importorskip("torch")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder, _, rows = exported
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    vectors = model.encode_document(DOCUMENTS)
    decoder = transformers.AutoModelForCausalLM.from_pretrained(folder).model
    for row, vector in zip(rows, vectors, strict=True):
        with torch.no_grad():
            hidden = decoder(torch.tensor([row])).last_hidden_state[0, -1].numpy()
        np.testing.assert_allclose(vector, hidden / np.linalg.norm(hidden), atol=1e-5)
    with pytest.raises(ValueError, match="No route found for task type 'query'"):
        model.encode_query(["hello"])
    with pytest.raises(ValueError, match="route"):
        model.encode(["hello"])


def test_the_causal_model_beside_it_keeps_its_plain_tokenizer(
    tmp_path: Path, tiny_config, tiny_tokenizer
) -> None:
    config = tiny_config("llama", vocab_size=300)
    tokenizer, emb = add_emb_token(tiny_tokenizer(), 300)
    before = tokenizer.backend.to_str()
    (tmp_path / "config.json").write_text(
        json.dumps(hf_config_from_decoder(config, dtype="float32"))
    )
    side = DocumentPrompt(head_ids=(263,), text_prefix="", tail_ids=(emb.id,), max_tokens=9)
    write_document_tokenizer(tmp_path, tokenizer, side)
    write_sentence_transformers(tmp_path, [], 12, side)
    assert tokenizer.backend.to_str() == before
    assert not (tmp_path / "tokenizer.json").exists()
