"""Instruction sets: how published harnesses word the instruction of each task, byte for byte.

A prompt preset has the chat template and T1's own instructions. An instruction set replaces the
instructions only: the template stays the one that the model was trained with.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from t1_jax.config import load_config, suggestion
from t1_jax.errors import ConfigError

_FOLDER = Path(__file__).with_suffix("")


@dataclass(frozen=True, kw_only=True, repr=False)
class InstructionSet:
    """The instructions of one harness.

    Attributes:
        name: name of the set.
        version: version, increased when a published set changes.
        query_prefix: what the harness writes before a query; contains `{instruction}` once.
        instructions: name of the task -> instruction, as the harness has it.
        strip_documents: whether the harness removes white space around documents, which changes
            the embeddings of models that pool at the last token.
    """

    name: str
    version: str
    query_prefix: str
    instructions: dict[str, str]
    strip_documents: bool = False

    def __post_init__(self) -> None:
        if self.query_prefix.count("{instruction}") != 1:
            raise ConfigError(
                f"query_prefix must contain {{instruction}} exactly once, got {self.query_prefix!r}"
            )

    def __repr__(self) -> str:
        return f"InstructionSet({self.name!r}, version {self.version}, hash {self.hash[:8]})"

    @property
    def hash(self) -> str:
        """Hex SHA-256 of all fields; independent of the file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def prefix(self, task: str) -> str:
        """What the harness writes before a query, byte for byte.

        Raises:
            ConfigError: there is no instruction for the task.
        """
        return self.query_prefix.replace("{instruction}", self._instruction(task))

    def in_prompt(self, task: str) -> str:
        """The instruction as a prompt preset takes it: without the punctuation at its end.

        The templates of presets end the sentence themselves.

        Raises:
            ConfigError: there is no instruction for the task.
        """
        return self._instruction(task).rstrip(" .:")

    def _instruction(self, task: str) -> str:
        if task not in self.instructions:
            raise ConfigError(
                f"the instructions {self.name!r} have none for the task {task!r}",
                hint="use the general instruction of the model's prompts: --instructions t1",
            )
        return self.instructions[task]


def instruction_set_names() -> list[str]:
    """Names of the sets in this package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_instructions(name_or_path: str | Path) -> InstructionSet:
    """A set of this package by name, or any set by the path of its YAML file.

    The key `extends` of a file names a set of this package, or another file.

    Raises:
        ConfigError: unknown name, or the file is not an instruction set.
    """
    shipped = {name: _FOLDER / f"{name}.yaml" for name in instruction_set_names()}
    if str(name_or_path) in shipped:
        return load_config(InstructionSet, shipped[str(name_or_path)])
    if Path(name_or_path).suffix in (".yaml", ".yml"):
        return load_config(InstructionSet, Path(name_or_path), shipped=shipped)
    raise ConfigError(
        f"unknown instructions {str(name_or_path)!r}; known are {', '.join(shipped)}",
        hint=f"{suggestion(str(name_or_path), shipped)} A path must end in .yaml.",
    )
