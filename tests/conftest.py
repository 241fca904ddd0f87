"""What every test stands on: JAX on eight virtual CPU devices, annotations checked, no network."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports jax or transformers.
os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile many small programs and run each once: XLA need not make them fast. The older of
# the tested jaxlibs compiles three times faster without its MLIR emitters; the newer has no others
# and ignores the option.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_backend_optimization_level=0"
    + " --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
)
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import jax
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.annotations import check_annotations
from tests.compile_cache import CompileCache

if TYPE_CHECKING:
    from t1_jax.text import T1Tokenizer

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_matmul_precision", "float32")
check_annotations()

# The first example of a property compiles, so time per example says nothing here.
hypothesis.settings.register_profile("t1_jax", deadline=None, max_examples=50)
hypothesis.settings.load_profile("t1_jax")


_TESTS = Path(__file__).parent
_SLOW = {"train": 0, "generate": 1, "cli": 2}
_CACHE = pytest.StashKey[CompileCache]()


def pytest_configure(config: pytest.Config) -> None:
    """Before anything compiles; `make clean` empties the cache."""
    cache = config.stash[_CACHE] = CompileCache(_TESTS.parent / "build" / "test_programs")
    config.add_cleanup(cache.close)
    jax.config.update("jax_compilation_cache_dir", str(cache.own))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders whose files take longest come first, so that all processes end together."""
    items.sort(key=lambda item: _SLOW.get(item.path.relative_to(_TESTS).parts[0], len(_SLOW)))


def pytest_collection_finish() -> None:
    """What is imported by now stays, and the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def compile_cache(request: pytest.FixtureRequest) -> CompileCache:
    """Compiled programs of all tests; lend it to a process that trains."""
    return request.config.stash[_CACHE]


@pytest.fixture(autouse=True, scope="module")
def programs_are_let_go(compile_cache: CompileCache) -> Iterator[None]:
    """Between files: every compiled program holds memory maps, of which Linux gives 65,530.

    A process that has used them up dies in the compiler, without a message.
    """
    yield
    compile_cache.exchange()
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def tiny_tokenizer() -> "T1Tokenizer":
    """See `make_tiny_tokenizer`."""
    return make_tiny_tokenizer()


def make_tiny_tokenizer() -> "T1Tokenizer":
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
