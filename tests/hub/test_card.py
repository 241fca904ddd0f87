"""The model card: complete, valid, and plain about the query side."""

import yaml

from t1_jax.hub.card import ModelCardData, render_card
from t1_jax.hub.metadata import T1Metadata


def card(tiny_config, **facts: str) -> str:
    metadata = T1Metadata(
        emb_token_id=16,
        emb_token_mode="spare",
        stored_dtype="bfloat16",
        prompt={"name": "t1", "version": "1", "hash": "abc123"},
        base_model='odd: "name"',
        base_fingerprint="def456",
    )
    return render_card(ModelCardData(name="Tiny T1", **facts), tiny_config(), metadata)


def test_the_head_is_yaml_whatever_the_names(tiny_config) -> None:
    _, head, body = card(tiny_config, license="apache-2.0").split("---\n", 2)
    fields = yaml.safe_load(head)
    assert fields["base_model"] == 'odd: "name"'
    assert fields["license"] == "apache-2.0"
    assert body.startswith("\n# Tiny T1\n")


def test_it_says_that_queries_must_think(tiny_config) -> None:
    text = card(tiny_config)
    assert "The query side must think." in text
    assert "raise an error on purpose" in text
    assert "without retrieval training" in text


def test_facts_of_the_checkpoint_are_in_it(tiny_config) -> None:
    text = card(tiny_config)
    for fact in ("def456", "abc123", "37 rows", "`<emb_token>` is 16", "512 tokens", "bfloat16"):
        assert fact in text


def test_results_have_a_section_only_if_there_are_any(tiny_config) -> None:
    assert "## Results" not in card(tiny_config)
    assert "## Results\n\n|a|b|" in card(tiny_config, results="|a|b|")
