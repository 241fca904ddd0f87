"""Model cards of exported checkpoints and adapters."""

import json
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from t1_jax.hub.metadata import AdapterMetadata, T1Metadata
from t1_jax.model import DecoderConfig, LoraConfig

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


def render_card(facts: ModelCardData, config: DecoderConfig, metadata: T1Metadata) -> str:
    """The model card: Markdown with YAML metadata for model hubs."""
    return _render(_TEMPLATE, facts=facts, config=config, t1=metadata)


def render_adapter_card(
    facts: ModelCardData,
    config: DecoderConfig,
    metadata: AdapterMetadata,
    lora: LoraConfig,
    *,
    dtype: str,
    base_name: str,
) -> str:
    """The model card of an adapter; transformers loads the base model as `base_name`."""
    return _render(
        _ADAPTER_TEMPLATE,
        facts=facts,
        config=config,
        t1=metadata,
        lora=lora,
        dtype=dtype,
        base_name=base_name,
    )


def _render(template: Path, **values: object) -> str:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["quoted"] = json.dumps  # a JSON string is a YAML string
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)
