"""What tests of the retriever share besides fixtures."""

from typing import Any

from t1_jax.retriever import T1, Provenance


class Killed(BaseException):
    """Ends a run as a signal would: nothing after it is executed."""


def with_provenance(model: T1, provenance: Provenance, **fields: Any) -> T1:
    """A retriever with the same parts that knows where its weights came from."""
    return T1(
        model.decoder,
        model.tokenizer,
        model.preset,
        model.mesh_context,
        options=model.options,
        provenance=provenance,
        **fields,
    )
