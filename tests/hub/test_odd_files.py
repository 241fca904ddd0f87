"""Any value in any field of a checkpoint's JSON files: it is read, or it is an error of ours."""

import copy
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t1_jax.errors import T1Error
from t1_jax.hub.emb_token import add_emb_token
from t1_jax.hub.hf_config import decoder_config_from_hf, hf_config_from_decoder, other_fields
from t1_jax.hub.json_files import read_json
from t1_jax.hub.metadata import T1Metadata, read_metadata
from t1_jax.hub.tokenizer import tokenizer_from_folder
from t1_jax.hub.tokenizer_export import write_tokenizer

NAMES = st.sampled_from(
    ["default", "linear", "yarn", "llama3", "full_attention", "content", "id", "<|end|>", "x", ""]
)
ODD = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -1, 2, 0.0, -0.5, 1e-5, 1e5, 1e308, 10**10, 10**400])
    | st.sampled_from([float("nan"), float("inf"), -float("inf"), "12", "\ud800", "é"])
    | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
ROPE = st.dictionaries(
    st.sampled_from(
        [
            "rope_type",
            "type",
            "factor",
            "rope_theta",
            "original_max_position_embeddings",
            "low_freq_factor",
            "high_freq_factor",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
            "partial_rotary_factor",
        ]
    ),
    ODD,
).flatmap(
    lambda drawn: st.sampled_from(
        [{}, *({"rope_type": t} for t in ("linear", "llama3", "yarn"))]
    ).map(lambda kind: drawn | kind)
)
FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


def changed(content: Any, path: list[int], value: object) -> Any:
    """`content` with `value` at a place that `path` leads to: a choice at every level."""
    root = {"": copy.deepcopy(content)}
    parent: Any = root
    key: Any = ""
    for choice in path:
        here = parent[key]
        if not here or not isinstance(here, dict | list):
            break
        keys = [*here] if isinstance(here, dict) else [*range(len(here))]
        parent, key = here, keys[choice % len(keys)]
    parent[key] = value
    return root[""]


@FUZZ
@given(
    family=st.sampled_from(["llama", "mistral", "qwen2", "qwen3"]),
    odd=st.dictionaries(st.integers(0, 60), ODD, min_size=1, max_size=3),
    rope=st.none() | ROPE,
)
def test_a_config_is_read_or_refused(
    tiny_config: Callable, family: str, odd: dict[int, object], rope: dict[str, object] | None
) -> None:
    fields = hf_config_from_decoder(tiny_config(family), dtype="float32", eos_token_id=2)
    fields |= {"layer_types": None, "pretraining_tp": 1, "sliding_window": None, "x": None}
    names = [*fields]
    fields |= {names[number % len(names)]: value for number, value in odd.items()}
    if rope is not None:
        fields = {k: v for k, v in fields.items() if k not in ("rope_theta", "rope_parameters")}
        fields["rope_scaling"] = rope
    with suppress(T1Error):
        decoder_config_from_hf(fields)
        other_fields(fields)


@pytest.fixture(scope="module")
def sound_files(tiny_files: Callable) -> dict[str, Any]:
    return tiny_files()


@FUZZ
@given(data=st.data())
def test_a_tokenizer_is_read_or_refused(
    tmp_path: Path, sound_files: dict[str, Any], data: st.DataObject
) -> None:
    files = dict(sound_files)
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from([*files]))
        path = data.draw(st.lists(st.integers(0, 40), max_size=5))
        files[name] = changed(files[name], path, data.draw(ODD))
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with suppress(T1Error):
        tokenizer, _ = add_emb_token(tokenizer_from_folder(tmp_path), 300)
        written = Path(tempfile.mkdtemp(dir=tmp_path))
        write_tokenizer(written, tokenizer, max_tokens=64)
        tokenizer_from_folder(written)


@FUZZ
@given(name=st.sampled_from(["emb_token_id", "prompt", "format", "base_model", "x"]), odd=ODD)
def test_the_metadata_of_t1_is_read_or_refused(tmp_path: Path, name: str, odd: object) -> None:
    fields = T1Metadata(
        emb_token_id=3,
        emb_token_mode="append",
        stored_dtype="float32",
        prompt={},
        base_model="x",
        base_fingerprint="y",
    ).to_fields()
    (tmp_path / "t1.json").write_text(json.dumps(fields | {name: odd}))
    with suppress(T1Error):
        read_metadata(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a":' + '{"a":' * 200 + "1" + "}" * 201,
        '{"a": ' + "9" * 5000 + "}",
        '{"a": "\\ud800"}',
        '{"\\ud800": 1}',
        "\x00",
        "null",
    ],
    ids=lambda text: text[:12],
)
def test_json_that_nothing_can_follow_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(T1Error, match=r"x\.json"):
        read_json(tmp_path / "x.json")
