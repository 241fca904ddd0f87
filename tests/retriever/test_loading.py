"""Checkpoints become retrievers and come back unchanged."""

import dataclasses
import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from t1_jax.errors import T1Error, WeightsError
from t1_jax.files import check_new_folder
from t1_jax.parallel import MeshConfig, make_mesh_context
from t1_jax.retriever import T1, Provenance, loading, open_model
from tests.retriever.tiny import with_provenance


@pytest.fixture(scope="module")
def saved(tiny_t1: T1, tiny_origin: Provenance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = with_provenance(tiny_t1, tiny_origin)
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    model.save_pretrained(folder)
    return folder


def tensors(folder: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def test_loading_what_was_saved_gives_the_same_vectors(tiny_t1: T1, saved: Path):
    again = T1.load(saved, dtype="float32", options=tiny_t1.options)
    texts = ["one text", "another"]
    np.testing.assert_array_equal(again.encode_document(texts), tiny_t1.encode_document(texts))
    np.testing.assert_allclose(again.encode_query(texts), tiny_t1.encode_query(texts), atol=1e-6)
    assert again.preset == tiny_t1.preset


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_round_trips_are_bit_exact_in_the_stored_dtype(saved: Path, tmp_path: Path, dtype: str):
    first, second = tmp_path / "first", tmp_path / "second"
    T1.load(saved, dtype="stored").save_pretrained(first, dtype=dtype)
    T1.load(first, dtype="stored").save_pretrained(second)
    before, after = tensors(first), tensors(second)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert tensor.tobytes() == after[name].tobytes(), name
    assert (first / "config.json").read_text() == (second / "config.json").read_text()
    assert (first / "tokenizer.json").read_text() == (second / "tokenizer.json").read_text()


def test_fingerprints_tell_dtype_length_and_weights_apart(saved: Path, tmp_path: Path, tiny_t1: T1):
    base = T1.load(saved, dtype="float32", options=tiny_t1.options)
    assert base.fingerprint == T1.load(saved, dtype="float32", options=tiny_t1.options).fingerprint
    shorter = dataclasses.replace(tiny_t1.options, max_document_tokens=64)
    other = tmp_path / "other"
    base.save_pretrained(other, dtype="bfloat16")
    models = [
        base,
        T1.load(saved, dtype="bfloat16", options=tiny_t1.options),
        T1.load(saved, dtype="float32", options=shorter),
        T1.load(other, dtype="float32", options=tiny_t1.options),
    ]
    assert len({model.fingerprint for model in models}) == 4


def test_eight_devices_hold_the_same_model(saved: Path, tiny_t1: T1):
    mesh_context = make_mesh_context(MeshConfig(data=2, fsdp=2, tensor=2))
    many = T1.load(saved, dtype="float32", options=tiny_t1.options, mesh_context=mesh_context)
    texts = ["one text", "another", "a third"]
    np.testing.assert_allclose(
        many.encode_document(texts), tiny_t1.encode_document(texts), atol=1e-5
    )
    np.testing.assert_allclose(many.encode_query(texts), tiny_t1.encode_query(texts), atol=1e-5)


def test_prompts_that_were_tampered_with_are_refused(saved: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    T1.load(saved).save_pretrained(copy)
    content = json.loads((copy / "t1.json").read_text())
    content["prompt"]["query_template"] += " "
    (copy / "t1.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="hash"):
        T1.load(copy)


def test_a_full_disk_leaves_nothing_behind(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = T1.load(saved)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(T1Error, match="free disk space"):
        model.save_pretrained(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_says_where_models_come_from(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("T1_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="t1 pull smollm2-135m-instruct"):
        T1.load("smollm2-135m-instruct")
    with pytest.raises(WeightsError, match="smollm2"):
        T1.load("smolm2-135m-instruct")


NO_END = {"eos_token": None, "pad_token": None}
NO_END_ID = {"config": {"eos_token_id": None}, "generation_config": {"eos_token_id": None}}


@pytest.fixture
def copy_of(saved: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the saved model with changes to its tensors and to fields of its JSON files."""

    def make(tensors: dict[str, float] | None = None, **fields: dict[str, Any]) -> Path:
        folder = Path(shutil.copytree(saved, tmp_path / "source"))
        for name, changes in fields.items():
            file = folder / f"{name}.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        weights = load_file(folder / "model.safetensors")
        for name, value in (tensors or {}).items():
            weights[name].flat[0] = value
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def exported(
    source: Path,
    target: Path,
    *,
    dtype: str = "stored",
    preset: str | None = None,
    overwrite: bool = False,
) -> None:
    """What `t1 import` and `t1 export` do."""
    check_new_folder(target, overwrite=overwrite)
    opened = open_model(source, dtype=dtype, preset=preset)
    opened.check_export(target)
    opened.load().save_pretrained(target, overwrite=overwrite)


def test_values_beyond_float16_are_named_on_every_path(copy_of, tmp_path: Path):
    beyond = {"model.norm.weight": 70_000, "model.layers.0.mlp.up_proj.weight": -1e30}
    folder, out = copy_of(beyond), tmp_path / "out"
    whole = T1.load(folder, dtype="stored")
    paths: dict[str, Callable[[], object]] = {
        "load": lambda: T1.load(folder, dtype="float16"),
        "save": lambda: whole.save_pretrained(out, dtype="float16"),
        "export": lambda: exported(folder, out, dtype="float16"),
    }
    for name, path in paths.items():
        with pytest.raises(WeightsError, match="2 tensors .* not finite in float16") as caught:
            path()
        assert all(tensor in str(caught.value) for tensor in beyond), name
        assert not out.exists(), name
    whole.save_pretrained(out, dtype="bfloat16")
    assert tensors(out)["model.norm.weight"].flat[0] == 70_144  # the nearest of bfloat16


@pytest.mark.parametrize(
    ("target", "options", "fields", "message"),
    [
        ("file/out", {}, {}, "file"),
        ("file", {}, {}, "is a file, not a folder"),
        (".", {"overwrite": True}, {}, "holds .*source, which is to be read"),
        ("out", {}, {"config": {"num_hidden_layers": 10**10}}, "from 1 to 10000"),
        ("out", {}, {"special_tokens_map": NO_END, "tokenizer_config": NO_END, **NO_END_ID}, "pad"),
        ("out", {"preset": "nowhere"}, {}, "nowhere"),
    ],
)
def test_what_cannot_be_written_is_refused_before_weights_are_read(
    copy_of, tmp_path: Path, monkeypatch, target: str, options, fields, message: str
):
    def read(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(loading, "load_decoder", read)
    (tmp_path / "file").write_text("mine")
    folder = copy_of(**fields)
    with pytest.raises(T1Error, match=message):
        exported(folder, tmp_path / target, **options)
    assert (folder / "model.safetensors").exists()
