"""What an index records about its embeddings: the settings of the encoding, and a fingerprint."""

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from t1_jax.retrieval import Fingerprint
from t1_jax.retriever.opening import OpenedModel

if TYPE_CHECKING:
    from t1_jax.retriever.t1 import T1


def encoding_record(opened: OpenedModel, model: str, instruction: str) -> dict[str, Any]:
    """The settings of an encoding run, for the manifest of an index; a search reads them."""
    return {
        "model": model,
        "dtype": opened.dtype,
        "preset": dataclasses.asdict(opened.preset),
        "instruction": instruction,
        "max_query_tokens": opened.options.max_query_tokens,
        "max_document_tokens": opened.options.max_document_tokens,
    }


def document_fingerprint(model: "T1 | OpenedModel", data_hash: str) -> Fingerprint:
    """Fingerprint of document embeddings: encoder, document prompt, hash of the documents."""
    prompt = digest("document", model.preset.document_template)
    return Fingerprint(encoder=model.fingerprint, prompt=prompt, data=data_hash)


def digest(*parts: object) -> str:
    """Hex SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
