"""Where a retriever's weights came from: what saving and fingerprints need to know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from t1_jax.errors import WeightsError
from t1_jax.hub import ModelTokenizer


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The checkpoint behind a model.

    Attributes:
        name: of the base model, for the model card.
        location: path or known name that the checkpoint was loaded from; an adapter names it.
        fingerprint: hex SHA-256 of the checkpoint's files.
        tokenizer: with `<emb_token>`, and with all that the checkpoint says of special tokens.
        emb_token_mode: how `<emb_token>` got its row.
        stored_dtype: of the checkpoint's tensors.
        other_fields: of its `config.json`, without influence on the decoder; saving keeps them.
    """

    name: str
    location: str
    fingerprint: str
    tokenizer: ModelTokenizer
    emb_token_mode: str
    stored_dtype: str
    other_fields: Mapping[str, Any] = field(default_factory=dict)


def require_provenance(provenance: Provenance | None) -> Provenance:
    """The origin, where there is one.

    Raises:
        WeightsError: the model was put together by hand.
    """
    if provenance is None:
        raise WeightsError(
            "this model was put together by hand, so nothing is known of its checkpoint",
            hint="load it with T1.load, or give T1 an Origin",
        )
    return provenance
