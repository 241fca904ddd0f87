"""Texts and thoughts to rows: what is read, what is imitated or rewarded, where vectors stand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from t1_jax.generate import Thought
from t1_jax.retrieval import Document
from t1_jax.text import PromptPreset, PromptTokens, T1Tokeniser, encode_documents, encode_queries
from t1_jax.train.batch import Row
from t1_jax.train.config import LengthConfig
from t1_jax.train.data import Draw, TrainingSet


class RowMaker:
    """Tokenises queries, thoughts and documents once, and lays rows out."""

    def __init__(
        self,
        tokeniser: T1Tokeniser,
        preset: PromptPreset,
        sets: Sequence[TrainingSet],
        lengths: LengthConfig,
    ) -> None:
        self.tokeniser = tokeniser
        self._preset = preset
        self._lengths = lengths
        self._documents: dict[str, Mapping[str, Document]] = {
            each.name: each.documents for each in sets
        }
        self._prompts: dict[tuple[str, str, bool], PromptTokens] = {}
        self._document_rows: dict[tuple[str, str], PromptTokens] = {}
        self._thoughts: dict[str, Int[np.ndarray, " L"]] = {}

    def prompt(self, draw: Draw, *, think: bool) -> PromptTokens:
        """The query's prompt, which ends where a thought begins."""
        key = (draw.set_name, draw.record.query_id, think)
        if key not in self._prompts:
            preset, task = self._preset, draw.set_name
            if draw.record.instruction is not None:
                preset, task = preset.with_instruction(draw.record.instruction), None
            self._prompts[key] = encode_queries(
                self.tokeniser,
                preset,
                [draw.record.query],
                max_tokens=self._lengths.query,
                task=task,
                think=think,
                items=[f"query {draw.record.query_id!r} of {draw.set_name}"],
            )[0]
        return self._prompts[key]

    def thought(self, text: str) -> Int[np.ndarray, " L"]:
        """The tokens of a thought that is given; a long one loses its end."""
        if text not in self._thoughts:
            ids = self.tokeniser.encode_thought(text)
            self._thoughts[text] = ids[: self._lengths.thought]
        return self._thoughts[text]

    def document(self, key: tuple[str, str], vector: int) -> Row:
        """A document (set name, id), whose `<emb_token>` gives the vector of this number."""
        if key not in self._document_rows:
            document = self._documents[key[0]][key[1]]
            self._document_rows[key] = encode_documents(
                self.tokeniser,
                self._preset,
                [document.full_text],
                max_tokens=self._lengths.document,
                items=[f"document {key[1]!r} of {key[0]}"],
            )[0]
        ids = self._document_rows[key].ids
        return Row(tokens=ids, emb_at=[len(ids) - 1], vectors=[vector])

    def query(
        self,
        draw: Draw,
        vector: int | None,
        *,
        think: bool,
        weight: float,
        emb_token_learns: bool = True,
    ) -> Row:
        """A query with the thought drawn for it, if any.

        Args:
            draw: the record and its thought. Where it has none there is nothing to imitate: else
                the model would learn to end its thought before it began.
            vector: number of the vector read at `<emb_token>`; None reads none.
            think: whether the thought stands between prompt and `<emb_token>`.
            weight: of each imitated token in the step's loss, denominators included; 0 imitates
                nothing.
            emb_token_learns: whether `<emb_token>` is imitated, too.
        """
        prompt = self.prompt(draw, think=think)
        thought, learns = np.zeros(0, np.int32), False
        if think and draw.thought is not None:
            thought, learns = self.thought(draw.thought), weight > 0
        ids = self.tokeniser.close(prompt, thought).ids
        first = len(prompt.ids)
        last = len(ids) - (not emb_token_learns)
        targets = ids[first:last] if learns else ids[:0]
        return Row(
            tokens=ids,
            read_at=np.arange(first - 1, first - 1 + len(targets), dtype=np.int32),
            targets=targets,
            sequence=np.zeros(len(targets), np.int32),
            columns={"sft_weight": np.full(len(targets), weight, np.float32)}
            if len(targets)
            else {},
            emb_at=[] if vector is None else [len(ids) - 1],
            vectors=[] if vector is None else [vector],
        )


def actions_of(thought: Thought) -> int:
    """Tokens of a thought that the policy chose: an `<emb_token>` that was appended is none."""
    return len(thought.token_ids) - 1 if thought.forced else len(thought.token_ids)


def group_row(
    prompt: Int[np.ndarray, " L"],
    thoughts: Sequence[Thought],
    advantages: Float[np.ndarray, " G"],
    weights: Float[np.ndarray, " G"],
    vectors: Sequence[int],
) -> Row:
    """A prompt and all thoughts of its group in one row, the prompt read once for all of them.

    Args:
        prompt: its tokens, the row's segment 0.
        thoughts: as drawn, segments 1 to G.
        advantages: of each thought.
        weights: of each action token of a thought in the step's loss; 0 leaves the thought out of
            it, but not out of the vectors.
        vectors: numbers of the vectors read at the thoughts' `<emb_token>`s.
    """
    tokens, positions, segments = [prompt], [np.arange(len(prompt))], [np.zeros(len(prompt))]
    read_at, emb_at, lengths = [], [], []
    end = len(prompt)
    for number, thought in enumerate(thoughts):
        ids = np.asarray(thought.token_ids, np.int32)
        actions = actions_of(thought)
        tokens.append(ids)
        positions.append(len(prompt) + np.arange(len(ids)))
        segments.append(np.full(len(ids), number + 1))
        # A thought's first token follows the prompt, wherever in the row the thought stands.
        read_at.append(np.concatenate([[len(prompt) - 1], end + np.arange(actions - 1)])[:actions])
        emb_at.append(end + len(ids) - 1)
        lengths.append(actions)
        end += len(ids)
    return Row(
        tokens=np.concatenate(tokens).astype(np.int32),
        positions=np.concatenate(positions).astype(np.int32),
        segments=np.concatenate(segments).astype(np.int32),
        read_at=np.concatenate(read_at).astype(np.int32),
        targets=np.concatenate(
            [thought.token_ids[:count] for thought, count in zip(thoughts, lengths, strict=True)]
        ).astype(np.int32),
        sequence=np.repeat(np.arange(len(thoughts), dtype=np.int32), lengths),
        columns={
            "policy_weight": np.repeat(weights, lengths).astype(np.float32),
            "advantage": np.repeat(advantages, lengths).astype(np.float32),
            "sampler": np.concatenate(
                [thought.log_probs[:n] for thought, n in zip(thoughts, lengths, strict=True)]
            ).astype(np.float32),
        },
        emb_at=emb_at,
        vectors=vectors,
    )


def thought_rows(
    prompt: Int[np.ndarray, " L"],
    thoughts: Sequence[Thought],
    advantages: Float[np.ndarray, " G"],
    weights: Float[np.ndarray, " G"],
    vectors: Sequence[int],
) -> list[Row]:
    """The same as `group_row` with a row, and the prompt once more, for each thought."""
    rows = []
    for number, thought in enumerate(thoughts):
        row = group_row(
            prompt,
            [thought],
            advantages[number : number + 1],
            weights[number : number + 1],
            vectors[number : number + 1],
        )
        rows.append(replace(row, positions=None, segments=None))
    return rows
