"""Stages 1 and 2: batches of queries with reference thoughts, for SFT and contrastive losses."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from flax import nnx

from t1_jax.parallel import MeshContext
from t1_jax.retriever import T1
from t1_jax.train.batches import PreparedBatch, SourceState, StageState
from t1_jax.train.config import StageConfig
from t1_jax.train.contrast import plan_contrast
from t1_jax.train.data import BatchIterator, Example, TrainingSet
from t1_jax.train.infra import Clock
from t1_jax.train.layout import EmbeddingIds, micro_batches, pack_rows
from t1_jax.train.prompt_candidates import PromptCandidates, embed_without_thought
from t1_jax.train.row_builder import RowBuilder
from t1_jax.train.step import StepBatch


class SupervisedBatches:
    """A `BatchSource` of examples that are used as they are, or over candidates."""

    def __init__(
        self,
        config: StageConfig,
        examples: BatchIterator,
        sets: Sequence[TrainingSet],
        rows: RowBuilder,
        mesh_context: MeshContext,
        *,
        prompts: PromptCandidates | None = None,
        retriever: Callable[[nnx.State], T1] | None = None,
    ) -> None:
        """Reads examples; their prompts show what `prompts` finds with a `retriever` of a step."""
        self._config = config
        self._examples = examples
        self._sets = sets
        self._rows = rows
        self._mesh_context = mesh_context
        self._prompts, self._retriever = prompts, retriever

    def next(self, state: StageState, step: int, clock: Clock) -> PreparedBatch:
        """See `BatchSource`."""
        position = self._examples.state_dict()
        with clock.of("data"):
            examples: Sequence[Example] = next(self._examples)
        if self._prompts is not None and self._retriever is not None:
            try:
                with clock.of("candidates"):
                    retriever = self._retriever(state.train.trained)
                    vectors = embed_without_thought(retriever, examples)
                    examples = self._prompts.show(retriever, examples, step, vectors)
            except Exception:
                self._examples.load_state_dict(position)
                raise
        with clock.of("data"):
            batch = self.batch(examples)
        metrics = {} if self._prompts is None else self._prompts.metrics(examples)
        return PreparedBatch(batch=batch, metrics=metrics, samples=[])

    def prefetch(self, state: StageState, step: int, clock: Clock) -> AbstractContextManager[None]:
        """Nothing: these batches take little time, or need the weights of their step."""
        return nullcontext()

    def state_dict(self) -> SourceState:
        """See `BatchSource`."""
        arrays = {} if self._prompts is None else self._prompts.state_dict()
        return {"position": self._examples.state_dict(), "arrays": arrays}

    def load_state_dict(self, state: SourceState) -> None:
        """See `BatchSource`."""
        self._examples.load_state_dict(state["position"])
        if self._prompts is not None:
            self._prompts.load_state_dict(state["arrays"])

    def batch(self, examples: Sequence[Example]) -> StepBatch:
        """The rows of all queries and, with a contrastive loss, of their documents."""
        config, losses, ids = self._config, self._config.losses, EmbeddingIds()
        contrastive = bool(losses.infonce or losses.triplet)
        num_targets = 0
        if losses.sft:
            num_targets = self._rows.count_sft_targets(
                examples, train_emb_token=config.train_emb_token
            )
        query_ids = ids.take(len(examples)) if contrastive else None
        rows = [
            self._rows.query_row(
                example,
                None if query_ids is None else query_ids[number],
                think=config.think,
                sft_weight=losses.sft / num_targets if num_targets else 0.0,
                train_emb_token=config.train_emb_token,
            )
            for number, example in enumerate(examples)
        ]
        plan = None
        if query_ids is not None:
            plan, documents = plan_contrast(
                examples,
                self._sets,
                self._rows,
                ids,
                query_ids=query_ids,
                groups=range(len(examples)),
                hard_negatives=config.data.hard_negatives,
            )
            rows += documents
        if config.pack:
            longest = max(len(row.tokens) for row in rows)
            length = config.micro_batch.packed_length(longest, self._mesh_context.batch_divisor)
            rows = pack_rows([row for row in rows if len(row.targets)], length)
        return StepBatch(
            micro_batches=micro_batches(
                rows, config.micro_batch, self._mesh_context, pad_id=self._rows.tokenizer.pad_id
            ),
            plan=plan,
            num_embeddings=ids.count,
            num_targets=num_targets,
            truncated_thoughts=self._rows.count_truncated(examples) if config.think else 0,
        )
