"""Texts and thoughts to rows: what is read, what is imitated or rewarded, where vectors stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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
from t1_jax.train.batch import Row
from t1_jax.train.data import Example, TrainingSet
from t1_jax.train.data_config import LengthConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Branch:
    """A thought as it follows its prompt, alone or one of several.

    Attributes:
        tokens: of the thought, `<emb_token>` last.
        actions: how many of them, from the first, a loss reads.
        columns: some of the columns of an action token, a value for each.
        vector: number of the vector read at `<emb_token>`; None reads none.
    """

    tokens: Int[np.ndarray, " L"]
    actions: int = 0
    columns: Mapping[str, Float[np.ndarray, " A"]] = field(default_factory=dict)
    vector: int | None = None


class RowMaker:
    """Tokenizes queries, thoughts and documents once, and lays rows out."""

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
        self._documents: dict[str, Mapping[str, Document]] = {
            each.name: each.documents for each in sets
        }
        self._prompts: dict[tuple[str, str, bool], PromptTokens] = {}
        self._document_rows: dict[tuple[str, str], PromptTokens] = {}
        self._thoughts: dict[str, tuple[Int[np.ndarray, " L"], bool]] = {}

    def prompt(self, example: Example, *, think: bool) -> PromptTokens:
        """The query's prompt, which ends where a thought begins."""
        key = (example.set_name, example.record.query_id, think)
        if key not in self._prompts:
            preset, task = self._preset, example.task
            if example.record.instruction is not None:
                preset, task = preset.with_instruction(example.record.instruction), None
            self._prompts[key] = tokenize_queries(
                self.tokenizer,
                preset,
                [example.record.query],
                max_tokens=self._lengths.query,
                task=task,
                think=think,
                names=[f"query {example.record.query_id!r} of {example.set_name}"],
            )[0]
        return self._prompts[key]

    def thought(self, text: str) -> tuple[Int[np.ndarray, " L"], bool]:
        """The tokens of a thought that is given, and whether it was truncated at the limit."""
        if text not in self._thoughts:
            ids, most = self.tokenizer.encode_thought(text), self._lengths.thought
            self._thoughts[text] = ids[:most], len(ids) > most
        return self._thoughts[text]

    def count_truncated(self, examples: Sequence[Example]) -> int:
        """How many of the thoughts that are given were truncated."""
        given = [example.thought for example in examples if example.thought is not None]
        return sum(self.thought(text)[1] for text in given)

    def _imitated(self, text: str, emb_token_learns: bool) -> int:
        """Tokens of a given thought that are imitated, with `<emb_token>`.

        After a truncated thought it is not: the model would learn to stop in mid-sentence.
        """
        ids, truncated = self.thought(text)
        return len(ids) + (emb_token_learns and not truncated)

    def given_branch(
        self,
        example: Example,
        vector: int | None,
        *,
        weight: float,
        emb_token_learns: bool = True,
    ) -> Branch | None:
        """The thought that a query is given, beside others; None where it has none.

        Args:
            example: the record and its thought.
            vector: number of the vector read at `<emb_token>`; None reads none.
            weight: of each imitated token in the step's loss; 0 imitates nothing.
            emb_token_learns: whether `<emb_token>` is imitated, too, after a thought that is whole.
        """
        if example.thought is None:
            return None
        thought, _ = self.thought(example.thought)
        ids = np.append(thought, self.tokenizer.emb_token_id).astype(np.int32)
        if not weight:
            return Branch(tokens=ids, vector=vector)
        actions = self._imitated(example.thought, emb_token_learns)
        columns = {"sft_weight": np.full(actions, weight, np.float32)}
        return Branch(tokens=ids, actions=actions, columns=columns, vector=vector)

    def count_imitated(self, examples: Sequence[Example], *, emb_token_learns: bool = True) -> int:
        """Tokens that a step imitates: the denominator of its loss."""
        return sum(
            self._imitated(example.thought, emb_token_learns)
            for example in examples
            if example.thought is not None
        )

    def document(self, key: tuple[str, str], vector: int) -> Row:
        """A document (set name, id), whose `<emb_token>` gives the vector of this number."""
        if key not in self._document_rows:
            document = self._documents[key[0]][key[1]]
            self._document_rows[key] = tokenize_documents(
                self.tokenizer,
                self._preset,
                [document.full_text],
                max_tokens=self._lengths.document,
                names=[f"document {key[1]!r} of {key[0]}"],
            )[0]
        ids = self._document_rows[key].ids
        return Row(tokens=ids, emb_at=[len(ids) - 1], vectors=[vector])

    def query(
        self,
        example: Example,
        vector: int | None,
        *,
        think: bool,
        weight: float,
        emb_token_learns: bool = True,
    ) -> Row:
        """A query with the thought drawn for it, if any.

        Args:
            example: the record and its thought. Where it has none there is nothing to imitate: else
                the model would learn to end its thought before it began.
            vector: number of the vector read at `<emb_token>`; None reads none.
            think: whether the thought stands between prompt and `<emb_token>`.
            weight: of each imitated token in the step's loss, denominators included; 0 imitates
                nothing.
            emb_token_learns: whether `<emb_token>` is imitated, too, after a thought that is whole.
        """
        prompt = self.prompt(example, think=think)
        thought, imitated = np.zeros(0, np.int32), 0
        if think and example.thought is not None:
            thought, _ = self.thought(example.thought)
            imitated = self._imitated(example.thought, emb_token_learns) if weight else 0
        ids = self.tokenizer.append_emb_token(prompt, thought).ids
        first = len(prompt.ids)
        targets = ids[first : first + imitated]
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
    return len(thought.token_ids) - 1 if thought.emb_token_appended else len(thought.token_ids)


def sampled_continuations(thoughts: Sequence[Thought], vectors: Sequence[int]) -> list[Branch]:
    """Thoughts that are only read on the way to their vectors."""
    return [
        Branch(tokens=np.asarray(thought.token_ids, np.int32), vector=vector)
        for thought, vector in zip(thoughts, vectors, strict=True)
    ]


def rewarded_continuations(
    thoughts: Sequence[Thought],
    advantages: Float[np.ndarray, " G"],
    weights: Float[np.ndarray, " G"],
    vectors: Sequence[int],
) -> list[Branch]:
    """Thoughts that the policy loss makes more or less likely.

    Args:
        thoughts: as drawn.
        advantages: of each thought.
        weights: of each action token of a thought in the step's loss; 0 leaves the thought out of
            it, but not out of the vectors.
        vectors: numbers of the vectors read at the thoughts' `<emb_token>`s.
    """
    branches = []
    for number, branch in enumerate(sampled_continuations(thoughts, vectors)):
        actions = actions_of(thoughts[number])
        columns = {
            "policy_weight": np.full(actions, weights[number], np.float32),
            "advantage": np.full(actions, advantages[number], np.float32),
            "sampler": np.asarray(thoughts[number].log_probs[:actions], np.float32),
        }
        branches.append(replace(branch, actions=actions, columns=columns))
    return branches


def group_row(prompt: Int[np.ndarray, " L"], branches: Sequence[Branch]) -> Row:
    """A prompt and several thoughts in one row, the prompt read once for all of them.

    Args:
        prompt: its tokens, the row's segment 0.
        branches: segments 1 and up; those with a vector come first.
    """
    names = {name for branch in branches for name in branch.columns}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    tokens, positions, segments = [prompt], [np.arange(len(prompt))], [np.zeros(len(prompt))]
    read_at, targets, sequence, emb_at, vectors = [], [], [], [], []
    end = len(prompt)
    for number, branch in enumerate(branches):
        length, actions = len(branch.tokens), branch.actions
        tokens.append(branch.tokens)
        positions.append(len(prompt) + np.arange(length))
        segments.append(np.full(length, number + 1))
        # A thought's first token follows the prompt, wherever in the row the thought stands.
        read_at.append(np.concatenate([[len(prompt) - 1], end + np.arange(actions - 1)])[:actions])
        targets.append(branch.tokens[:actions])
        sequence.append(np.full(actions, 0 if branch.vector is None else number))
        for name, values in columns.items():
            values.append(branch.columns.get(name, np.zeros(actions)))
        if branch.vector is not None:
            emb_at.append(end + length - 1)
            vectors.append(branch.vector)
        end += length
    return Row(
        tokens=np.concatenate(tokens).astype(np.int32),
        positions=np.concatenate(positions).astype(np.int32),
        segments=np.concatenate(segments).astype(np.int32),
        read_at=np.concatenate(read_at).astype(np.int32),
        targets=np.concatenate(targets).astype(np.int32),
        sequence=np.concatenate(sequence).astype(np.int32),
        columns={n: np.concatenate(v).astype(np.float32) for n, v in columns.items()},
        emb_at=emb_at,
        vectors=vectors,
    )


def thought_rows(prompt: Int[np.ndarray, " L"], branches: Sequence[Branch]) -> list[Row]:
    """The same as `group_row` with a row, and the prompt once more, for each thought."""
    rows = [group_row(prompt, [branch]) for branch in branches]
    return [replace(row, positions=None, segments=None) for row in rows]
