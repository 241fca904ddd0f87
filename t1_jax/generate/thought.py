"""What the sampler gives back: one trajectory, its probabilities, its vector, how it ended."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float, Int


class FinishReason(StrEnum):
    """Why a thought stopped."""

    EMB_TOKEN = "emb_token"
    """The model drew `<emb_token>` itself."""
    EOS = "eos"
    """The model drew an end of text; `<emb_token>` was appended."""
    LENGTH = "length"
    """The budget was spent; `<emb_token>` was appended."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Thought:
    """One sampled trajectory.

    Attributes:
        token_ids: the reasoning and, last, `<emb_token>`; without the prompt.
        log_probs: of each token in nats, at the sampling temperature, before filters.
        log_probs_at_1: the same at temperature 1.
        vector: unit vector [D], the final hidden state at `<emb_token>`.
        finish_reason: why it stopped.
        sample: its number among the thoughts of the query.
        text: the reasoning as text, `<emb_token>` and end of text left out.
    """

    token_ids: Int[np.ndarray, " L"]
    log_probs: Float[np.ndarray, " L"]
    log_probs_at_1: Float[np.ndarray, " L"]
    vector: Float[np.ndarray, " D"]
    finish_reason: FinishReason
    sample: int
    text: str = ""

    @property
    def emb_token_appended(self) -> bool:
        """Whether `<emb_token>` was appended rather than drawn."""
        return self.finish_reason is not FinishReason.EMB_TOKEN

    @property
    def reasoning_tokens(self) -> int:
        """Tokens before `<emb_token>`."""
        return len(self.token_ids) - 1
