"""Contrastive losses: InfoNCE and the triplet margin loss, and metrics of embeddings.

Embeddings are unit vectors, scores are cosines, s(q, d) = q·d. Each function returns a sum and its
denominator, so that the pieces of a batch add up to the batch.

On a mesh the queries may be sharded by rows. Candidates are gathered: every query is compared with
all of them, whichever device encoded them.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from t1_jax.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Constants of the contrastive losses.

    Attributes:
        temperature: τ of InfoNCE; 0.02 as in O1-Embedder (arXiv:2502.07555), ReasonIR and TTE.
        margin: m of the triplet loss. Search-R3 (arXiv:2510.07048) does not publish its value; 0.1
            to 0.3 are worth a sweep.
        false_negative_margin: a candidate that scores above the positive by more than this counts
            as an unlabeled positive and is no negative (0.1 in Qwen3-Embedding,
            arXiv:2506.05176). None, the default, trusts the qrels: hard positives often score below
            true negatives.

    Raises:
        ConfigError: a value out of range.
    """

    temperature: float = 0.02
    margin: float = 0.2
    false_negative_margin: float | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}")
        if not self.margin >= 0:
            raise ConfigError(f"margin must be at least 0, got {self.margin}")
        if self.false_negative_margin is not None and not self.false_negative_margin >= 0:
            raise ConfigError(
                f"false_negative_margin must be at least 0, got {self.false_negative_margin}",
                hint="use null to switch the filter off",
            )


def info_nce(
    queries: Float[Array, "N D"],
    candidates: Float[Array, "C D"],
    positive: Int[Array, " N"],
    allowed: Bool[Array, "N C"],
    *,
    config: ContrastiveConfig,
    weights: Float[Array, " N"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Contrastive loss (arXiv:1807.03748, eq. 4, with a mask M) in nats: its sum and denominator.

    L_i = −log [ e^{s(q_i, d_i⁺)/τ} / (e^{s(q_i, d_i⁺)/τ} + Σ_{c ≠ d_i⁺} M_ic e^{s(q_i, c)/τ}) ]

    Args:
        queries: unit vectors.
        candidates: unit vectors of all documents of the step.
        positive: the column of each query's positive d_i⁺.
        allowed: M: False where a candidate is the same document as d_i⁺, another positive of the
            query, or excluded for it. The positive's own column always counts.
        config: temperature, false-negative filter.
        weights: weight of each query, 1 by default. A query of weight 0 is padding and may hold
            anything.

    Returns:
        Σ_i weight_i L_i, and Σ_i weight_i.
    """
    weights = jnp.ones_like(queries, shape=queries.shape[:1]) if weights is None else weights
    real = weights > 0
    # Padding is replaced before it is used: its gradient would otherwise be 0·NaN.
    scores, positive_scores, is_positive = _scores(
        jnp.where(real[:, None], queries, 0.0), candidates, jnp.where(real, positive, 0)
    )
    is_negative = _negative_mask(scores, positive_scores, is_positive, allowed, config)
    logits = jnp.where(is_negative | is_positive, scores, -jnp.inf) / config.temperature
    losses = jax.nn.logsumexp(logits, axis=1) - positive_scores / config.temperature
    return jnp.sum(weights * losses), jnp.sum(weights)


def triplet(
    queries: Float[Array, "N D"],
    candidates: Float[Array, "C D"],
    positive: Int[Array, " N"],
    negatives: Int[Array, "N K"],
    allowed: Bool[Array, "N C"],
    *,
    config: ContrastiveConfig,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Triplet margin loss over hard negatives: its sum and the number of triplets.

    max(0, m − s(q_i, d_i⁺) + s(q_i, d_ik⁻)), as in arXiv:2510.07048.

    Args:
        queries: unit vectors.
        candidates: unit vectors of all documents of the step.
        positive: the column of each query's positive d_i⁺.
        negatives: columns of its hard negatives d_ik⁻; −1 for none, so padding has −1 throughout.
        allowed: M, as in `info_nce`; a negative outside it does not count.
        config: margin, false-negative filter.
    """
    real = jnp.any(negatives >= 0, axis=1)
    scores, positive_scores, is_positive = _scores(
        jnp.where(real[:, None], queries, 0.0), candidates, jnp.where(real, positive, 0)
    )
    is_negative = _negative_mask(scores, positive_scores, is_positive, allowed, config)
    columns = jnp.maximum(negatives, 0)
    counted = (negatives >= 0) & jnp.take_along_axis(is_negative, columns, axis=1)
    negative_scores = jnp.take_along_axis(scores, columns, axis=1)
    losses = jnp.maximum(config.margin - positive_scores[:, None] + negative_scores, 0.0)
    return jnp.sum(jnp.where(counted, losses, 0.0)), jnp.sum(counted.astype(losses.dtype))


def contrast_metrics(
    queries: Float[Array, "N D"],
    candidates: Float[Array, "C D"],
    positive: Int[Array, " N"],
    allowed: Bool[Array, "N C"],
    *,
    weights: Float[Array, " N"],
) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
    """Metrics of a contrastive batch; arguments as in `info_nce`.

    Returns:
        Sum and denominator of `accuracy`, the share of queries whose positive scores above every
        allowed candidate (a tie does not count), and `positive_cosine`, s(q_i, d_i⁺).
    """
    scores, positive_scores, is_positive = _scores(queries, candidates, positive)
    negative_scores = jnp.where(allowed & ~is_positive, scores, -jnp.inf)
    wins = (positive_scores > jnp.max(negative_scores, axis=1)).astype(scores.dtype)
    count = jnp.sum(weights)
    return {
        "accuracy": (jnp.sum(weights * wins), count),
        "positive_cosine": (jnp.sum(weights * positive_scores), count),
    }


def mean_cosine(
    vectors: Float[Array, "N D"],
    *,
    groups: Int[Array, " N"] | None = None,
    weights: Float[Array, " N"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sum and number of the cosines between different queries; a mean near 1 is a collapse.

    Args:
        vectors: unit vectors.
        groups: index of the query of each vector; by default all differ.
        weights: 0 for padding.
    """
    weights = jnp.ones_like(vectors, shape=vectors.shape[:1]) if weights is None else weights
    groups = jnp.arange(len(vectors)) if groups is None else groups
    cosines = _inner_products(vectors, vectors)
    pairs = weights[:, None] * _replicated(weights) * (groups[:, None] != _replicated(groups))
    return jnp.sum(pairs * cosines), jnp.sum(pairs)


def _scores(
    queries: Float[Array, "N D"], candidates: Float[Array, "C D"], positive: Int[Array, " N"]
) -> tuple[Float[Array, "N C"], Float[Array, " N"], Bool[Array, "N C"]]:
    """All cosines, those of the positives, and the mask of the positives."""
    scores = _inner_products(queries, candidates)
    is_positive = jnp.arange(scores.shape[1]) == positive[:, None]
    return scores, jnp.sum(jnp.where(is_positive, scores, 0.0), axis=1), is_positive


def _negative_mask(
    scores: Float[Array, "N C"],
    positive_scores: Float[Array, " N"],
    is_positive: Bool[Array, "N C"],
    allowed: Bool[Array, "N C"],
    config: ContrastiveConfig,
) -> Bool[Array, "N C"]:
    """The mask of negatives: M with the false-negative filter, without the positive."""
    is_negative = allowed & ~is_positive
    if config.false_negative_margin is None:
        return is_negative
    return is_negative & (scores <= positive_scores[:, None] + config.false_negative_margin)


def _inner_products(rows: Float[Array, "N D"], columns: Float[Array, "C D"]) -> Float[Array, "N C"]:
    """Inner products in full float32, sharded as `rows`; "highest" forbids bfloat16 passes."""
    return jnp.einsum("nd,cd->nc", rows, _replicated(columns), precision="highest")


def _replicated(array: Array) -> Array:
    """The array replicated on every device of the mesh, if there is one."""
    if jax.sharding.get_abstract_mesh().empty:
        return array
    return jax.reshard(array, jax.P())
