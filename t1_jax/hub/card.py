"""The model card that goes with an exported checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from t1_jax.hub.metadata import AdapterMetadata, T1Metadata
from t1_jax.model import DecoderConfig, LoraConfig

_TEMPLATE = Path(__file__).with_name("card.md.jinja")
_ADAPTER_TEMPLATE = Path(__file__).with_name("adapter_card.md.jinja")


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a model card says that the checkpoint itself does not.

    Attributes:
        name: of the model.
        licence: identifier of the weights' licence, for example `apache-2.0`; `other` if unknown.
        training: how it was trained, in a sentence or a few; Markdown.
        results: measured results, as a Markdown table; empty if there are none.
    """

    name: str
    licence: str = "other"
    training: str = "The weights are those of the base model: not yet trained to retrieve."
    results: str = ""


def render_card(facts: CardFacts, config: DecoderConfig, metadata: T1Metadata) -> str:
    """Markdown with the YAML head that model hubs read."""
    return _rendered(_TEMPLATE, facts=facts, config=config, t1=metadata)


def render_adapter_card(
    facts: CardFacts,
    config: DecoderConfig,
    metadata: AdapterMetadata,
    lora: LoraConfig,
    *,
    dtype: str,
    base_name: str,
) -> str:
    """The same for an adapter; `base_name` is what transformers finds the base model by."""
    return _rendered(
        _ADAPTER_TEMPLATE,
        facts=facts,
        config=config,
        t1=metadata,
        lora=lora,
        dtype=dtype,
        base_name=base_name,
    )


def _rendered(template: Path, **values: object) -> str:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["quoted"] = json.dumps  # a JSON string is a YAML string
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)
