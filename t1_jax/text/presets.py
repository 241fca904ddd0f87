"""Prompt presets: the exact words around a query or a document, named, versioned and hashed."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from t1_jax.config import load_config, suggestion
from t1_jax.errors import ConfigError

_FOLDER = Path(__file__).with_suffix("")


@dataclass(frozen=True, kw_only=True)
class PromptPreset:
    """How queries and documents are put to the model.

    A template holds the chat format's special tokens literally, `{text}` once, and `{instruction}`
    where the task's instruction goes. It ends where the assistant's turn begins: what follows
    (thought, `<emb_token>`) is appended as tokens, after cutting.

    Attributes:
        name: what users call it.
        version: raised whenever a published preset changes.
        query_template: asks for a thought, then the embedding.
        query_nothink_template: the same without the request to reason.
        document_template: asks for the embedding of a document.
        default_instruction: for collections that `instructions` does not name.
        instructions: by name of the collection or task; no full stop at the end.
    """

    name: str
    version: str
    query_template: str
    query_nothink_template: str
    document_template: str
    default_instruction: str
    instructions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("query_template", "query_nothink_template", "document_template"):
            template: str = getattr(self, key)
            if template.count("{text}") != 1:
                raise ConfigError(f"{key} must hold {{text}} exactly once, got {template!r}")

    @property
    def hash(self) -> str:
        """Hex SHA-256 over every field; equal for equal content, whatever file it came from."""
        content = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def uses_instruction(self) -> bool:
        """Whether a query's prompt says what is asked for; compact prompts leave it out."""
        return "{instruction}" in self.query_template

    def instruction(self, task: str | None = None) -> str:
        """The instruction for a collection or task; the default where the preset has none."""
        if task is None:
            return self.default_instruction
        return self.instructions.get(task, self.default_instruction)

    def with_instruction(self, instruction: str) -> "PromptPreset":
        """The same words around another default instruction."""
        return replace(self, default_instruction=instruction)


def preset_names() -> list[str]:
    """The presets that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_preset(name_or_path: str | Path) -> PromptPreset:
    """A preset of this package by name, or a user's own by the path of its YAML file.

    Raises:
        ConfigError: an unknown name, or a file that is no preset.
    """
    if str(name_or_path) in preset_names():
        return load_config(PromptPreset, _FOLDER / f"{name_or_path}.yaml")
    if Path(name_or_path).suffix in (".yaml", ".yml"):
        return load_config(PromptPreset, Path(name_or_path))
    raise ConfigError(
        f"unknown prompt preset {str(name_or_path)!r}; known are {', '.join(preset_names())}",
        hint=f"{suggestion(str(name_or_path), preset_names())} A file of your own ends in .yaml.",
    )
