"""An adapter and its base make a retriever; with any other base it is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from t1_jax.errors import UnsupportedError, WeightsError
from t1_jax.hub import ModelCardData, open_checkpoint, read_adapter
from t1_jax.model import Decoder, LoraConfig, ModelOptions, merge_lora
from t1_jax.parallel import single_device_mesh_context
from t1_jax.retriever import (
    T1,
    ResolvedModel,
    load_decoder,
    rebase_adapter,
    resolve_model,
    save_adapter,
)
from tests.tiny import adapted

TEXTS = ["one text", "another"]


@pytest.fixture(scope="module")
def base(saved_t1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model's folder, `<emb_token>` in its tokenizer."""
    folder = Path(shutil.copytree(saved_t1, tmp_path_factory.mktemp("base") / "base"))
    # As a base model is: it says nothing of T1.
    (folder / "t1.json").unlink()
    return folder


def parts_of(base: Path, adapter: Path | None = None) -> tuple[ResolvedModel, Decoder]:
    """What a training run would start from."""
    checkpoint, beside = open_checkpoint(base), None if adapter is None else read_adapter(adapter)
    resolved = resolve_model(
        checkpoint, name=str(base), emb_token="auto", preset=None, adapter=beside
    )
    return resolved, load_decoder(resolved, ModelOptions(), single_device_mesh_context())


@pytest.fixture(scope="module")
def trained(base: Path, tiny_t1: T1, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, T1]:
    """An adapter's folder, and the retriever it stands for."""
    (parts, decoder), mesh_context = parts_of(base), single_device_mesh_context()
    emb = parts.tokenizer.emb_token_id
    decoder = adapted(decoder, LoraConfig(rank=2), mesh_context, emb_token_id=emb, scale=0.1)
    with mesh_context.activate():
        merged = merge_lora(decoder)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    preset = parts.preset.with_instruction("Find what explains it")
    save_adapter(
        folder, decoder, preset, parts.provenance, ModelCardData(name="Tiny"), scores={"a": 1}
    )
    return folder, T1(merged, parts.tokenizer, preset, mesh_context, options=tiny_t1.options)


def test_both_ways_to_load_it_give_the_trained_vectors(
    base: Path, trained: tuple[Path, T1], tiny_t1: T1
) -> None:
    folder, expected = trained
    assert expected.provenance is None
    beside = T1.load(base, adapter=folder, dtype="float32", options=tiny_t1.options)
    alone = T1.load(folder, dtype="float32", options=tiny_t1.options)
    vectors = expected.encode_document(TEXTS)
    assert np.abs(vectors - tiny_t1.encode_document(TEXTS)).max() > 0.01
    for model in (beside, alone):
        np.testing.assert_allclose(model.encode_document(TEXTS), vectors, atol=1e-5)
        np.testing.assert_allclose(
            model.encode_query(TEXTS), expected.encode_query(TEXTS), atol=1e-4
        )
        assert model.preset == expected.preset
    assert beside.fingerprint == alone.fingerprint
    plain = T1.load(base, dtype="float32", options=tiny_t1.options)
    assert plain.fingerprint != beside.fingerprint


def test_training_can_go_on_from_it(base: Path, trained: tuple[Path, T1], tmp_path: Path) -> None:
    folder, _ = trained
    parts, decoder = parts_of(base, folder)
    assert decoder.lora == LoraConfig(rank=2)
    assert parts.provenance.fingerprint == open_checkpoint(base).fingerprint
    again = tmp_path / "again"
    save_adapter(again, decoder, parts.preset, parts.provenance, ModelCardData(name="Tiny"))
    assert read_adapter(again).metadata.base_fingerprint == parts.provenance.fingerprint
    with pytest.raises(UnsupportedError, match="without an unmerged adapter"):
        decoder.unstack_layers()


def test_what_is_saved_is_merged(trained: tuple[Path, T1], tmp_path: Path, tiny_t1: T1) -> None:
    folder, expected = trained
    T1.load(folder, dtype="float32").save_pretrained(tmp_path / "merged")
    again = T1.load(tmp_path / "merged", dtype="float32", options=tiny_t1.options)
    np.testing.assert_allclose(
        again.encode_document(TEXTS), expected.encode_document(TEXTS), atol=1e-5
    )


def test_another_base_is_refused_with_both_fingerprints(
    base: Path, trained: tuple[Path, T1], tmp_path: Path
) -> None:
    folder, _ = trained
    other = tmp_path / "other"
    shutil.copytree(base, other)
    fields = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(fields | {"rms_norm_eps": 2e-5}))
    fingerprints = open_checkpoint(base).fingerprint, open_checkpoint(other).fingerprint
    with pytest.raises(WeightsError, match=f"{fingerprints[0]}(.|\n)*{fingerprints[1]}"):
        T1.load(other, adapter=folder)


@pytest.mark.parametrize("field", [{"emb_token_id": 5}, {"tokenizer": "00" * 32}])
def test_another_tokenizer_is_refused(
    base: Path, trained: tuple[Path, T1], tmp_path: Path, field: dict[str, object]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    (copy / "t1.json").write_text(json.dumps(json.loads((copy / "t1.json").read_text()) | field))
    config = json.loads((copy / "adapter_config.json").read_text())
    if "emb_token_id" in field:
        config["trainable_token_indices"] = [field["emb_token_id"]]
    (copy / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="was trained with <emb_token> at"):
        T1.load(base, adapter=copy)


def test_prompts_that_were_tampered_with_are_refused(
    base: Path, trained: tuple[Path, T1], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    fields = json.loads((copy / "t1.json").read_text())
    fields["prompt"]["query_template"] += " "
    (copy / "t1.json").write_text(json.dumps(fields))
    with pytest.raises(WeightsError, match="hash"):
        T1.load(base, adapter=copy)


def named(copy: Path, base: str) -> Path:
    """The adapter, with another base model in its `t1.json`."""
    fields = json.loads((copy / "t1.json").read_text()) | {"base_model": base}
    (copy / "t1.json").write_text(json.dumps(fields))
    return copy


def test_a_base_that_is_not_here_is_named(trained: tuple[Path, T1], tmp_path: Path) -> None:
    copy = named(Path(shutil.copytree(trained[0], tmp_path / "copy")), "smollm3-of-nowhere")
    with pytest.raises(WeightsError, match="smollm3-of-nowhere(.|\n)*t1 rebase .*copy BASE"):
        T1.load(copy)


def test_a_base_that_was_moved_is_found_again(
    base: Path, trained: tuple[Path, T1], tmp_path: Path, tiny_t1: T1, monkeypatch
) -> None:
    copy = named(Path(shutil.copytree(trained[0], tmp_path / "copy")), "moved")
    fingerprint = read_adapter(copy).fingerprint
    monkeypatch.chdir(base.parent)
    rebase_adapter(copy, base.name)
    monkeypatch.chdir(tmp_path)  # the place is absolute
    model = T1.load(copy, dtype="float32", options=tiny_t1.options)
    expected = T1.load(base, adapter=trained[0], dtype="float32", options=tiny_t1.options)
    assert model.fingerprint == expected.fingerprint
    assert read_adapter(copy).fingerprint == fingerprint


def test_a_base_that_was_saved_again_has_to_be_insisted_on(
    base: Path, trained: tuple[Path, T1], tmp_path: Path, tiny_t1: T1
) -> None:
    copy = Path(shutil.copytree(trained[0], tmp_path / "copy"))
    again = Path(shutil.copytree(base, tmp_path / "again"))
    weights = load_file(again / "model.safetensors")
    save_file(weights, again / "model.safetensors", metadata={"saved": "again"})
    with pytest.raises(WeightsError, match=f"t1 rebase {copy} {again} --force"):
        rebase_adapter(copy, again)
    with pytest.raises(WeightsError, match=f"t1 rebase {copy} {again} --force"):
        T1.load(again, adapter=copy)
    rebase_adapter(copy, again, force=True)
    model = T1.load(copy, dtype="float32", options=tiny_t1.options)
    np.testing.assert_allclose(
        model.encode_document(TEXTS), trained[1].encode_document(TEXTS), atol=1e-5
    )


def test_a_base_of_other_shapes_or_tokens_is_refused_in_any_case(
    base: Path, trained: tuple[Path, T1], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(trained[0], tmp_path / "copy"))
    other = Path(shutil.copytree(base, tmp_path / "other"))
    fields = json.loads((other / "config.json").read_text())
    changed = fields | {"num_hidden_layers": fields["num_hidden_layers"] - 1, "layer_types": None}
    (other / "config.json").write_text(json.dumps(changed))
    before = (copy / "t1.json").read_text()
    with pytest.raises(WeightsError, match="the tensors do not match .*\n.*unexpected"):
        rebase_adapter(copy, other, force=True)
    tokenizer = json.loads((copy / "t1.json").read_text()) | {"tokenizer": "00" * 32}
    (copy / "t1.json").write_text(json.dumps(tokenizer))
    with pytest.raises(WeightsError, match="was trained with <emb_token> at"):
        rebase_adapter(copy, base, force=True)
    (copy / "t1.json").write_text(before)


def test_an_adapter_names_the_folder_that_it_was_trained_on(
    saved_t1: Path, tmp_path: Path, tiny_t1: T1
) -> None:
    """Also where that is a T1 folder, whose own base model is another."""
    parts, decoder = parts_of(saved_t1)
    emb, lora = parts.tokenizer.emb_token_id, LoraConfig(rank=2)
    decoder = adapted(decoder, lora, single_device_mesh_context(), emb_token_id=emb, scale=0.0)
    save_adapter(
        tmp_path / "a", decoder, parts.preset, parts.provenance, ModelCardData(name="Tiny")
    )
    assert parts.provenance.name == "tiny"
    assert read_adapter(tmp_path / "a").metadata.base_model == str(saved_t1)
    model = T1.load(tmp_path / "a", dtype="float32", options=tiny_t1.options)
    np.testing.assert_allclose(
        model.encode_document(TEXTS), tiny_t1.encode_document(TEXTS), atol=1e-5
    )
