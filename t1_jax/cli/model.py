"""Settings that commands check before a model is loaded, and fingerprints of its embeddings."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.cli.output import Output
    from t1_jax.evaluate import ModelFacts
    from t1_jax.retrieval import Fingerprint
    from t1_jax.retriever import T1, RetrieverOptions


def retriever_options(
    max_query_tokens: int | None, max_document_tokens: int | None
) -> "RetrieverOptions":
    """Options with other lengths than the defaults, and batch shapes that can hold them.

    Raises:
        ConfigError: a length below 1.
    """
    from t1_jax.generate import BatchShapes
    from t1_jax.retriever import RetrieverOptions
    from t1_jax.text import BucketConfig

    options = RetrieverOptions()
    if max_query_tokens is not None:
        options = dataclasses.replace(options, max_query_tokens=max_query_tokens)
    if max_document_tokens is not None:
        options = dataclasses.replace(options, max_document_tokens=max_document_tokens)
    longest = max(options.max_query_tokens, options.max_document_tokens)

    def extended(sizes: tuple[int, ...]) -> tuple[int, ...]:
        while sizes[-1] < longest:
            sizes = (*sizes, 2 * sizes[-1])
        return sizes

    lengths = extended(BucketConfig().lengths)
    return dataclasses.replace(
        options,
        shapes=BatchShapes(prefix_sizes=extended(BatchShapes().prefix_sizes)),
        buckets=BucketConfig(
            lengths=lengths, max_batch_tokens=max(lengths[-1], BucketConfig().max_batch_tokens)
        ),
    )


def query_fingerprint(model: "T1", data_hash: str, settings: Mapping[str, Any]) -> "Fingerprint":
    """Fingerprint of query embeddings; it never equals one of documents."""
    from t1_jax.retrieval import Fingerprint
    from t1_jax.retriever import digest

    prompt = digest("query", model.preset.hash, dict(settings))
    return Fingerprint(encoder=model.fingerprint, prompt=prompt, data=data_hash)


def model_facts(model: "T1", name: str) -> "ModelFacts":
    """The model as the table, the report and results.json describe it."""
    from t1_jax.evaluate import ModelFacts

    return ModelFacts(
        name=name,
        encoder=model.fingerprint,
        prompt=model.preset.hash,
        is_trained=model.provenance is None or not model.provenance.is_untrained,
        details={
            "dtype": model.decoder.options.dtype,
            "prompts": f"{model.preset.name}, version {model.preset.version}",
            "retrieval training": _training(model),
            "devices": device_summary(model),
            "longest query": f"{model.options.max_query_tokens} tokens",
            "longest document": f"{model.options.max_document_tokens} tokens",
        },
    )


def _training(model: "T1") -> str:
    trained_on = None if model.provenance is None else model.provenance.trained_on
    if trained_on is None:
        return "unknown"
    return ", ".join(trained_on) or "none"


def device_summary(model: "T1") -> str:
    """The devices of the model, for example `8 x gpu: NVIDIA H200`."""
    devices = model.mesh_context.mesh.devices.flatten().tolist()
    return f"{len(devices)} x {devices[0].platform}: {devices[0].device_kind}"


def log_cached_thoughts(out: "Output", model: "T1") -> None:
    """Says how many thoughts were read from the cache instead of sampled."""
    cache = model.thought_cache
    if cache is not None and cache.hits:
        out.log(
            f"{cache.hits:,} of {counted(cache.hits + cache.misses, 'thoughts')} were read from "
            f"{cache.path} (--no-thought-cache samples them again)"
        )
