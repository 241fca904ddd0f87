"""Stages 1 and 2: thoughts that are given, imitated, contrasted, or both."""

from collections.abc import Sequence

import numpy as np

from t1_jax.parallel import MeshContext
from t1_jax.train.batch import Row, micro_batches
from t1_jax.train.config import StageConfig
from t1_jax.train.contrast import ContrastPlan, ContrastWeights
from t1_jax.train.data import (
    PADDING_SEGMENT,
    Example,
    TargetRow,
    TrainingSet,
    candidate_mask,
    collect_candidates,
    pack_rows,
)
from t1_jax.train.objective import TokenObjective
from t1_jax.train.rows import RowMaker
from t1_jax.train.step import StepBatch


class Supervised:
    """Turns a batch of draws into what one step learns from."""

    def __init__(
        self,
        config: StageConfig,
        rows: RowMaker,
        sets: Sequence[TrainingSet],
        mesh_context: MeshContext,
    ) -> None:
        self._config = config
        self._rows = rows
        self._sets = sets
        self._placement = mesh_context

    def prepare(self, examples: Sequence[Example]) -> StepBatch:
        """Rows of all queries, and of all documents where vectors are compared."""
        config = self._config
        losses = config.losses
        vectors = bool(losses.infonce or losses.triplet)
        imitated = 0
        if losses.sft:
            imitated = self._rows.count_imitated(examples, emb_token_learns=config.train_emb_token)
        weight = losses.sft / imitated if imitated else 0.0
        rows = [
            self._rows.query(
                example,
                number if vectors else None,
                think=config.think,
                weight=weight,
                emb_token_learns=config.train_emb_token,
            )
            for number, example in enumerate(examples)
        ]
        plan = None
        if vectors:
            plan, documents = document_prompt(
                examples,
                self._sets,
                self._rows,
                hard_negatives=config.data.hard_negatives,
                groups=range(len(examples)),
            )
            rows += documents
        tokenizer = self._rows.tokenizer
        if config.pack:
            longest = max(len(row.tokens) for row in rows)
            length = config.micro_batch.packed_length(longest, self._placement.batch_divisor)
            rows = _packed(rows, length, pad_id=tokenizer.pad_id)
        return StepBatch(
            micro=micro_batches(rows, config.micro_batch, self._placement, pad_id=tokenizer.pad_id),
            objective=TokenObjective(),
            plan=plan,
            contrastive=config.contrastive,
            weights=ContrastWeights(infonce=losses.infonce, triplet=losses.triplet),
            hold=config.micro_batch.hold,
            num_vectors=0 if plan is None else len(examples) + int((plan.candidates >= 0).sum()),
            action_tokens=imitated,
            truncated_thoughts=self._rows.count_truncated(examples) if config.think else 0,
        )


def document_prompt(
    examples: Sequence[Example],
    sets: Sequence[TrainingSet],
    rows: RowMaker,
    *,
    hard_negatives: int,
    groups: Sequence[int],
    most: int = 1,
) -> tuple[ContrastPlan, list[Row]]:
    """The documents of a batch, each once, and which query vector is compared with which of them.

    Args:
        examples: of the step.
        sets: that they were drawn from.
        rows: lays documents out.
        hard_negatives: most that a query draws; it decides the padded shape.
        groups: the draw of each query vector; these have the first numbers of the step. A draw
            whose query has several thoughts has several.
        most: query vectors that a draw can have; it decides the padded shape.
    """
    candidates = collect_candidates(examples, hard_negatives)
    allowed = candidate_mask(examples, candidates.keys, sets)
    of, first = np.asarray(groups, np.int32), len(groups)
    plan = ContrastPlan(
        queries=np.arange(first, dtype=np.int32),
        candidates=first + np.arange(len(candidates.keys), dtype=np.int32),
        positive=candidates.positive_index[of],
        negatives=candidates.negative_index[of],
        allowed=allowed[of],
        groups=of,
    ).padded(len(examples) * most, len(examples) * (1 + hard_negatives))
    return plan, [rows.document(key, first + n) for n, key in enumerate(candidates.keys)]


def _packed(rows: Sequence[Row], length: int, *, pad_id: int) -> list[Row]:
    """The rows that imitate something, several in one of at most `length`, each seeing itself."""
    rows = [row for row in rows if len(row.targets)]
    spans = [
        TargetRow(
            tokens=tuple(row.tokens.tolist()),
            target_begin=int(row.read_at[0]) + 1,
            target_end=int(row.read_at[-1]) + 2,
        )
        for row in rows
    ]
    packed = []
    for bin_ in pack_rows(spans, length, pad_id=pad_id):
        used = int(np.sum(bin_.segment_ids != PADDING_SEGMENT))
        (targets,) = np.nonzero(bin_.target_mask)
        members = [rows[source] for source in bin_.sources]
        packed.append(
            Row(
                tokens=bin_.tokens[:used],
                positions=bin_.positions[:used],
                segments=bin_.segment_ids[:used],
                read_at=targets.astype(np.int32) - 1,
                targets=bin_.tokens[targets],
                sequence=np.zeros(len(targets), np.int32),
                columns={
                    "sft_weight": np.concatenate([row.columns["sft_weight"] for row in members])
                },
            )
        )
    return packed
