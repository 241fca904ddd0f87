"""What a retriever may be told about lengths, thinking and batch shapes."""

from dataclasses import dataclass, field, replace

from t1_jax.errors import ConfigError
from t1_jax.generate import BatchShapes, SamplingParams
from t1_jax.text import BucketConfig


@dataclass(frozen=True, kw_only=True)
class RetrieverOptions:
    """Defaults of a retriever; the authors of T1 published none of them.

    Attributes:
        max_query_tokens: longest query prompt; the query's end is cut, never the template.
        max_document_tokens: longest document with its template and `<emb_token>`, as far as the
            model's context allows.
        max_thought_tokens: most tokens of a thought.
        sampling: how thoughts are drawn.
        shapes: batches in which thoughts are written.
        buckets: batches in which given texts are encoded.
    """

    max_query_tokens: int = 1024
    max_document_tokens: int = 2048
    max_thought_tokens: int = 256
    sampling: SamplingParams = field(default_factory=SamplingParams)
    shapes: BatchShapes = field(default_factory=BatchShapes)
    buckets: BucketConfig = field(default_factory=BucketConfig)

    def __post_init__(self) -> None:
        for name in ("max_query_tokens", "max_document_tokens", "max_thought_tokens"):
            if self.__dict__[name] < 1:
                raise ConfigError(f"{name} must be at least 1, got {self.__dict__[name]}")

    def within(self, max_positions: int) -> "RetrieverOptions":
        """The same for a model whose context ends there: documents are cut to it."""
        return replace(self, max_document_tokens=min(self.max_document_tokens, max_positions))
