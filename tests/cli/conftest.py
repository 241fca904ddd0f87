"""A tiny random model and a small judged collection on disk, and a way to call the command."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from t1_jax.cli.main import app
from t1_jax.model import DecoderConfig, RopeConfig
from t1_jax.retrieval import Collection, Document, Query, save_collection
from t1_jax.text import T1Tokenizer
from tests.hf_folder import write_hf_folder

WORDS = {
    "cat": "A cat purrs and hunts mice.",
    "dog": "A dog barks and guards the house.",
    "fish": "A fish swims in water.",
    "bird": "A bird sings and flies.",
    "horse": "A horse gallops over the meadow.",
    "snake": "A snake bites and has no legs.",
    "spider": "A spider weaves a web for flies.",
    "bee": "A bee makes honey from flowers.",
    "whale": "A whale dives in the deep sea.",
    "owl": "An owl hunts mice at night.",
    "ant": "An ant carries leaves.",
    "fox": "A fox steals hens.",
}
QUERIES = {
    "q1": ("who purrs?", "cat"),
    "q2": ("who barks at the house", "dog"),
    "q3": ("who hunts at night", "owl"),
    "q4": ("who makes honey", "bee"),
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a call of the command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON object."""
        return json.loads(self.out)


Call = Callable[..., Answer]


@pytest.fixture
def t1() -> Call:
    """Calls the command in this process; any exception but an exit fails the test."""
    return _caller()


@pytest.fixture(scope="module")
def t1_in_module() -> Call:
    """The same for fixtures of a module."""
    return _caller()


def _caller() -> Call:
    def call(*args: object, stdin: str | None = None) -> Answer:
        runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})
        result = runner.invoke(
            app, [str(arg) for arg in args], input=stdin, catch_exceptions=False, prog_name="t1"
        )
        return Answer(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of fetched things."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("T1_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: T1Tokenizer) -> Path:
    """A Hugging Face folder as others make them: 2 layers, width 32, no <emb_token>."""
    shape = DecoderConfig(
        family="llama",
        vocab_size=tiny_tokenizer.vocab_size,
        vocab_multiple=8,
        embed_dim=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        mlp_dim=48,
        norm_eps=1e-5,
        rope=RopeConfig(theta=1e4),
        max_positions=4096,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return write_hf_folder(folder, shape, tiny_tokenizer, scale=0.3)


@pytest.fixture(scope="session")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of twelve documents and four queries."""
    collection = Collection(
        name="pets",
        documents=tuple(
            Document(id=name, title=name.title(), text=text) for name, text in WORDS.items()
        ),
        queries=tuple(Query(id=name, text=text) for name, (text, _) in QUERIES.items()),
        qrels={name: {document: 1} for name, (_, document) in QUERIES.items()},
    )
    folder = tmp_path_factory.mktemp("collections") / "pets"
    save_collection({"test": collection}, folder)
    return folder


@pytest.fixture(scope="session")
def pets_index(tmp_path_factory: pytest.TempPathFactory, base_model: Path, pets: Path) -> Path:
    """The collection, indexed with the tiny model."""
    folder = tmp_path_factory.mktemp("indexes") / "pets"
    result = CliRunner().invoke(
        app,
        ["index", "build", str(folder), "-c", str(pets), "-m", str(base_model), "--dtype",
         "float32"],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return folder
