"""The losses between vectors of a whole step, and what they ask of each vector.

A contrastive batch is larger than what fits in memory at once. Vectors are small: all of them are
computed first, the losses and their gradients with respect to the vectors follow here, and each
micro-batch is then run again with its own vectors' gradients (GradCache, arXiv:2101.06983).
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from t1_jax.train.losses import (
    ContrastiveConfig,
    contrast_metrics,
    info_nce,
    mean_cosine,
    triplet,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ContrastPlan:
    """Which vectors of a step are compared. Shapes are padded, so that they recur.

    Attributes:
        queries: numbers of the query vectors; -1 in padding.
        candidates: numbers of the document vectors; -1 in padding.
        positive: for each query the column of its document among the candidates.
        negatives: columns of its hard negatives; -1 for none.
        allowed: which candidates a query may be pushed away from.
        groups: which query of the batch a query vector belongs to; several thoughts share one.
    """

    queries: Int[np.ndarray, " N"]
    candidates: Int[np.ndarray, " C"]
    positive: Int[np.ndarray, " N"]
    negatives: Int[np.ndarray, "N K"]
    allowed: Bool[np.ndarray, "N C"]
    groups: Int[np.ndarray, " N"]

    def padded(self, queries: int, candidates: int) -> "ContrastPlan":
        """The same with at least so many queries and candidates."""
        more = max(queries - len(self.queries), 0)
        wider = max(candidates - len(self.candidates), 0)
        return ContrastPlan(
            queries=np.pad(self.queries, (0, more), constant_values=-1),
            candidates=np.pad(self.candidates, (0, wider), constant_values=-1),
            positive=np.pad(self.positive, (0, more)),
            negatives=np.pad(self.negatives, ((0, more), (0, 0)), constant_values=-1),
            allowed=np.pad(self.allowed, ((0, more), (0, wider))),
            groups=np.pad(self.groups, (0, more), constant_values=-1),
        )


@dataclass(frozen=True, kw_only=True)
class ContrastWeights:
    """Weights of the two losses in the step's objective."""

    infonce: float
    triplet: float


@functools.partial(jax.jit, static_argnames=("config", "weights"))
def _vector_gradients(
    queries: Float[Array, "N D"],
    candidates: Float[Array, "C D"],
    plan: dict[str, Array],
    *,
    config: ContrastiveConfig,
    weights: ContrastWeights,
) -> tuple[dict[str, Float[Array, ""]], Float[Array, "N D"], Float[Array, "C D"]]:
    """The losses, and the gradient of their weighted sum with respect to every vector.

    Args:
        queries: unit vectors, zero in padding.
        candidates: unit vectors, zero in padding.
        plan: the columns of a padded `ContrastPlan`, and `real`, 0 for a query in padding.
        config: temperature, margin, distance.
        weights: of the two losses.
    """
    real = plan["real"]

    def objective(queries: jax.Array, candidates: jax.Array) -> tuple[jax.Array, dict[str, Array]]:
        total, losses = jnp.zeros(()), {}
        if weights.infonce:
            value = _ratio(
                *info_nce(
                    queries,
                    candidates,
                    plan["positive"],
                    plan["allowed"],
                    config=config,
                    weights=real,
                )
            )
            total, losses["loss/infonce"] = total + weights.infonce * value, value
        if weights.triplet:
            value = _ratio(
                *triplet(
                    queries,
                    candidates,
                    plan["positive"],
                    plan["negatives"],
                    plan["allowed"],
                    config=config,
                )
            )
            total, losses["loss/triplet"] = total + weights.triplet * value, value
        return total, losses

    (_, losses), pulls = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(
        queries, candidates
    )
    metrics = contrast_metrics(queries, candidates, plan["positive"], plan["allowed"], weights=real)
    losses |= {f"contrast/{name}": _ratio(*pair) for name, pair in metrics.items()}
    losses["embedding/mean_cosine"] = _ratio(
        *mean_cosine(queries, groups=plan["groups"], weights=real)
    )
    return losses, *pulls


def _ratio(total: jax.Array, count: jax.Array) -> jax.Array:
    """The mean, and 0 where nothing was counted."""
    return total / jnp.maximum(count, 1e-9)


def contrast(
    vectors: Float[Array | np.ndarray, "T D"],
    plan: ContrastPlan,
    *,
    config: ContrastiveConfig,
    weights: ContrastWeights,
) -> tuple[dict[str, Float[Array, ""]], Float[Array, "T D"]]:
    """The losses of a step, and the gradient of their weighted sum with respect to its vectors.

    Nothing is read back to the host, so that the device goes on without a pause.

    Args:
        vectors: unit vectors of the step, in the order of their numbers.
        plan: which of them are compared.
        config: temperature, margin, distance.
        weights: of the two losses.

    Returns:
        `loss/infonce` and `loss/triplet` where they have a weight, unweighted, and measures of the
        vectors; and the gradient, 0 for a vector that the plan leaves out.
    """
    columns = {
        "positive": plan.positive,
        "negatives": plan.negatives,
        "allowed": plan.allowed,
        "groups": plan.groups,
        "real": (plan.queries >= 0).astype(np.float32),
    }
    # NumPy arrays, equal in every process, are whole on every device of a mesh of many processes.
    losses, query_pulls, candidate_pulls = _vector_gradients(
        rows_of(vectors, plan.queries),
        rows_of(vectors, plan.candidates),
        columns,
        config=config,
        weights=weights,
    )
    pulls = _scattered(
        ((plan.queries, query_pulls), (plan.candidates, candidate_pulls)), len(vectors)
    )
    return losses, pulls


@jax.jit
def rows_of(vectors: Float[Array, "T D"], numbers: Int[Array, "*N"]) -> Float[Array, "*N D"]:
    """The vectors of these numbers, zero where there is none (-1)."""
    return jnp.where(numbers[..., None] >= 0, vectors[jnp.maximum(numbers, 0)], 0.0)


@functools.partial(jax.jit, static_argnames=("count",))
def _scattered(
    parts: tuple[tuple[Int[Array, " _"], Float[Array, "_ D"]], ...], count: int
) -> Float[Array, "T D"]:
    """Rows at their numbers among `count`; those of one number are summed, of -1 left out."""
    table = jnp.zeros((count, parts[0][1].shape[-1]), jnp.float32)
    for numbers, rows in parts:
        # A negative number would count from the end; one beyond the end is dropped.
        table = table.at[jnp.where(numbers < 0, count, numbers)].add(rows, mode="drop")
    return table
