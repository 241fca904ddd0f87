"""Model cards of exported checkpoints and adapters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from t1_jax.hub.assets import MODELS
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
        training: description of the training and its data, in Markdown.
        results: measured results as a Markdown table; may be empty.
        hub_id: `owner/name` of the repository that the model is uploaded to, if any.
    """

    name: str
    license: str = "other"
    training: str = "The weights are those of the base model, without retrieval training."
    results: str = ""
    hub_id: str | None = None

    @property
    def stored(self) -> dict[str, str]:
        """The part that `t1.json` keeps, from which the card of a later export is made."""
        return {"license": self.license, "training": self.training, "results": self.results}


def inherited_card(
    metadata: T1Metadata | AdapterMetadata | None, base_license: str | None
) -> dict[str, str]:
    """License, training and results of a checkpoint or adapter, for the card of its export.

    A checkpoint without `t1.json` is a base model.
    """
    license_name = base_license or "other"
    if metadata is None:
        return {"license": license_name}
    if metadata.card:
        return dict(metadata.card)
    is_adapter = isinstance(metadata, AdapterMetadata)
    return {
        "license": license_name,
        "training": f"Trained from `{metadata.base_model}`; the checkpoint does not say how.",
        "results": validation_table(metadata.scores) if is_adapter else "",
    }


def validation_table(scores: Mapping[str, Any]) -> str:
    """nDCG@10 of each validation set as a Markdown table; empty without scores."""
    rows = [
        f"| {name.removeprefix('validation/').removesuffix('/ndcg@10')} | {value:.4f} |"
        for name, value in scores.items()
        if name.endswith("/ndcg@10") and name.count("/") > 1
    ]
    if not rows:
        return ""
    head = ["nDCG@10 on validation queries, measured during training:", ""]
    return "\n".join([*head, "| collection | nDCG@10 |", "|-|-|", *rows])


def render_card(
    facts: ModelCardData,
    config: DecoderConfig,
    metadata: T1Metadata | AdapterMetadata,
    **adapter: object,
) -> str:
    """The card of a model or an adapter: Markdown with YAML metadata for model hubs.

    That of an adapter needs `lora` and `dtype`.
    """
    asset = MODELS.get(metadata.base_model)
    template = _ADAPTER_TEMPLATE if adapter else _TEMPLATE
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["quoted"] = json.dumps  # a JSON string is a YAML string
    parsed = environment.from_string(template.read_text(encoding="utf-8"))
    return parsed.render(
        facts=facts,
        config=config,
        t1=metadata,
        base_name=asset.hub_repo if asset else metadata.base_model,
        place=facts.hub_id or "path/to/this/folder",
        **adapter,
    )
