"""The model card: complete, valid, and plain about the query side."""

from dataclasses import replace

import yaml

from t1_jax.hub.card import ModelCardData, inherited_card, render_card
from t1_jax.hub.metadata import AdapterMetadata, T1Metadata

METADATA = T1Metadata(
    emb_token_id=16,
    emb_token_mode="spare",
    stored_dtype="bfloat16",
    prompt={"name": "t1", "version": "1", "hash": "abc123"},
    base_model='odd: "name"',
    base_fingerprint="def456",
)


def card(tiny_config, **facts: str) -> str:
    return render_card(ModelCardData(name="Tiny T1", **facts), tiny_config(), METADATA)


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


def test_on_the_hub_it_says_how_to_fetch_it_and_where_its_base_is(tiny_config) -> None:
    text = card(tiny_config, hub_id="me/my-t1")
    assert 'T1.load("me/my-t1")' in text
    assert "t1 pull me/my-t1 --source hub" in text
    assert "path/to" not in text
    assert "--source hub" not in card(tiny_config)
    metadata = replace(METADATA, base_model="smollm2-135m-instruct")
    text = render_card(ModelCardData(name="x"), tiny_config(), metadata)
    assert 'base_model: "HuggingFaceTB/SmolLM2-135M-Instruct"' in text


def test_a_card_is_inherited_from_what_is_exported_again() -> None:
    facts = ModelCardData(name="x", license="mit", training="Trained on pets.", results="|a|")
    stored = replace(METADATA, card=facts.stored)
    assert ModelCardData(name="x", **inherited_card(stored, "apache-2.0")) == facts
    base = ModelCardData(name="x", **inherited_card(None, "apache-2.0"))
    assert base.license == "apache-2.0"
    assert "without retrieval training" in base.training
    # Checkpoints and adapters that were written before t1.json had a card.
    unknown = ModelCardData(name="x", **inherited_card(METADATA, None))
    assert "does not say how" in unknown.training
    scores = {"validation/pets/ndcg@10": 0.5, "validation/ndcg@10": 0.5, "validation/length": 3}
    adapter = AdapterMetadata(
        emb_token_id=1, emb_token_mode="spare", tokenizer="t", prompt={}, base_model="b",
        base_fingerprint="f", scores=scores,
    )  # fmt: skip
    assert inherited_card(adapter, None)["results"].endswith("|-|-|\n| pets | 0.5000 |")
