from t1_jax.evaluate import Encoder, QueryEncoder
from t1_jax.retriever import T1
from tests.evaluate.toys import LetterModel


def _as_encoder(model: T1) -> Encoder:
    """The type checker refuses this line should T1 and the protocol drift apart."""
    return model


def test_t1_and_the_toy_have_what_an_evaluation_asks_for():
    for kind in (QueryEncoder, Encoder):
        assert isinstance(LetterModel(), kind)
        assert issubclass(T1, kind)
    assert not isinstance("a text", Encoder)
