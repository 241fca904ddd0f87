"""Examples to rows: queries, thoughts and documents are tokenized once each and laid out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from t1_jax.generate import Thought
from t1_jax.retrieval import Document
from t1_jax.text import (
    PromptPreset,
    PromptTokens,
    T1Tokenizer,
    tokenize_documents,
    tokenize_queries,
)
from t1_jax.train.data import Example, LengthConfig, TrainingSet
from t1_jax.train.layout import Continuation, Row, RowTargets


class RowBuilder:
    """Tokenizes what examples hold, and builds rows from it."""

    def __init__(
        self,
        tokenizer: T1Tokenizer,
        preset: PromptPreset,
        sets: Sequence[TrainingSet],
        lengths: LengthConfig,
    ) -> None:
        self.tokenizer = tokenizer
        self._preset = preset
        self._lengths = lengths
        self._documents: dict[str, Mapping[str, Document]] = {s.name: s.documents for s in sets}
        self._prompts: dict[tuple[str, str, bool], PromptTokens] = {}
        self._document_tokens: dict[tuple[str, str], Int[np.ndarray, " L"]] = {}
        self._thoughts: dict[str, tuple[Int[np.ndarray, " L"], bool]] = {}

    def prompt(self, example: Example, *, think: bool) -> PromptTokens:
        """The prompt of a query; a thought follows it, perhaps one over candidates."""
        if think and example.candidates:  # others in each step
            return self._tokenize(example, think=True)
        key = (example.set_name, example.record.query_id, think)
        if key not in self._prompts:
            self._prompts[key] = self._tokenize(example, think=think)
        return self._prompts[key]

    def _tokenize(self, example: Example, *, think: bool) -> PromptTokens:
        preset, task = self._preset, example.task
        if example.record.instruction is not None:
            preset, task = preset.with_instruction(example.record.instruction), None
        return tokenize_queries(
            self.tokenizer,
            preset,
            [example.record.query],
            max_tokens=self._lengths.query,
            task=task,
            think=think,
            names=[f"query {example.record.query_id!r} of {example.set_name}"],
            candidates=[example.candidates] if think else None,
        )[0]

    def thought(self, text: str) -> tuple[Int[np.ndarray, " L"], bool]:
        """The tokens of a reference thought, and whether it was truncated."""
        if text not in self._thoughts:
            ids, limit = self.tokenizer.encode_thought(text), self._lengths.thought
            self._thoughts[text] = ids[:limit], len(ids) > limit
        return self._thoughts[text]

    def count_truncated(self, examples: Sequence[Example]) -> int:
        """Number of reference thoughts that were truncated."""
        texts = [example.thought for example in examples if example.thought is not None]
        return sum(self.thought(text)[1] for text in texts)

    def count_sft_targets(
        self, examples: Sequence[Example], *, train_emb_token: bool = True
    ) -> int:
        """Number of SFT targets of a step: the denominator of its SFT loss."""
        texts = [example.thought for example in examples if example.thought is not None]
        return sum(self._sft_targets(text, train_emb_token) for text in texts)

    def _sft_targets(self, text: str, train_emb_token: bool) -> int:
        """Number of SFT targets of a reference thought, its `<emb_token>` included.

        After a truncated thought `<emb_token>` is no target: the model would learn to stop in the
        middle of a sentence.
        """
        ids, truncated = self.thought(text)
        return len(ids) + (train_emb_token and not truncated)

    def query_row(
        self,
        example: Example,
        embedding_id: int | None,
        *,
        think: bool,
        sft_weight: float,
        train_emb_token: bool = True,
    ) -> Row:
        """A query with its reference thought, if it has one.

        Args:
            example: the query. Without a reference thought it has no SFT target: the model would
                learn to end its thought before it began.
            embedding_id: id of the embedding read at `<emb_token>`; None reads none.
            think: whether the thought stands between prompt and `<emb_token>`.
            sft_weight: weight of each SFT target in the step's loss, denominator included; 0 makes
                no target.
            train_emb_token: whether `<emb_token>` is a target after a thought that is complete.
        """
        prompt = self.prompt(example, think=think)
        thought, num_targets = np.zeros(0, np.int32), 0
        if think and example.thought is not None:
            thought, _ = self.thought(example.thought)
            num_targets = self._sft_targets(example.thought, train_emb_token) if sft_weight else 0
        ids = self.tokenizer.append_emb_token(prompt, thought).ids
        first = len(prompt.ids)
        weights = np.full(num_targets, sft_weight, np.float32) if num_targets else None
        return Row(
            tokens=ids,
            logit_positions=np.arange(first - 1, first - 1 + num_targets, dtype=np.int32),
            targets=RowTargets(
                token_ids=ids[first : first + num_targets],
                continuation=np.zeros(num_targets, np.int32),
                sft_weights=weights,
            ),
            emb_positions=[] if embedding_id is None else [len(ids) - 1],
            embedding_ids=[] if embedding_id is None else [embedding_id],
        )

    def reference_continuation(
        self,
        example: Example,
        embedding_id: int | None,
        *,
        sft_weight: float,
        train_emb_token: bool = True,
    ) -> Continuation | None:
        """The reference thought of a query beside sampled ones; None if it has none.

        Arguments as in `query_row`.
        """
        if example.thought is None:
            return None
        thought, _ = self.thought(example.thought)
        ids = np.append(thought, self.tokenizer.emb_token_id).astype(np.int32)
        if not sft_weight:
            return Continuation(tokens=ids, embedding_id=embedding_id)
        return Continuation(
            tokens=ids,
            num_targets=self._sft_targets(example.thought, train_emb_token),
            embedding_id=embedding_id,
            sft_weights=sft_weight,
        )

    def document_row(self, key: tuple[str, str], embedding_id: int) -> Row:
        """The row of a document, whose key is set name and document id."""
        if key not in self._document_tokens:
            document = self._documents[key[0]][key[1]]
            self._document_tokens[key] = tokenize_documents(
                self.tokenizer,
                self._preset,
                [document.full_text],
                max_tokens=self._lengths.document,
                names=[f"document {key[1]!r} of {key[0]}"],
            )[0].ids
        ids = self._document_tokens[key]
        return Row(tokens=ids, emb_positions=[len(ids) - 1], embedding_ids=[embedding_id])


def num_completion_tokens(thought: Thought) -> int:
    """Number of tokens that the policy sampled; an appended `<emb_token>` is not one of them."""
    return len(thought.token_ids) - 1 if thought.emb_token_appended else len(thought.token_ids)


def sampled_continuations(
    thoughts: Sequence[Thought], embedding_ids: Sequence[int]
) -> list[Continuation]:
    """Sampled thoughts that are read for their embeddings alone."""
    return [
        Continuation(tokens=np.asarray(thought.token_ids, np.int32), embedding_id=embedding_id)
        for thought, embedding_id in zip(thoughts, embedding_ids, strict=True)
    ]


def policy_continuations(
    thoughts: Sequence[Thought],
    advantages: Float[np.ndarray, " G"],
    weights: Float[np.ndarray, " G"],
    embedding_ids: Sequence[int],
) -> list[Continuation]:
    """Sampled thoughts whose completion tokens are targets of the policy loss.

    Args:
        thoughts: G thoughts of one query.
        advantages: advantage of each thought.
        weights: weight of each completion token of a thought in the step's loss; 0 excludes the
            thought from the loss but keeps its embedding.
        embedding_ids: ids of the embeddings read at the thoughts' `<emb_token>`.
    """
    continuations = []
    for number, continuation in enumerate(sampled_continuations(thoughts, embedding_ids)):
        num_targets = num_completion_tokens(thoughts[number])
        continuations.append(
            replace(
                continuation,
                num_targets=num_targets,
                policy_weights=float(weights[number]),
                advantages=float(advantages[number]),
                sampler_logps=np.asarray(thoughts[number].log_probs[:num_targets], np.float32),
            )
        )
    return continuations
