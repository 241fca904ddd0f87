"""A tiny model, one step's rows of every kind, and the step's objective as one plain function."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t1_jax.generate import FinishReason, Thought
from t1_jax.model import (
    Decoder,
    DecoderConfig,
    LoraConfig,
    add_lora,
    pool_embeddings,
    trainable_filter,
)
from t1_jax.parallel import MeshConfig, MeshContext, make_mesh_context, single_device_mesh_context
from t1_jax.train.config import LossWeights
from t1_jax.train.contrast import ContrastPlan
from t1_jax.train.layout import (
    MicroBatchConfig,
    Row,
    RowTargets,
    micro_batches,
    separate_rows,
    shared_prefix_row,
)
from t1_jax.train.losses import ContrastiveConfig, PolicyConfig
from t1_jax.train.objective import TokenObjective
from t1_jax.train.optimizer import Optimizer, OptimizerConfig
from t1_jax.train.row_builder import num_completion_tokens, policy_continuations
from t1_jax.train.step import ModelParts, Objective, StepBatch, StepResult, train_step
from tests.model.tiny import TINY, build, tiny

EMB = 49
TEMPERATURE = 0.7
CONTRASTIVE = ContrastiveConfig(temperature=0.2, margin=0.5)
WEIGHTS = LossWeights(sft=1.0, infonce=0.6, triplet=0.8, policy=1.0)
PLAIN = OptimizerConfig(
    learning_rate=1.0, schedule="constant", warmup_ratio=0.0, epsilon=1.0, clip_norm=0.0
)
"""The first update is -g/(|g| + 1): a smooth function of the gradient g, which shows all of it."""

UNTIED = tiny(tie_embeddings=False, qkv_bias=True)


def mesh_of(data: int, fsdp: int, tensor: int) -> MeshContext:
    count = data * fsdp * tensor
    return make_mesh_context(
        MeshConfig(data=data, fsdp=fsdp, tensor=tensor), devices=jax.devices()[:count]
    )


def parts_and_weights(
    mesh_context: MeshContext | None = None,
    config: DecoderConfig = TINY,
    lora: LoraConfig | None = None,
    **options: Any,
) -> tuple[ModelParts, nnx.State]:
    """A model and weights that are its alone."""
    mesh_context = mesh_context or single_device_mesh_context()
    model = build(config, mesh_context, **options)
    with mesh_context.activate():
        decoder = model.decoder
        if lora is not None:
            decoder = add_lora(decoder, lora, nnx.Rngs(1), emb_token_id=EMB)
        graphdef, trained, frozen = nnx.split(decoder, trainable_filter(decoder), ...)
    return ModelParts(graphdef=graphdef, frozen=frozen, mesh_context=mesh_context), trained


@jax.jit
def copied(trained: nnx.State) -> nnx.State:
    """A step consumes the weights it is given."""
    return jax.tree.map(jnp.copy, trained)


def stepped(
    model: tuple[ModelParts, nnx.State],
    batch: StepBatch,
    objective: Objective,
    config: OptimizerConfig = PLAIN,
) -> StepResult:
    """One update of a copy of the weights."""
    parts, trained = model
    optimizer = Optimizer(config, steps=10)
    with parts.mesh_context.activate():
        state = optimizer.start(copied(trained))
        return train_step(parts, optimizer, objective, state, batch)


def numbers(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by their path."""
    return {
        jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree.leaves_with_path(tree)
    }


def assert_alike(found: Any, expected: Any, atol: float = 2e-5) -> None:
    """Trees of equal leaves, to rounding."""
    one, other = numbers(found), numbers(expected)
    assert one.keys() == other.keys()
    for path, value in one.items():
        np.testing.assert_allclose(value, other[path], atol=atol, rtol=1e-4, err_msg=path)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A step that imitates, rewards and contrasts: vectors of queries, of thoughts, of documents.

    Attributes:
        queries: prompt and imitated thought, each ending in `<emb_token>`.
        groups: prompt and thoughts.
        documents: each ending in `<emb_token>`.
    """

    queries: list[tuple[np.ndarray, np.ndarray]]
    groups: list[tuple[np.ndarray, list[Thought]]]
    documents: list[np.ndarray]
    advantages: np.ndarray
    policy: PolicyConfig = PolicyConfig(loss="dapo")
    sft_weight: float = 0.05
    policy_weight: float = 0.07

    @property
    def per_group(self) -> int:
        return len(self.groups[0][1]) if self.groups else 0

    @property
    def num_queries(self) -> int:
        return len(self.queries) + len(self.groups) * self.per_group

    def plan(self) -> ContrastPlan:
        """Query n is answered by document n; the last documents are hard negatives."""
        count, total = self.num_queries, len(self.documents)
        allowed = np.random.default_rng(5).random((count, total)) < 0.8
        negatives = np.full((count, 2), -1, np.int32)
        negatives[::2, 0] = total - 1
        negatives[::3, 1] = total - 2
        allowed[:, total - 2 :] = True
        plan = ContrastPlan(
            queries=np.arange(count, dtype=np.int32),
            candidates=np.arange(count, count + total, dtype=np.int32),
            positive=np.arange(count, dtype=np.int32) % (total - 2),
            negatives=negatives,
            allowed=allowed,
            groups=np.arange(count, dtype=np.int32),
        )
        return plan.padded(count + 3, total + 5)

    def rows(self, *, shared: bool = True) -> list[Row]:
        found = []
        for number, (prompt, answer) in enumerate(self.queries):
            first, ids = len(prompt), np.concatenate([prompt, answer])
            found.append(
                Row(
                    tokens=ids,
                    logit_positions=np.arange(first - 1, len(ids) - 1, dtype=np.int32),
                    targets=RowTargets(
                        token_ids=answer,
                        continuation=np.zeros(len(answer), np.int32),
                        sft_weights=np.full(len(answer), self.sft_weight, np.float32),
                    ),
                    emb_positions=[len(ids) - 1],
                    embedding_ids=[number],
                )
            )
        for number, (prompt, thoughts) in enumerate(self.groups):
            first = len(self.queries) + number * len(thoughts)
            continuations = policy_continuations(
                thoughts,
                self.advantages[number].astype(np.float32),
                np.full(len(thoughts), self.policy_weight, np.float32),
                range(first, first + len(thoughts)),
            )
            if shared:
                found.append(shared_prefix_row(prompt, continuations))
            else:
                found += separate_rows(prompt, continuations)
        for number, ids in enumerate(self.documents):
            at, vector = [len(ids) - 1], [self.num_queries + number]
            found.append(Row(tokens=ids, emb_positions=at, embedding_ids=vector))
        return found

    def batch(
        self,
        mesh_context: MeshContext,
        micro: MicroBatchConfig | None = None,
        *,
        shared: bool = True,
        shuffled: bool = False,
    ) -> StepBatch:
        rows = self.rows(shared=shared)
        if shuffled:
            order = np.random.default_rng(2).permutation(len(rows))
            rows = [rows[number] for number in order]
        micro = micro or MicroBatchConfig(rows=16, tokens=1024, length_step=32)
        return StepBatch(
            micro_batches=micro_batches(rows, micro, mesh_context, pad_id=0),
            plan=self.plan(),
            num_embeddings=self.num_queries + len(self.documents),
        )

    def constants(self, *, keep_residuals: bool = False) -> Objective:
        return Objective(
            weights=WEIGHTS,
            tokens=TokenObjective(policy=self.policy, temperature=TEMPERATURE),
            contrastive=CONTRASTIVE,
            keep_residuals=keep_residuals,
        )

    def plain_loss(self, decoder: Decoder) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of all of it, each text in a row of its own, without micro-batches."""
        texts = [
            *self.queries,
            *((prompt, one.token_ids) for prompt, group in self.groups for one in group),
            *((ids[:-1], ids[-1:]) for ids in self.documents),
        ]
        table = np.zeros((len(texts), 32), np.int32)
        for row, (prompt, answer) in enumerate(texts):
            table[row, : len(prompt) + len(answer)] = [*prompt, *answer]
        ends = np.array([len(prompt) + len(answer) - 1 for prompt, answer in texts])
        hidden = decoder(jnp.asarray(table))
        vectors = jax.reshard(pool_embeddings(decoder, hidden, jnp.asarray(ends)), jax.P())
        plain = jax.reshard(decoder.logits(hidden), jax.P())
        next_is = np.roll(table, -1, axis=1)[..., None] == np.arange(plain.shape[-1])
        log_probs = jnp.where(next_is, jax.nn.log_softmax(plain / TEMPERATURE), 0.0).sum(axis=-1)
        imitated, rewarded, drawn = (np.zeros(table.shape, np.float32) for _ in range(3))
        for row, (prompt, answer) in enumerate(self.queries):
            imitated[row, len(prompt) - 1 :][: len(answer)] = 1.0
        row = len(self.queries)
        for number, (prompt, group) in enumerate(self.groups):
            for sample, one in enumerate(group):
                actions = num_completion_tokens(one)
                rewarded[row, len(prompt) - 1 :][:actions] = self.advantages[number, sample]
                drawn[row, len(prompt) - 1 :][:actions] = one.log_probs[:actions]
                row += 1
        fixed = jax.lax.stop_gradient(log_probs)
        truncated = jnp.minimum(jnp.exp(jnp.where(rewarded != 0, fixed - drawn, 0.0)), 2.0)
        sft = -jnp.sum(imitated[..., None] * jnp.where(next_is, jax.nn.log_softmax(plain), 0.0))
        # Its value is the loss, and its gradient that of w A log π.
        policy = -jnp.sum(rewarded * truncated * jnp.exp(log_probs - fixed))
        queries, documents = vectors[: self.num_queries], vectors[self.num_queries :]
        infonce, margins = plain_contrast(queries, documents, self.plan())
        total = (
            self.sft_weight * sft
            + self.policy_weight * policy
            + WEIGHTS.infonce * infonce
            + WEIGHTS.triplet * margins
        )
        return total, {
            "loss/sft": sft / imitated.sum(),
            "loss/policy": self.policy_weight * policy,
            "loss/infonce": infonce,
            "loss/triplet": margins,
        }


def plain_contrast(
    queries: jax.Array, documents: jax.Array, plan: ContrastPlan
) -> tuple[jax.Array, jax.Array]:
    """InfoNCE and triplet loss, query by query."""
    infonce, margins = [], []
    for n in range(len(queries)):
        scores = documents @ queries[n]
        own = int(plan.positive[n])
        rivals = [c for c in range(len(documents)) if c == own or plan.allowed[n, c]]
        logits = scores[np.array(rivals)] / CONTRASTIVE.temperature
        infonce.append(jax.nn.logsumexp(logits) - scores[own] / CONTRASTIVE.temperature)
        margins += [
            jnp.maximum(0.0, CONTRASTIVE.margin - scores[own] + scores[c])
            for c in plan.negatives[n].tolist()
            if c >= 0 and c != own
        ]
    return jnp.stack(infonce).mean(), jnp.stack(margins).mean()


def thought(
    rng: np.random.Generator, length: int, finish_reason: FinishReason, sample: int
) -> Thought:
    """A thought of so many tokens before `<emb_token>`, as some sampler drew it."""
    ids = np.append(rng.integers(1, 48, length), EMB).astype(np.int32)
    log_probs = -rng.exponential(3.0, length + 1).astype(np.float32)
    return Thought(
        token_ids=ids,
        log_probs=log_probs,
        log_probs_at_1=log_probs,
        embedding=np.zeros(16, np.float32),
        finish_reason=finish_reason,
        sample=sample,
    )


def problem(
    queries: int = 4, groups: int = 2, documents: int = 9, *, per_group: int = 3, seed: int = 0
) -> Problem:
    rng = np.random.default_rng(seed)

    def words(least: int, most: int) -> np.ndarray:
        return rng.integers(1, 48, rng.integers(least, most)).astype(np.int32)

    def ends(row: np.ndarray) -> np.ndarray:
        return np.append(row, EMB).astype(np.int32)

    reasons = list(FinishReason)
    return Problem(
        queries=[(words(2, 9), ends(words(1, 12))) for _ in range(queries)],
        groups=[
            (
                words(3, 6),
                [
                    thought(rng, int(rng.integers(1, 7)), reasons[s % 3], s)
                    for s in range(per_group)
                ],
            )
            for _ in range(groups)
        ],
        documents=[ends(words(2, 20)) for _ in range(documents)],
        advantages=rng.standard_normal((groups, per_group)),
    )
