"""The contrastive part of a step: which embeddings are compared, the losses, and their gradients.

A contrastive batch is larger than what fits in memory at once, but its embeddings are small. So all
embeddings are computed first; the losses and their gradients with respect to the embeddings follow
here; and each micro-batch then runs its backward pass from those gradients (GradCache,
arXiv:2101.06983).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from t1_jax.train.data import Example, TrainingSet, candidate_mask, collect_candidates
from t1_jax.train.layout import EmbeddingIds, Row
from t1_jax.train.losses import (
    ContrastiveConfig,
    contrast_metrics,
    info_nce,
    mean_cosine,
    triplet,
)
from t1_jax.train.row_builder import RowBuilder


@dataclass(frozen=True, kw_only=True, eq=False)
class ContrastPlan:
    """Which embeddings of a step are compared. Shapes are padded, so that they recur.

    Attributes:
        queries: embedding ids of the queries; -1 in padding.
        candidates: embedding ids of the documents; -1 in padding.
        positive: for each query the column of its positive among the candidates.
        negatives: columns of its hard negatives; -1 for none.
        allowed: which candidates may be negatives of a query.
        groups: index of the example that a query embedding belongs to; several thoughts share one.
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


def plan_contrast(
    examples: Sequence[Example],
    sets: Sequence[TrainingSet],
    rows: RowBuilder,
    ids: EmbeddingIds,
    *,
    query_ids: Sequence[int],
    groups: Sequence[int],
    hard_negatives: int,
    max_per_example: int = 1,
) -> tuple[ContrastPlan, list[Row]]:
    """The documents of a batch, each once, and which query embedding is compared with which.

    `groups` has the index of the example of each query embedding, `ids` numbers the documents. The
    most hard negatives and query embeddings of an example determine the padded shapes.
    """
    candidates = collect_candidates(examples, hard_negatives)
    allowed = candidate_mask(examples, candidates.keys, sets)
    example_of = np.asarray(groups, np.int32)
    document_ids = ids.take(len(candidates.keys))
    plan = ContrastPlan(
        queries=np.asarray(query_ids, np.int32),
        candidates=np.asarray(document_ids, np.int32),
        positive=candidates.positive_index[example_of],
        negatives=candidates.negative_index[example_of],
        allowed=allowed[example_of],
        groups=example_of,
    ).padded(len(examples) * max_per_example, len(examples) * (1 + hard_negatives))
    documents = [
        rows.document_row(key, document_id)
        for key, document_id in zip(candidates.keys, document_ids, strict=True)
    ]
    return plan, documents


def contrast(
    vectors: Float[Array | np.ndarray, "T D"],
    plan: ContrastPlan,
    *,
    config: ContrastiveConfig,
    infonce_weight: float,
    triplet_weight: float,
) -> tuple[dict[str, Float[Array, ""]], Float[Array, "T D"]]:
    """The contrastive losses of a step, and their gradient with respect to its embeddings.

    Nothing is read back to the host, so that the device does not wait.

    The vectors are unit vectors, by embedding id; the weights are those in the step's loss.

    Returns:
        Unweighted `loss/infonce` and `loss/triplet`, where they have a weight, with metrics of the
        embeddings; and the gradient of the weighted sum, 0 for an embedding outside the plan.
    """
    columns = {
        "positive": plan.positive,
        "negatives": plan.negatives,
        "allowed": plan.allowed,
        "groups": plan.groups,
        "real": (plan.queries >= 0).astype(np.float32),
    }
    # NumPy arrays, equal in every process, are whole on every device of a mesh of many processes.
    metrics, query_grads, candidate_grads = _vector_grads(
        take_embeddings(vectors, plan.queries),
        take_embeddings(vectors, plan.candidates),
        columns,
        config=config,
        infonce_weight=infonce_weight,
        triplet_weight=triplet_weight,
    )
    grads = _scatter_add(
        ((plan.queries, query_grads), (plan.candidates, candidate_grads)), len(vectors)
    )
    return metrics, grads


@functools.partial(jax.jit, static_argnames=("config", "infonce_weight", "triplet_weight"))
def _vector_grads(
    queries: Float[Array, "N D"],
    candidates: Float[Array, "C D"],
    plan: dict[str, Array],
    *,
    config: ContrastiveConfig,
    infonce_weight: float,
    triplet_weight: float,
) -> tuple[dict[str, Float[Array, ""]], Float[Array, "N D"], Float[Array, "C D"]]:
    """Losses and metrics, and the gradients of the weighted sum of the losses.

    Queries and candidates are unit vectors, zero in padding. `plan` has the arrays of a padded
    `ContrastPlan`, and `real`, 0 for a query in padding.
    """
    real = plan["real"]

    def objective(queries: jax.Array, candidates: jax.Array) -> tuple[jax.Array, dict[str, Array]]:
        total, losses = jnp.zeros(()), {}
        if infonce_weight:
            value = _mean(
                *info_nce(
                    queries,
                    candidates,
                    plan["positive"],
                    plan["allowed"],
                    config=config,
                    weights=real,
                )
            )
            total, losses["loss/infonce"] = total + infonce_weight * value, value
        if triplet_weight:
            value = _mean(
                *triplet(
                    queries,
                    candidates,
                    plan["positive"],
                    plan["negatives"],
                    plan["allowed"],
                    config=config,
                )
            )
            total, losses["loss/triplet"] = total + triplet_weight * value, value
        return total, losses

    (_, metrics), grads = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(
        queries, candidates
    )
    pairs = contrast_metrics(queries, candidates, plan["positive"], plan["allowed"], weights=real)
    metrics |= {f"contrast/{name}": _mean(*pair) for name, pair in pairs.items()}
    metrics["embedding/mean_cosine"] = _mean(
        *mean_cosine(queries, groups=plan["groups"], weights=real)
    )
    return metrics, *grads


def _mean(total: jax.Array, count: jax.Array) -> jax.Array:
    """The mean, and 0 where nothing was counted."""
    return total / jnp.maximum(count, 1e-9)


@jax.jit
def take_embeddings(vectors: Float[Array, "T D"], ids: Int[Array, "*N"]) -> Float[Array, "*N D"]:
    """The rows of these embedding ids, zero where there is none (-1)."""
    return jnp.where(ids[..., None] >= 0, vectors[jnp.maximum(ids, 0)], 0.0)


@functools.partial(jax.jit, static_argnames=("count",))
def _scatter_add(
    parts: tuple[tuple[Int[Array, " _"], Float[Array, "_ D"]], ...], count: int
) -> Float[Array, "T D"]:
    """A table of `count` rows; rows of one id are summed, those of -1 left out."""
    table = jnp.zeros((count, parts[0][1].shape[-1]), jnp.float32)
    for ids, rows in parts:
        # A negative index would count from the end; one beyond the end is dropped.
        table = table.at[jnp.where(ids < 0, count, ids)].add(rows, mode="drop")
    return table
