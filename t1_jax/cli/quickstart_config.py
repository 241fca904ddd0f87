"""The config of `t1 quickstart`."""

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
        source: where a name is downloaded from: Python packages, or the Hugging Face hub.
        revision: branch, tag or commit on the hub.
        training: a training config. `model` is trained with it first, to show the curve; None
            skips training.
        weights: a trained model or adapter to evaluate, a folder or a known name. None
            evaluates the best weights of the training, or `model` itself without one.
        collections: names that `t1 pull` knows, or folders of collections.
        split: the split to evaluate.
        lenient: accept flaws of published collections, see `t1_jax.retrieval.load_collection`.
        dtype: compute dtype of weights and activations.
        preset: prompts; default those of the model.
        retriever: lengths and batch shapes.
        evaluation: controls, sampling, metrics. By default thoughts are short, up to 120 queries
            of each collection are used, and documents are truncated to 128 tokens, so that two
            cores need less than twenty minutes, training included.
        report: what the HTML page shows.
        cache_embeddings: store document embeddings in the cache, so that a second run skips them.
        output: folder to write.
    """

    model: str = "smollm2-135m-instruct"
    source: Literal["packages", "hub"] = "packages"
    revision: str | None = None
    training: Path | None = None
    weights: str | None = None
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
    cache_embeddings: bool = True
    output: Path = Path("runs/quickstart")

    def __post_init__(self) -> None:
        if not self.collections:
            raise ConfigError("collections is empty, so there is nothing to evaluate")
        if len(set(self.collections)) != len(self.collections):
            raise ConfigError(f"collections has a name twice: {', '.join(self.collections)}")
