"""The student: what learns, what thinks, and how both are laid out."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from t1_jax.errors import ConfigError, WeightsError
from t1_jax.model import LoraConfig
from t1_jax.parallel import MeshConfig, make_mesh_context, single_device_mesh_context
from t1_jax.retriever import T1
from t1_jax.train.config import ModelConfig
from t1_jax.train.data.config import LengthConfig
from t1_jax.train.model import TrainableModel, load_trainable_model, open_trainable_model
from tests.train.toy_runs import SHAPE

LENGTHS = LengthConfig(query=96, thought=8, document=64)
TEXTS = ["The animal is a cat.", "It is an owl."]


def student(toys, mesh_context=None, *, seed=0, **fields) -> TrainableModel:
    config = ModelConfig(path=str(toys / "model"), **{"dtype": "float32", **fields})
    return load_trainable_model(
        open_trainable_model(config),
        config,
        mesh_context or single_device_mesh_context(),
        seed=seed,
    )


def documents(of: TrainableModel) -> np.ndarray:
    options = of.retriever_options(LENGTHS, max_rows=4, max_thought_tokens=4)
    return of.retriever(of.initial, options).encode_document(TEXTS)


def test_the_thinker_is_the_model_as_users_load_it(toys):
    mine = student(toys)
    options = mine.retriever_options(LENGTHS, max_rows=4, max_thought_tokens=4)
    theirs = T1.load(
        toys / "model", dtype="float32", mesh_context=single_device_mesh_context(), options=options
    )
    np.testing.assert_allclose(documents(mine), theirs.encode_document(TEXTS), atol=1e-6)
    ours = mine.retriever(mine.initial, options)
    for one, other in zip(
        ours.encode_query(["Where is the cat?"], return_thoughts=True)[1],
        theirs.encode_query(["Where is the cat?"], return_thoughts=True)[1],
        strict=True,
    ):
        assert [thought.text for thought in one] == [thought.text for thought in other]


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2, alpha=4.0, targets=("q", "v"))])
def test_weights_that_think_may_be_whole_where_those_that_learn_are_split(toys, lora):
    mesh = make_mesh_context(MeshConfig(data=2, fsdp=2, tensor=2))
    split = student(toys, mesh, lora=lora)
    whole = student(toys, mesh, lora=lora, replicate_for_sampling=True)

    def thought_over(of: TrainableModel) -> tuple[set[str], np.ndarray, list[str]]:
        options = of.retriever_options(LENGTHS, max_rows=4, max_thought_tokens=4)
        model = of.retriever(of.initial, options)
        vectors, thoughts = model.encode_query(
            ["Where is the cat?", "I see an owl."], return_thoughts=True
        )
        texts = [thought.text for group in thoughts for thought in group]
        used = {
            axis
            for leaf in jax.tree.leaves(nnx.state(model.decoder, nnx.Param))
            for entry in leaf.sharding.spec
            for axis in ((entry,) if isinstance(entry, str) else entry or ())
        }
        return used, vectors, texts

    (axes, vectors, texts), (fewer, same, alike) = thought_over(split), thought_over(whole)
    assert (axes, fewer) == ({"fsdp", "tensor"}, {"tensor"})
    np.testing.assert_allclose(vectors, same, atol=1e-5)
    assert texts == alike


def test_masters_are_float32_and_thinking_is_not(toys):
    mine = student(toys, dtype="bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(mine.initial)} == {"float32"}
    options = mine.retriever_options(LENGTHS, max_rows=4, max_thought_tokens=4)
    decoder = mine.retriever(mine.initial, options).decoder
    assert decoder.embed.table[...].dtype.name == "bfloat16"
    assert decoder.options.dtype == "bfloat16"
    exact = documents(student(toys))
    rough = documents(mine)
    assert 0 < np.abs(exact - rough).max() < 0.05


def test_adapters_learn_and_the_rest_stands_still(toys):
    mine = student(toys)
    full = sum(leaf.size for leaf in jax.tree.leaves(mine.initial))
    assert full == mine.parameters
    adapted = student(toys, lora=LoraConfig(rank=2, targets=("q",)))
    learning = sum(leaf.size for leaf in jax.tree.leaves(adapted.initial))
    width, layers = SHAPE.embed_dim, SHAPE.num_layers
    assert learning == layers * (width * 2 + 2 * width) + width  # A, B, and one row
    assert adapted.parameters == full
    np.testing.assert_allclose(documents(adapted), documents(mine), atol=1e-6)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(data=2, fsdp=2, tensor=2)])
def test_the_new_token_starts_as_the_end_of_an_answer(toys, lora, mesh):
    mesh_context = single_device_mesh_context() if mesh == MeshConfig() else make_mesh_context(mesh)
    mine = student(toys, mesh_context, lora=lora, emb_token_init="end")
    emb, (end,) = mine.tokenizer.emb_token_id, mine.tokenizer.eos_ids
    thinker = mine.retriever(
        mine.initial, mine.retriever_options(LENGTHS, max_rows=4, max_thought_tokens=4)
    ).decoder
    table = np.asarray(thinker.embed.table[...])
    np.testing.assert_allclose(table[emb], table[end], atol=1e-6)
    plain = student(toys, mesh_context)
    kept = np.asarray(plain.decoder(plain.initial).embed.table[...])
    others = np.arange(len(table)) != emb
    np.testing.assert_array_equal(table[others], kept[others])
    if lora is not None:
        # An adapter is loaded onto a base whose row is the mean.
        base = np.asarray(mine.decoder(mine.initial).embed.table[...])
        np.testing.assert_array_equal(base, kept)


def test_every_seed_starts_other_adapters(toys):
    lora = LoraConfig(rank=2, targets=("q",))
    found = set()
    for seed in (0, 2**32, 2**64 - 1):
        leaves = jax.tree.leaves(student(toys, lora=lora, seed=seed).initial)
        found.add(b"".join(np.asarray(leaf).tobytes() for leaf in leaves))
    assert len(found) == 3


def test_a_mesh_that_divides_no_weight_is_refused(toys):
    config = ModelConfig(path=str(toys / "model"))
    mesh_context = make_mesh_context(MeshConfig(data=1, tensor=8))
    with pytest.raises(ConfigError, match="does not divide over 8 devices"):
        load_trainable_model(open_trainable_model(config), config, mesh_context, seed=0)


def test_adapters_that_would_lose_the_new_token_are_refused(toys):
    config = ModelConfig(path=str(toys / "model"), lora=LoraConfig(rank=2, emb_row=False))
    with pytest.raises(ConfigError, match="has no <emb_token> yet, and adapters with emb_row=fals"):
        open_trainable_model(config)


def test_what_is_no_model_is_refused(toys):
    with pytest.raises(WeightsError, match="nowhere"):
        open_trainable_model(ModelConfig(path="nowhere"))


def test_splash_attention_gets_lengths_that_it_takes(toys):
    mine = student(toys)
    plain = mine.retriever_options(LENGTHS, max_rows=4, max_thought_tokens=4)
    assert plain.shapes.prefix_sizes[0] == 64
    tpu = replace(mine, attention="splash")
    options = tpu.retriever_options(LENGTHS, max_rows=4, max_thought_tokens=4)
    sizes = (*options.shapes.prefix_sizes, *options.buckets.lengths)
    assert sizes
    assert all(size % 128 == 0 for size in sizes)
