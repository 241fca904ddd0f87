"""The real base model beside transformers on the same GGUF; skipped where it was not fetched."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from t1_jax.errors import WeightsError
from t1_jax.hub import locate_model, open_checkpoint
from t1_jax.model import Decoder, pool_embeddings
from t1_jax.parallel import single_device_mesh_context
from t1_jax.retriever import T1
from tests.model.tiny import Model

torch = pytest.importorskip("torch")

TEXTS = [
    "The capital of France is Paris. The capital of Germany is Berlin. The capital of Italy is "
    "Rome. The capital of Spain is Madrid.",
    "Water is made of hydrogen and oxygen. It freezes at zero degrees Celsius and boils at one "
    "hundred degrees Celsius. The sun rises in the east and sets in the west.",
    "In 1969 two astronauts walked on the Moon while a third stayed in orbit.",
    "A buffer overflow lets an attacker write past the end of an array, so that the program runs "
    "code of the attacker's choosing instead of its own.",
]
PLAIN = slice(0, 2)  # what any language model finds easy


@pytest.fixture(scope="module")
def gguf() -> Path:
    """The file that `t1 pull` fetches."""
    try:
        return locate_model("smollm2-135m-instruct")
    except WeightsError as error:
        pytest.skip(f"the real weights are not here: {error.message}")


@pytest.fixture(scope="module")
def theirs(gguf: Path) -> Any:
    """The model as transformers reads it, in float32."""
    # What from_pretrained(gguf_file=...) does, which asks for another package first.
    config = transformers.LlamaConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = transformers.LlamaForCausalLM(config).eval()
    tensors = load_gguf_checkpoint(str(gguf), return_tensors=True, model_to_load=model)["tensors"]
    misfits = model.load_state_dict(tensors, strict=False)
    assert misfits.missing_keys in ([], ["lm_head.weight"])
    assert not misfits.unexpected_keys
    return model


def token_ids(gguf: Path) -> tuple[np.ndarray, np.ndarray]:
    """The texts as right-padded rows of tokens, and the last position of each."""
    backend = open_checkpoint(gguf).tokenizer.backend
    rows = [backend.encode(text, add_special_tokens=False).ids for text in TEXTS]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    return ids, np.array([len(row) - 1 for row in rows], np.int32)


def vectors(model: T1, ids: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Our unit vectors at these positions, and all logits."""

    def call(decoder: Decoder, ids: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = decoder(ids)
        return pool_embeddings(decoder, hidden, at), decoder.logits(hidden)

    ours = Model(model.decoder, single_device_mesh_context())
    return ours.run(call, ours.place(jnp.asarray(ids)), ours.place(jnp.asarray(at), "b"))


def perplexity(logits: np.ndarray, ids: np.ndarray, at: np.ndarray) -> float:
    """Per token of the plain texts, from the second on."""
    nats = -np.asarray(jax.nn.log_softmax(logits[PLAIN, :-1], axis=-1), np.float64)
    picked = np.take_along_axis(nats, ids[PLAIN, 1:, None], axis=-1)[..., 0]
    real = np.arange(ids.shape[1] - 1) < at[PLAIN, None]
    return float(np.exp(picked[real].mean()))


@pytest.mark.parametrize(
    ("dtype", "nearest", "apart"), [("float32", 0.9999, 1e-4), ("bfloat16", 0.999, 0.1)]
)
def test_embeddings_and_perplexity_equal_those_of_transformers(
    dtype: str, nearest: float, apart: float, gguf: Path, theirs: Any
) -> None:
    ids, at = token_ids(gguf)
    with torch.no_grad():
        states = theirs.model(torch.from_numpy(ids).long()).last_hidden_state
        their_logits = theirs.lm_head(states).numpy()
    expected = states.numpy()[np.arange(len(at)), at]
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    ours, logits = vectors(T1.load(gguf, dtype=dtype), ids, at)
    cosine = (np.asarray(ours) * expected).sum(-1)
    found, known = perplexity(logits, ids, at), perplexity(their_logits, ids, at)
    assert cosine.min() >= nearest
    assert found == pytest.approx(known, rel=apart)
    assert found < 8
