"""The real base model, where `t1 pull` or the quick start has fetched it; skipped elsewhere."""

import pytest

from t1_jax.errors import WeightsError
from t1_jax.hub import Checkpoint, add_emb_token, locate_model, open_checkpoint
from t1_jax.hub.load import check_tensors


@pytest.fixture(scope="module")
def smollm2() -> Checkpoint:
    try:
        return open_checkpoint(locate_model("smollm2-135m-instruct"))
    except WeightsError as error:
        pytest.skip(f"the real weights are not here: {error.message}")


def test_its_shape_is_as_published_and_its_tensors_are_all_there(smollm2: Checkpoint) -> None:
    config = smollm2.config
    assert (config.num_layers, config.embed_dim, config.mlp_dim) == (30, 576, 1536)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (9, 3, 64)
    assert (config.vocab_size, config.max_positions, config.rope.theta) == (49_152, 8_192, 1e5)
    assert config.tie_embeddings
    check_tensors(smollm2.source, config)
    names = smollm2.source.names()
    assert sum(smollm2.source.read(name).size for name in names) == 134_515_008


def test_its_tokenizer_cuts_every_digit(smollm2: Checkpoint) -> None:
    tokenizer = smollm2.tokenizer
    encoded = tokenizer.backend.encode("<|im_start|>user\nIt is 1984 indeed.<|im_end|>")
    assert encoded.tokens == [
        *("<|im_start|>", "user", "Ċ", "It", "Ġis", "Ġ", "1", "9", "8", "4"),
        *("Ġindeed", ".", "<|im_end|>"),
    ]
    assert tokenizer.eos_ids == (2,)
    assert tokenizer.assigned(49_152).all()
    assert tokenizer.chat_template is not None


def test_its_spare_token_becomes_the_emb_token(smollm2: Checkpoint) -> None:
    tokenizer, emb = add_emb_token(smollm2.tokenizer, smollm2.config.vocab_size)
    assert (emb.id, emb.mode, emb.vocab_size) == (16, "spare", 49_152)
    assert tokenizer.backend.token_to_id("<empty_output>") is None
