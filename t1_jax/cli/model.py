"""What commands ask of a loaded model: checked settings, and the fingerprint its vectors carry."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t1_jax.errors import ConfigError

if TYPE_CHECKING:
    from t1_jax.evaluate import ModelFacts
    from t1_jax.retrieval import Fingerprint
    from t1_jax.retriever import T1, OpenedModel
    from t1_jax.text import PromptPreset


def check_task(preset: "PromptPreset", task: str | None, *, otherwise: str) -> None:
    """Refuses a task that the prompts have no instruction for, instead of ignoring it.

    Args:
        preset: the prompts.
        task: the task asked for, if any.
        otherwise: the hint's words for how to give an instruction of one's own.

    Raises:
        ConfigError: with the closest task there is.
    """
    from t1_jax.config import suggestion

    known = preset.instructions
    if task is not None and task not in known:
        raise ConfigError(
            f"the prompts {preset.name!r} have no instruction for the task {task!r}",
            hint=f"{suggestion(task, known)} (or {otherwise})",
        )


def query_instruction(
    preset: "PromptPreset",
    task: str | None,
    instruction: str | None,
    known_task: str | None = None,
    *,
    otherwise: str = "write one: --instruction TEXT",
) -> str:
    """The instruction that queries are put with.

    Args:
        preset: the prompts.
        task: the task asked for.
        instruction: the text asked for.
        known_task: of a collection that was named as `t1 pull` knows it; used where neither is
            given. The name of a folder or file never counts.
        otherwise: how the command takes an instruction, for the error about an unknown task.

    Raises:
        ConfigError: an unknown task, a task and an instruction, or prompts that use neither.
    """
    if task is not None and instruction is not None:
        raise ConfigError("give a task or an instruction, not both")
    if (task or instruction) is not None and not preset.uses_instruction:
        raise ConfigError(
            f"the prompts {preset.name!r} hold no instruction, so a task or an instruction would "
            "do nothing",
            hint="leave it out, or choose other prompts: --preset t1",
        )
    check_task(preset, task, otherwise=otherwise)
    return instruction if instruction is not None else preset.instruction(task or known_task)


def instruction_note(preset: "PromptPreset", instruction: str) -> str:
    """What a command prints about the instruction that queries are put with."""
    if not preset.uses_instruction:
        return f"the prompts {preset.name!r} put queries without an instruction"
    return f"instruction of queries: {instruction}"


def encoding_record(opened: "OpenedModel", model: str, instruction: str) -> dict[str, Any]:
    """How vectors are made, for the manifest of an index: `t1 search` reads it back."""
    return {
        "model": model,
        "dtype": opened.dtype,
        "preset": dataclasses.asdict(opened.preset),
        "instruction": instruction,
        "max_query_tokens": opened.options.max_query_tokens,
        "max_document_tokens": opened.options.max_document_tokens,
    }


def document_fingerprint(model: "T1 | OpenedModel", data_hash: str) -> "Fingerprint":
    """Of document vectors: encoder, document prompt, and the documents' own hash."""
    from t1_jax.retrieval import Fingerprint

    prompt = digest("document", model.preset.document_template)
    return Fingerprint(encoder=model.fingerprint, prompt=prompt, data=data_hash)


def query_fingerprint(model: "T1", data_hash: str, how: Mapping[str, Any]) -> "Fingerprint":
    """Of query vectors: no index of documents has it, because the prompt and `how` enter it."""
    from t1_jax.retrieval import Fingerprint

    prompt = digest("query", model.preset.hash, dict(how))
    return Fingerprint(encoder=model.fingerprint, prompt=prompt, data=data_hash)


def model_facts(model: "T1", name: str) -> "ModelFacts":
    """What a table, a report and results.json say about the model."""
    from t1_jax.evaluate import ModelFacts

    return ModelFacts(
        name=name,
        encoder=model.fingerprint,
        prompt=model.preset.hash,
        details={
            "dtype": model.decoder.options.dtype,
            "prompts": f"{model.preset.name}, version {model.preset.version}",
            "devices": devices_in_words(model),
            "longest query": f"{model.options.max_query_tokens} tokens",
            "longest document": f"{model.options.max_document_tokens} tokens",
        },
    )


def devices_in_words(model: "T1") -> str:
    """What the model computes on, for example `8 x gpu: NVIDIA H200`."""
    devices = model.mesh_context.mesh.devices.flatten().tolist()
    return f"{len(devices)} x {devices[0].platform}: {devices[0].device_kind}"


def is_base_model(name: str) -> bool:
    """Whether these weights are those of a base model: nobody has made a T1 of them."""
    from t1_jax.hub import MODELS, is_adapter, locate_model, open_checkpoint

    if is_adapter(Path(name)):
        return False
    return name in MODELS or open_checkpoint(locate_model(name)).metadata is None


def digest(*parts: object) -> str:
    """Hex SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
