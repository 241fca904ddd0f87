"""A sampled thought: tokens, log-probabilities, embedding, and why it ended."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float, Int

from t1_jax.notebook import card
from t1_jax.progress import counted, shorten, visible


class FinishReason(StrEnum):
    """Why a thought ended."""

    EMB_TOKEN = "emb_token"
    """The model sampled `<emb_token>`."""
    EOS = "eos"
    """The model sampled an end of text; `<emb_token>` was appended."""
    LENGTH = "length"
    """`max_thought_tokens` tokens were sampled; `<emb_token>` was appended."""
    SETTLED = "settled"
    """The embedding no longer changed (`think: auto` of a server); `<emb_token>` was appended."""
    DEADLINE = "deadline"
    """The time of a request was over; `<emb_token>` was appended."""

    @classmethod
    def of(
        cls, tokens: Sequence[int], eos: Collection[int], max_thought_tokens: int
    ) -> "FinishReason":
        """Why the sampler ended a thought of these tokens, the last of which is `<emb_token>`."""
        if len(tokens) > 1 and tokens[-2] in eos:
            return cls.EOS
        return cls.LENGTH if len(tokens) == max_thought_tokens + 1 else cls.EMB_TOKEN


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Thought:
    """One sampled continuation of a prompt.

    Attributes:
        token_ids: the reasoning, then `<emb_token>`; without the prompt.
        log_probs: of each token in nats, at the sampling temperature, before filters.
        log_probs_at_1: of each token in nats, at temperature 1.
        embedding: unit vector in float32, from the final hidden state at `<emb_token>`.
        finish_reason: why it ended.
        sample: its number among the thoughts of the query.
        text: the reasoning as text, without `<emb_token>` and end of text.
    """

    token_ids: Int[np.ndarray, " L"]
    log_probs: Float[np.ndarray, " L"]
    log_probs_at_1: Float[np.ndarray, " L"]
    embedding: Float[np.ndarray, " D"]
    finish_reason: FinishReason
    sample: int
    text: str = ""

    @property
    def emb_token_appended(self) -> bool:
        """Whether `<emb_token>` was appended instead of sampled."""
        return self.finish_reason is not FinishReason.EMB_TOKEN

    @property
    def reasoning_tokens(self) -> int:
        """Number of tokens before `<emb_token>`."""
        return len(self.token_ids) - 1

    def __repr__(self) -> str:
        return f"Thought({shorten(visible(self.text), 60)!r}, {self._facts})"

    def _repr_html_(self) -> str:
        return card(f"Thought {self.sample + 1}", visible(self.text.strip()), self._facts)

    @property
    def _facts(self) -> str:
        return f"{counted(self.reasoning_tokens, 'tokens')}, {self.finish_reason.value}"
