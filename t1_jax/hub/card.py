"""Model cards of exported checkpoints and adapters."""

import json
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from t1_jax.hub.metadata import AdapterMetadata, T1Metadata
from t1_jax.model import DecoderConfig

_TEMPLATE = Path(__file__).with_name("card.md.jinja")
_ADAPTER_TEMPLATE = Path(__file__).with_name("adapter_card.md.jinja")


@dataclass(frozen=True, kw_only=True)
class ModelCardData:
    """Content of a model card that is not part of the checkpoint.

    Attributes:
        name: name of the model.
        license: identifier of the weights' license, such as `apache-2.0`; `other` if unknown.
        training: description of the training, in Markdown.
        results: measured results as a Markdown table; may be empty.
    """

    name: str
    license: str = "other"
    training: str = "The weights are those of the base model, without retrieval training."
    results: str = ""


def render_card(
    facts: ModelCardData,
    config: DecoderConfig,
    metadata: T1Metadata | AdapterMetadata,
    **adapter: object,
) -> str:
    """The card of a model or an adapter: Markdown with YAML metadata for model hubs.

    That of an adapter needs `lora`, `dtype` and `base_name`, the name of the base model for
    transformers.
    """
    template = _ADAPTER_TEMPLATE if adapter else _TEMPLATE
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["quoted"] = json.dumps  # a JSON string is a YAML string
    parsed = environment.from_string(template.read_text(encoding="utf-8"))
    return parsed.render(facts=facts, config=config, t1=metadata, **adapter)
