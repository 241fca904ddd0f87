"""A toy world: documents and queries are bags of letters, so every score can be worked by hand."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from t1_jax.generate import Choices, FinishReason, SamplingParams, Thought

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(text: str) -> np.ndarray:
    """Unit vector of letter counts; the last dimension keeps texts without letters from zero."""
    counts = [text.lower().count(letter) for letter in LETTERS] + [0.01]
    vector = np.array(counts, np.float32)
    return vector / np.linalg.norm(vector)


@dataclasses.dataclass
class LetterModel:
    """Embeds by letters; its thought about a query is what `thoughts` says, else nothing."""

    thoughts: dict[str, str] = dataclasses.field(default_factory=dict)
    ends: dict[str, FinishReason] = dataclasses.field(default_factory=dict)
    calls: list[dict[str, object]] = dataclasses.field(default_factory=list)

    def encode_document(
        self,
        texts: Sequence[str],
        *,
        document_ids: Sequence[str] | None = None,
        show_progress_bar: bool = False,
    ) -> Float[np.ndarray, "C D"]:
        self.calls.append({"documents": list(texts), "ids": list(document_ids or [])})
        return np.stack([letters(text) for text in texts])

    def count_truncated(self, documents: Sequence[str]) -> int:
        return sum(len(text) > 40 for text in documents)

    def known_task(self, task: str | None) -> str | None:
        return task

    def encode_query(
        self,
        texts: Sequence[str],
        *,
        n: int = 1,
        max_thought_tokens: int | None = None,
        return_thoughts: Literal[True],
        think: bool = True,
        thoughts: Sequence[str] | None = None,
        candidates: Sequence[Sequence[str]] | None = None,
        choices: Choices | None = None,
        task: str | None = None,
        instruction: str | None = None,
        query_ids: Sequence[str] | None = None,
        sampling: SamplingParams | None = None,
        show_progress_bar: bool = False,
    ) -> tuple[Float[np.ndarray, "B D"], list[list[Thought]]]:
        call: dict[str, object] = {"think": think, "thoughts": thoughts, "task": task}
        call |= {"max_thought_tokens": max_thought_tokens, "n": n}
        if candidates is not None:
            call["candidates"] = [list(titles) for titles in candidates]
        if choices is not None:
            call["choices"] = choices
        if instruction is not None:
            call["instruction"] = instruction
        self.calls.append(call)
        if not think:
            return np.stack([letters(text) for text in texts]), [[] for _ in texts]
        if thoughts is not None:
            pairs = zip(texts, thoughts, strict=True)
            return np.stack([letters(text + " " + thought) for text, thought in pairs]), [
                [] for _ in texts
            ]
        drawn = [[self._thought(text, sample) for sample in range(n)] for text in texts]
        means = np.stack([np.mean([t.embedding for t in of_query], axis=0) for of_query in drawn])
        return means / np.linalg.norm(means, axis=1, keepdims=True), drawn

    def _thought(self, text: str, sample: int) -> Thought:
        written = self.thoughts.get(text, "") + "!" * sample
        tokens = len(written.split())
        return Thought(
            token_ids=np.zeros(tokens + 1, np.int32),
            log_probs=np.full(tokens + 1, -0.5, np.float32),
            log_probs_at_1=np.full(tokens + 1, -0.25, np.float32),
            embedding=letters(text + " " + written),
            finish_reason=self.ends.get(text, FinishReason.EMB_TOKEN),
            sample=sample,
            text=written,
        )
