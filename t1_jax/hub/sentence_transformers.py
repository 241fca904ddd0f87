"""Export of the document side to sentence-transformers; encoding a query raises an error there.

sentence-transformers supports a prompt before the text, but T1's document prompt also has tokens
after the text and ends with `<emb_token>`, which must survive truncation. So the folder `document/`
has a tokenizer whose post-processor adds the prompt's tokens after truncation. The causal language
model beside it keeps its own tokenizer; both share weight files by hard links.

A `Router` has the single route `document`: `encode_document` works, and `encode_query` and `encode`
raise, because T1 needs a thought to embed a query.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t1_jax.errors import ConfigError
from t1_jax.hub.json_files import to_json
from t1_jax.hub.safetensors_source import INDEX_FILE
from t1_jax.hub.tokenizer import EMB_TOKEN, ModelTokenizer
from t1_jax.hub.tokenizer_export import GENERIC_CLASS, ROLES

_NOTICE = (
    "Document side only. The query side of T1 must think: it writes a reasoning trajectory and "
    "reads the query's vector at the <emb_token> that ends it. Use t1_jax for queries; "
    "encode_query raises here on purpose."
)
DOCUMENT_FOLDER = "document"
_POOLING, _NORMALIZE = "1_Pooling", "2_Normalize"


@dataclass(frozen=True, kw_only=True)
class DocumentPrompt:
    """The document prompt, split at the text.

    Attributes:
        head_ids: ids up to and including the last special token before the text.
        text_prefix: plain text between that token and the text; tokenized together with it.
        tail_ids: ids from the first special token after the text to `<emb_token>`.
        max_tokens: maximum length of a row, including the prompt; texts are truncated.
    """

    head_ids: tuple[int, ...]
    text_prefix: str
    tail_ids: tuple[int, ...]
    max_tokens: int


def check_document_prompt(prompt: DocumentPrompt, tokenizer: ModelTokenizer) -> None:
    """Raises if sentence-transformers cannot use the prompt.

    Raises:
        ConfigError: the prompt does not end with `<emb_token>`, or there is no padding token.
    """
    if not prompt.tail_ids or prompt.tail_ids[-1] != tokenizer.emb_token_id:
        raise ConfigError(f"the document prompt must end with <emb_token>, got {prompt.tail_ids}")
    if tokenizer.pad_token is None:
        raise ConfigError(
            "the tokenizer has neither pad_token nor eos_token; sentence-transformers needs one of "
            "them for batches",
            hint="set pad_token in tokenizer_config.json and import the model again",
        )


def write_document_tokenizer(
    folder: Path, tokenizer: ModelTokenizer, prompt: DocumentPrompt
) -> None:
    """Creates the folder `document/` of an export, with its tokenizer only."""
    settings = {
        "tokenizer_class": GENERIC_CLASS,
        "model_max_length": prompt.max_tokens,
        "clean_up_tokenization_spaces": False,
        "padding_side": "right",
        "truncation_side": "right",
        "split_special_tokens": True,  # <emb_token> inside a document is plain text
        **dict.fromkeys(ROLES),
        **tokenizer.special_tokens,
        "pad_token": tokenizer.pad_token,
    }
    texts = {
        "tokenizer.json": json.dumps(_document_tokenizer(tokenizer, prompt), ensure_ascii=False),
        "tokenizer_config.json": to_json(settings),
    }
    (folder / DOCUMENT_FOLDER).mkdir()
    for name, text in texts.items():
        (folder / DOCUMENT_FOLDER / name).write_text(text, encoding="utf-8")


def write_sentence_transformers(
    folder: Path, weights: Iterable[Path], embed_dim: int, prompt: DocumentPrompt
) -> None:
    """Adds the files of sentence-transformers to an export with config, weights and tokenizers."""
    _link_all([*weights, folder / "config.json", folder / INDEX_FILE], folder / DOCUMENT_FOLDER)
    for name, content in _json_files(embed_dim, prompt).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(to_json(content), encoding="utf-8")


def _json_files(
    embed_dim: int, prompt: DocumentPrompt
) -> dict[str, dict[str, Any] | list[dict[str, Any]]]:
    """File name -> content."""
    modules = "sentence_transformers.models"
    return {
        "modules.json": [{"idx": 0, "name": "0", "path": "", "type": f"{modules}.Router"}],
        "router_config.json": {
            "types": {
                DOCUMENT_FOLDER: f"{modules}.Transformer",
                _POOLING: f"{modules}.Pooling",
                _NORMALIZE: f"{modules}.Normalize",
            },
            "structure": {"document": [DOCUMENT_FOLDER, _POOLING, _NORMALIZE]},
            "parameters": {"default_route": None, "allow_empty_key": False},
        },
        "config_sentence_transformers.json": {
            "model_type": "SentenceTransformer",
            "prompts": {"document": prompt.text_prefix},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
            "t1_notice": _NOTICE,
        },
        f"{DOCUMENT_FOLDER}/sentence_bert_config.json": {
            "max_seq_length": prompt.max_tokens,
            "do_lower_case": False,
        },
        f"{_POOLING}/config.json": {
            "word_embedding_dimension": embed_dim,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": False,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
            "pooling_mode_lasttoken": True,
            "include_prompt": True,
        },
        f"{_NORMALIZE}/config.json": {},
    }


def _document_tokenizer(tokenizer: ModelTokenizer, prompt: DocumentPrompt) -> dict[str, Any]:
    """The tokenizer whose post-processor adds head and tail of the prompt."""
    state = json.loads(tokenizer.backend.to_str())
    for added in state["added_tokens"]:
        # With `split_special_tokens`, special tokens in a document become text, as in T1.
        added["special"] |= added["content"] == EMB_TOKEN
    around = {"<t1_head>": prompt.head_ids, "<t1_tail>": prompt.tail_ids}
    around = {name: ids for name, ids in around.items() if ids}
    single = [{"Sequence": {"id": "A", "type_id": 0}}]
    if prompt.head_ids:
        single.insert(0, {"SpecialToken": {"id": "<t1_head>", "type_id": 0}})
    single.append({"SpecialToken": {"id": "<t1_tail>", "type_id": 0}})
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            name: _template_token(tokenizer, name, ids) for name, ids in around.items()
        },
    }
    return state | {"truncation": None, "padding": None}


def _template_token(
    tokenizer: ModelTokenizer, name: str, ids: tuple[int, ...]
) -> Mapping[str, Any]:
    """An entry of the template: a name for several tokens."""
    tokens = [tokenizer.backend.id_to_token(index) or name for index in ids]
    return {"id": name, "ids": list(ids), "tokens": tokens}


def _link_all(files: Iterable[Path], folder: Path) -> None:
    """Hard links to the files, or copies on file systems without hard links."""
    for file in files:
        if not file.exists():
            continue
        try:
            os.link(file, folder / file.name)
        except OSError:
            shutil.copyfile(file, folder / file.name)
