"""What a run writes loads again, and gives the vectors that the student gave."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from flax import nnx

from t1_jax.hub import read_adapter
from t1_jax.model import LoraConfig
from t1_jax.parallel import single_device_mesh_context
from t1_jax.retriever import T1
from t1_jax.text import tokenize_documents, tokenize_queries
from t1_jax.train import TrainConfig
from t1_jax.train.export import TrainingSummary, export_weights, training_summary
from tests.train.toy_runs import S1, S2, toy_config
from tests.train.toy_stages import LORA, ToyStages

SCORES = {"validation/zoo/ndcg@10": 0.51234, "validation/ndcg@10": 0.51234}


def trained(toy: ToyStages) -> nnx.State:
    """Weights that are not those that were loaded."""
    random = np.random.default_rng(0)

    def moved(leaf: jax.Array) -> jax.Array:
        return leaf + jnp.asarray(random.standard_normal(leaf.shape) * 0.02, leaf.dtype)

    return jax.tree.map(moved, toy.weights())


def exported(toy: ToyStages, folder: Path, weights: nnx.State) -> TrainConfig:
    config = toy_config(toy.root, {"s1": S1, "s2": S2}, **toy.fields)
    account = training_summary(config, toy.data, toy.student.lora, {"s1": 4, "s2": 2}, SCORES)
    export_weights(toy.student, weights, folder, config, account)
    return config


def vectors(model: T1) -> tuple[np.ndarray, np.ndarray, str]:
    queries, ((thought,),) = model.encode_query(["Where is the cat?"], return_thoughts=True)
    return queries, model.encode_document(["The animal is a cat."]), thought.text


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_vectors_are_the_students_own(toys, tmp_path, lora):
    toy = ToyStages(toys, model={"export_dtype": "float32", "lora": lora})
    weights = trained(toy)
    config = exported(toy, tmp_path / "out", weights)
    options = toy.student.retriever_options(config.data.lengths, max_rows=4, max_thought_tokens=4)
    expected = vectors(toy.student.retriever(weights, options))
    loaded = T1.load(
        tmp_path / "out",
        dtype="float32",
        mesh_context=single_device_mesh_context(),
        options=options,
    )
    assert loaded.provenance is not None
    assert loaded.provenance.trained_on == ["zoo"]
    found = vectors(loaded)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
    assert found[2] == expected[2]
    plain = T1.load(
        toys / "model", dtype="float32", mesh_context=single_device_mesh_context(), options=options
    )
    assert np.abs(vectors(plain)[1] - expected[1]).max() > 1e-3
    card = (tmp_path / "out/README.md").read_text()
    for words in ("# run-out", "seed 0", "`s2`: 2 steps of 4 queries", "| zoo | 0.5123 |"):
        assert words in card
    if lora is not None:
        assert "LoRA of rank 2, alpha 4" in card
        assert read_adapter(tmp_path / "out").metadata.scores == SCORES


@pytest.mark.parametrize("lora", [None, LORA])
def test_pytorch_gives_the_same_vectors_once_adapters_are_merged(toys, tmp_path, lora):
    """What was trained, as a folder of transformers: the way that `t1 export` goes."""
    torch = pytest.importorskip("torch")
    toy = ToyStages(toys, model={"export_dtype": "float32", "lora": lora})
    config = exported(toy, tmp_path / "out", trained(toy))
    options = toy.student.retriever_options(config.data.lengths, max_rows=4, max_thought_tokens=4)
    ours = T1.load(
        tmp_path / "out",
        dtype="float32",
        mesh_context=single_device_mesh_context(),
        options=options,
    )
    ours.save_pretrained(tmp_path / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "hf", dtype=torch.float32
    ).model

    def read(ids: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            hidden = theirs(torch.tensor(ids[None].astype(np.int64))).last_hidden_state[0, -1]
        return (hidden / hidden.norm()).numpy()

    texts = ["The animal is a cat.", "Dogs bark."]
    documents = tokenize_documents(ours.tokenizer, ours.preset, texts, max_tokens=64)
    for row, vector in zip(documents, ours.encode_document(texts), strict=True):
        np.testing.assert_allclose(read(row.ids), vector, atol=1e-5)
    asked = ["Where is the cat?", "What barks?"]
    prompts = tokenize_queries(ours.tokenizer, ours.preset, asked, max_tokens=64, think=True)
    found, thoughts = ours.encode_query(asked, return_thoughts=True)
    for prompt, vector, (thought,) in zip(prompts, found, thoughts, strict=True):
        np.testing.assert_allclose(
            read(np.concatenate([prompt.ids, thought.token_ids])), vector, atol=1e-5
        )


def test_a_later_export_takes_the_place_of_an_earlier(toys, tmp_path):
    toy = ToyStages(toys, model={"lora": LORA})
    exported(toy, tmp_path / "best", toy.weights())
    former = read_adapter(tmp_path / "best").fingerprint
    exported(toy, tmp_path / "best", trained(toy))
    assert read_adapter(tmp_path / "best").fingerprint != former


def test_an_account_says_what_was_done(toy):
    config = toy_config(toy.root, {"s1": S1, "s2": S2}, seed=7)
    lora = LoraConfig(rank=8, alpha=16.0)
    account = training_summary(config, toy.data, lora, {"s1": 4}, {})
    assert "LoRA of rank 8, alpha 16, seed 7" in account.training
    assert "- `s1`: 4 steps of 4 queries, losses sft 1" in account.training
    assert "`s2`" not in account.training
    assert account.trained_on == ()  # SFT alone
    assert f"24 queries, 8 documents, data hash `{toy.data.sets[0].data_hash[:16]}`" in (
        account.training
    )
    assert account.results == ""
    assert "all weights" in training_summary(config, toy.data, None, {}, {}).training


def test_results_are_a_table_of_collections():
    table = TrainingSummary(
        training="", trained_on=(), scores={**SCORES, "validation/length": 3.0}
    ).results
    assert table.splitlines()[-1] == "| zoo | 0.5123 |"
    assert table.count("\n| ") == 2
