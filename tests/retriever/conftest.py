from pathlib import Path

import pytest

from t1_jax.generate import BatchShapes, SamplingParams
from t1_jax.hub import ModelTokenizer
from t1_jax.model import DecoderConfig, ModelOptions, RopeConfig
from t1_jax.parallel import single_device_mesh_context
from t1_jax.retriever import T1, Provenance, RetrieverOptions
from t1_jax.text import BucketConfig, T1Tokenizer, load_preset
from tests.retriever.tiny import with_provenance
from tests.tiny import random_decoder


@pytest.fixture(scope="session")
def tiny_t1(tiny_tokenizer: T1Tokenizer) -> T1:
    """A random two-layer T1 that speaks ChatML."""
    mesh_context = single_device_mesh_context()
    config = DecoderConfig(
        family="llama",
        vocab_size=tiny_tokenizer.vocab_size,
        embed_dim=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        mlp_dim=64,
        norm_eps=1e-5,
        rope=RopeConfig(theta=1e4),
        max_positions=512,
    )
    decoder = random_decoder(config, ModelOptions(), mesh_context)
    options = RetrieverOptions(
        max_query_tokens=160,
        max_document_tokens=192,
        max_thought_tokens=8,
        sampling=SamplingParams(seed=3),
        shapes=BatchShapes(max_rows=8, prefix_sizes=(160, 256), suffix_step=16, chunk_steps=8),
        buckets=BucketConfig(lengths=(192, 256), batch_sizes=(1, 4), max_batch_tokens=1024),
    )
    return T1(decoder, tiny_tokenizer, load_preset("t1"), mesh_context, options=options)


@pytest.fixture(scope="module")
def tiny_origin(tiny_t1: T1) -> Provenance:
    """Where `tiny_t1` might have come from: a checkpoint with a tokenizer."""
    tokenizer = ModelTokenizer(
        backend=tiny_t1.tokenizer.tokenizer,
        special_tokens={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        eos_ids=tuple(sorted(tiny_t1.tokenizer.eos_ids)),
    )
    return Provenance(
        name="tiny",
        location="tiny",
        fingerprint="0" * 64,
        tokenizer=tokenizer,
        emb_token_mode="append",
        stored_dtype="float32",
    )


@pytest.fixture(scope="module")
def saved_t1(
    tiny_t1: T1, tiny_origin: Provenance, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of the tiny model; tests leave it as it is."""
    model = with_provenance(tiny_t1, tiny_origin)
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save_pretrained(folder)
    return folder
