"""Adapters in PEFT's layout: written, read back, refused where they do not fit, loaded by peft."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from t1_jax.errors import ConfigError, T1Error, UnsupportedError, WeightsError
from t1_jax.hub import (
    AdapterMetadata,
    ModelCardData,
    ModelTokenizer,
    export_adapter,
    is_adapter,
    load_adapter,
    read_adapter,
    tokenizer_hash,
)
from t1_jax.hub.load import load_decoder_state
from t1_jax.hub.safetensors_source import SafetensorsSource
from t1_jax.model import (
    Decoder,
    DecoderConfig,
    LoraConfig,
    LoraParam,
    ModelOptions,
    lora_state,
    merge_lora,
)
from t1_jax.parallel import MeshConfig, MeshContext, make_mesh_context, single_device_mesh_context
from tests import tiny

EMB = 7
METADATA = AdapterMetadata(
    emb_token_id=EMB,
    emb_token_mode="spare",
    tokenizer="ab" * 32,
    prompt={"name": "t1", "version": "1", "hash": "abc"},
    base_model="base",
    base_fingerprint="cd" * 32,
    scores={"ndcg@10": 0.5},
)


def base_decoder(folder: Path, config: DecoderConfig, mesh_context: MeshContext) -> Decoder:
    """The decoder in a Hugging Face folder."""
    decoder = tiny.random_decoder(config, ModelOptions(), mesh_context)
    parameters = nnx.to_flat_state(nnx.state(decoder, nnx.Param))
    leaves = {"/".join(map(str, path)): leaf for path, leaf in parameters}
    abstract = {
        path: jax.ShapeDtypeStruct(
            leaf.get_value().shape, leaf.get_value().dtype, sharding=leaf.get_value().sharding
        )
        for path, leaf in leaves.items()
    }
    for path, value in load_decoder_state(SafetensorsSource(folder), config, abstract).items():
        leaves[path].set_value(value)
    return decoder


def adapted(decoder: Decoder, mesh_context: MeshContext, **changes: Any) -> Decoder:
    """The decoder with an adapter that is not nothing."""
    lora = LoraConfig(**{"rank": 3, "alpha": 4.5, **changes})
    return tiny.adapted(decoder, lora, mesh_context, emb_token_id=EMB, scale=0.3, seed=2)


def values(decoder: Decoder) -> dict[str, np.ndarray]:
    """Every factor and delta by its path."""
    flat = nnx.to_flat_state(nnx.state(decoder, LoraParam))
    return {"/".join(map(str, path)): np.asarray(leaf.get_value()) for path, leaf in flat}


@pytest.fixture
def make(
    tmp_path: Path, tiny_config: Any, random_tensors: Any, write_folder: Any
) -> Callable[..., tuple[Decoder, Decoder, Path]]:
    """Base decoder, the same with an adapter, and the adapter's folder, beside `base`."""

    def run(
        family: str = "llama",
        *,
        mesh_context: MeshContext | None = None,
        dtype: str = "float32",
        lora: dict[str, Any] | None = None,
        **changes: Any,
    ) -> tuple[Decoder, Decoder, Path]:
        mesh_context = mesh_context or single_device_mesh_context()
        config = tiny_config(family, **({"num_kv_heads": 2, "vocab_size": 40} | changes))
        folder = write_folder(tmp_path / "base", config, random_tensors(config))
        decoder = base_decoder(folder, config, mesh_context)
        beside = adapted(decoder, mesh_context, **(lora or {}))
        out = tmp_path / "adapter"
        export_adapter(out, beside, METADATA, ModelCardData(name="Tiny"), dtype=dtype)
        return decoder, beside, out

    return run


@pytest.mark.parametrize(
    ("family", "changes", "lora"),
    [
        ("llama", {}, {}),
        ("qwen2", {"tie_embeddings": False}, {"rslora": True, "targets": ("q", "o", "down")}),
        ("qwen3", {}, {"emb_row": False, "rank": 1, "alpha": 2.0}),
    ],
)
def test_what_was_written_comes_back(make, family: str, changes: Any, lora: Any) -> None:
    base, beside, folder = make(family, lora=lora, **changes)
    adapter = read_adapter(folder)
    assert adapter.config == beside.lora
    assert adapter.metadata == replace(METADATA, card=ModelCardData(name="Tiny").stored)
    again = load_adapter(base, adapter, single_device_mesh_context())
    expected = values(beside)
    assert values(again).keys() == expected.keys()
    for path, value in values(again).items():
        np.testing.assert_allclose(value, expected[path], atol=1e-6, err_msg=path)
        if "lora" in path:
            np.testing.assert_array_equal(value, expected[path], err_msg=path)


def test_over_a_mesh_it_is_written_and_read_the_same(make) -> None:
    mesh = make_mesh_context(MeshConfig(data=2, fsdp=2, tensor=2))
    base, beside, folder = make(mesh_context=mesh, tie_embeddings=False)
    again = load_adapter(base, read_adapter(folder), mesh)
    for path, leaf in nnx.to_flat_state(lora_state(again)):
        before = dict(nnx.to_flat_state(lora_state(beside)))[path].get_value()
        np.testing.assert_allclose(leaf.get_value(), before, atol=1e-6)
        assert leaf.get_value().sharding.is_equivalent_to(before.sharding, before.ndim)


def test_the_row_stored_is_the_whole_row_as_peft_wants_it(make) -> None:
    base, beside, folder = make(tie_embeddings=False)
    tensors = load_file(folder / "adapter_model.safetensors")
    row = tensors["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"]
    expected = np.asarray(base.embed.table[...])[EMB] + values(beside)["embed/row/delta"]
    np.testing.assert_allclose(row[0], expected, atol=1e-6)
    fields = json.loads((folder / "adapter_config.json").read_text())
    assert fields["trainable_token_indices"] == {"embed_tokens": [EMB], "lm_head": [EMB]}
    assert fields["base_model_name_or_path"] == "base"


def test_bf16_halves_the_file_and_rounds_once(make) -> None:
    base, beside, folder = make(dtype="bfloat16")
    again = values(load_adapter(base, read_adapter(folder), single_device_mesh_context()))
    for path, value in values(beside).items():
        np.testing.assert_allclose(again[path], value, rtol=2**-8, atol=0.02, err_msg=path)
    assert all(str(x.dtype) == "bfloat16" for x in load_file(next(folder.glob("*.s*"))).values())


def test_the_card_says_what_it_is(make) -> None:
    _, _, folder = make()
    card = (folder / "README.md").read_text()
    assert "LoRA adapter" in card
    assert METADATA.base_fingerprint in card
    assert "| rank, alpha | 3, 4.5 |" in card
    assert is_adapter(folder)
    assert not is_adapter(folder.parent / "base")


def test_a_known_base_is_named_as_the_hub_does(make, tmp_path: Path) -> None:
    _, beside, _ = make()
    metadata = replace(METADATA, base_model="smollm2-135m-instruct", emb_token_mode="append")
    folder = tmp_path / "known"
    export_adapter(folder, beside, metadata, ModelCardData(name="Known"))
    fields = json.loads((folder / "adapter_config.json").read_text())
    assert fields["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert read_adapter(folder).metadata.base_model == "smollm2-135m-instruct"
    assert "resize_token_embeddings(8)" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("file", "changes", "error", "message"),
    [
        ("adapter_config.json", {"use_dora": True}, UnsupportedError, "use_dora = True"),
        ("adapter_config.json", {"bias": "all"}, UnsupportedError, "bias = 'all'"),
        ("adapter_config.json", {"init_lora_weights": "pissa"}, UnsupportedError, "'pissa'"),
        ("adapter_config.json", {"rank_pattern": {"q": 2}}, UnsupportedError, "rank_pattern"),
        ("adapter_config.json", {"of_tomorrow": 1}, UnsupportedError, "of_tomorrow = 1"),
        ("adapter_config.json", {"target_modules": "all-linear"}, UnsupportedError, "all-linear"),
        ("adapter_config.json", {"trainable_token_indices": [3]}, UnsupportedError, r"\[3\]"),
        ("adapter_config.json", {"r": None}, WeightsError, "damaged"),
        ("t1.json", {"format": 3}, WeightsError, "newer version"),
        ("t1.json", {"kind": "model"}, WeightsError, "not the metadata of an adapter in format 2"),
        ("t1.json", {"extra": 1}, WeightsError, "damaged"),
    ],
)
def test_unsupported_adapters_are_errors(
    make, file: str, changes: dict[str, Any], error: type[T1Error], message: str
) -> None:
    _, _, folder = make()
    fields = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(fields | changes))
    with pytest.raises(error, match=message):
        read_adapter(folder)


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors", "t1.json"])
def test_a_missing_file_is_refused(make, missing: str) -> None:
    _, _, folder = make()
    (folder / missing).unlink()
    with pytest.raises(WeightsError, match=missing):
        read_adapter(folder)


def test_tensors_of_another_model_are_refused_with_all_misfits(make) -> None:
    base, _, folder = make()
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    moved = {name.replace("layers.2", "layers.3"): value for name, value in tensors.items()}
    save_file(moved, file)
    with pytest.raises(WeightsError, match=r"28 mismatches(.|\n)*missing: .*layers\.2(.|\n)*unex"):
        load_adapter(base, read_adapter(folder), single_device_mesh_context())
    narrow = {name: value[:, :-1] for name, value in tensors.items()}
    save_file({name: np.ascontiguousarray(value) for name, value in narrow.items()}, file)
    with pytest.raises(WeightsError, match="has shape"):
        load_adapter(base, read_adapter(folder), single_device_mesh_context())


def test_what_cannot_be_written_is_refused(make, tmp_path: Path) -> None:
    base, beside, folder = make()
    card = ModelCardData(name="Tiny")
    with pytest.raises(ConfigError, match="no adapter"):
        export_adapter(tmp_path / "a", base, METADATA, card)
    with pytest.raises(ConfigError, match="int8"):
        export_adapter(tmp_path / "b", beside, METADATA, card, dtype="int8")
    with pytest.raises(T1Error, match="not empty"):
        export_adapter(folder, beside, METADATA, card)
    leaf = nnx.to_flat_state(lora_state(beside))[0][1]
    leaf.set_value(leaf.get_value() * np.float32(1e30))
    with pytest.raises(WeightsError, match="not finite in float16"):
        export_adapter(tmp_path / "c", beside, METADATA, card, dtype="float16")
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter"}


def test_the_fingerprint_follows_the_weights(make, tmp_path: Path) -> None:
    _, beside, folder = make()
    export_adapter(tmp_path / "half", beside, METADATA, ModelCardData(name="x"), dtype="bfloat16")
    one, other = read_adapter(folder), read_adapter(tmp_path / "half")
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == read_adapter(folder).fingerprint


def test_a_tokenizer_is_known_by_its_tokens(tiny_tokenizer: Callable[..., ModelTokenizer]) -> None:
    one, other = tiny_tokenizer(), tiny_tokenizer(("<|end|>", "<|im_start|>", "<emb_token>"))
    assert tokenizer_hash(one) == tokenizer_hash(tiny_tokenizer())
    assert tokenizer_hash(one) != tokenizer_hash(other)


# peft and PyTorch speak of their own changes to come.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("family", "changes", "lora"),
    [
        ("llama", {}, {}),
        ("llama", {"tie_embeddings": False}, {}),
        ("qwen2", {}, {"rslora": True, "targets": ("q", "k", "o", "up"), "rank": 2}),
        ("qwen3", {}, {"emb_row": False}),
    ],
)
def test_peft_computes_the_same(make, family: str, changes: Any, lora: Any) -> None:
    peft = pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    import transformers

    _, beside, folder = make(family, lora=lora, **changes)
    hf = transformers.AutoModelForCausalLM.from_pretrained(folder.parent / "base")
    model = peft.PeftModel.from_pretrained(hf.float().eval(), folder)
    ids = np.array([[1, 2, EMB, 3, 9, EMB], [5, 4, 3, 2, 1, EMB]], np.int32)
    with torch.no_grad():
        out = model(torch.from_numpy(ids).long(), output_hidden_states=True)

    mesh_context = single_device_mesh_context()
    for merged in (False, True):
        with mesh_context.activate():
            decoder = merge_lora(beside) if merged else beside
            graph, state = nnx.split(decoder)

            def both(state: nnx.State, ids: jax.Array, graph: Any = graph) -> Any:
                decoder: Decoder = nnx.merge(graph, state)
                hidden = decoder(ids)
                return decoder.final_norm(hidden), decoder.logits(hidden)

            placed = jax.device_put(ids, mesh_context.activation("bl"))
            hidden, logits = jax.jit(both)(state, placed)
        np.testing.assert_allclose(hidden, out.hidden_states[-1].numpy(), atol=1e-4, rtol=1e-4)
        theirs = out.logits.numpy()
        np.testing.assert_allclose(logits[..., : theirs.shape[-1]], theirs, atol=1e-3, rtol=1e-4)
