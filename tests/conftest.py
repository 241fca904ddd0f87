"""What every test stands on: JAX on eight virtual CPU devices, annotations checked, no network."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports jax or transformers.
os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile many small programs and run each once: XLA need not make them fast.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import jax
import jaxtyping
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from t1_jax.text import T1Tokenizer

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_matmul_precision", "float32")

# Every function of the package checks the types and shapes it is annotated with.
jaxtyping.install_import_hook("t1_jax", "beartype.beartype")

# The first example of a property compiles, so time per example says nothing here.
hypothesis.settings.register_profile("t1_jax", deadline=None, max_examples=50)
hypothesis.settings.load_profile("t1_jax")


@pytest.fixture(autouse=True, scope="module")
def programs_are_let_go() -> Iterator[None]:
    """Between files: every compiled program holds memory maps, of which Linux gives 65,530.

    A process that has used them up dies in the compiler, without a message.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def tiny_tokenizer() -> "T1Tokenizer":
    """A real byte-level BPE of 400 ids with ChatML's special tokens, trained in milliseconds."""
    from t1_jax.text import T1Tokenizer

    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<emb_token>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [
            "user\nassistant\nRepresent this passage for retrieval.\n",
            "Given a query, retrieve relevant passages that answer the query.\nQuery: ",
            "First reason about what a relevant document must contain.\n",
            "A buffer overflow lets an attacker write past the end of an array.",
        ],
        trainer,
    )
    return T1Tokenizer(
        tokenizer,
        emb_token_id=specials.index("<emb_token>"),
        eos_ids={specials.index("<|im_end|>"), specials.index("<|endoftext|>")},
        pad_id=specials.index("<|endoftext|>"),
    )
