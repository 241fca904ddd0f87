"""Prompt presets: templates of query and document prompts, with name, version and hash."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from t1_jax.config import load_config, suggestion
from t1_jax.errors import ConfigError

_FOLDER = Path(__file__).with_suffix("")


@dataclass(frozen=True, kw_only=True, repr=False)
class PromptPreset:
    """Templates of query and document prompts.

    A template contains the special tokens of the chat format, `{text}` exactly once, and optionally
    `{instruction}`. It ends where the assistant's turn begins; thought and `<emb_token>` are
    appended as tokens after truncation.

    Prompts with `query_candidates_template` are those of a model that thinks over candidates: an
    adapter or checkpoint that was trained so has them.

    Attributes:
        name: name of the preset.
        version: version, increased when a published preset changes.
        query_template: template of a query prompt that asks for a thought and the embedding.
        query_nothink_template: template of a query prompt without a thought.
        document_template: template of a document prompt.
        default_instruction: instruction for collections without an entry in `instructions`.
        instructions: name of the collection or task -> instruction, without a final full stop.
        query_candidates_template: template of a query prompt that asks for a thought and shows
            titles of candidates: `{candidates}`, a title a line, once, with no special token
            between it and `{text}`. Empty for prompts that show none.
    """

    name: str
    version: str
    query_template: str
    query_nothink_template: str
    document_template: str
    default_instruction: str
    instructions: dict[str, str] = field(default_factory=dict)
    query_candidates_template: str = ""

    def __post_init__(self) -> None:
        templates = {
            "query_template": self.query_template,
            "query_nothink_template": self.query_nothink_template,
            "document_template": self.document_template,
        }
        if self.shows_candidates:
            templates["query_candidates_template"] = self.query_candidates_template
            if self.query_candidates_template.count("{candidates}") != 1:
                raise ConfigError(
                    "query_candidates_template must contain {candidates} exactly once, got "
                    f"{self.query_candidates_template!r}"
                )
        for key, template in templates.items():
            if template.count("{text}") != 1:
                raise ConfigError(f"{key} must contain {{text}} exactly once, got {template!r}")

    def __repr__(self) -> str:
        return f"PromptPreset({self.name!r}, version {self.version}, hash {self.hash[:8]})"

    @property
    def hash(self) -> str:
        """Hex SHA-256 of all fields; independent of the file."""
        fields = asdict(self)
        if not self.shows_candidates:
            del fields["query_candidates_template"]  # stored hashes are older than the field
        content = json.dumps(fields, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def shows_candidates(self) -> bool:
        """Whether there is a prompt that shows candidates."""
        return bool(self.query_candidates_template)

    def require_candidates(self) -> None:
        """Raises a ConfigError if no prompt shows candidates."""
        if not self.shows_candidates:
            raise ConfigError(
                f"the prompts {self.name!r} show no candidates, so this model was not trained to "
                "think over them",
                hint="leave candidates out, use a model that was trained with the preset "
                "t1-candidates or t1-compact-candidates, or try one of them with --preset",
            )

    @property
    def uses_instruction(self) -> bool:
        """Whether query prompts contain the instruction; those of compact presets do not."""
        return "{instruction}" in self.query_template

    def instruction(self, task: str | None = None) -> str:
        """The instruction of a collection or task, or the default instruction."""
        if task is None:
            return self.default_instruction
        return self.instructions.get(task, self.default_instruction)

    def known_task(self, task: str | None) -> str | None:
        """The task if query prompts have an instruction for it, otherwise None."""
        return task if self.uses_instruction and task in self.instructions else None

    def query_instruction(
        self,
        task: str | None = None,
        instruction: str | None = None,
        *,
        custom: str = 'write one: instruction="TEXT"',
    ) -> str:
        """The instruction in query prompts for a task or an instruction that the user asks for.

        `custom` is the part of the hint on an unknown task that says how to write an instruction.
        The default instruction may be asked for also where the prompts have none.

        Raises:
            ConfigError: both were given, the task is unknown, or query prompts have no instruction.
        """
        if task is not None and instruction is not None:
            raise ConfigError("give a task or an instruction, not both")
        if instruction == self.default_instruction:
            instruction = None
        if (task or instruction) is not None and not self.uses_instruction:
            raise ConfigError(
                f"the prompts {self.name!r} have no instruction, so a task or an instruction would "
                "do nothing",
                hint="leave it out, or choose other prompts, such as the preset t1",
            )
        if task is not None and task not in self.instructions:
            raise ConfigError(
                f"the prompts {self.name!r} have no instruction for the task {task!r}",
                hint=f"{suggestion(task, self.instructions)} (or {custom})",
            )
        return instruction if instruction is not None else self.instruction(task)

    def with_instruction(self, instruction: str) -> "PromptPreset":
        """The preset with another default instruction."""
        return replace(self, default_instruction=instruction)


def preset_names() -> list[str]:
    """Names of the presets in this package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_preset(name_or_path: str | Path) -> PromptPreset:
    """A preset of this package by name, or any preset by the path of its YAML file.

    The key `extends` of a file names a preset of this package, such as `extends: t1`, or another
    file.

    Raises:
        ConfigError: unknown name, the file is not a preset, or it changes a preset of this package
            without another name.
    """
    shipped = {name: _FOLDER / f"{name}.yaml" for name in preset_names()}
    if str(name_or_path) in shipped:
        return load_config(PromptPreset, shipped[str(name_or_path)])
    if Path(name_or_path).suffix in (".yaml", ".yml"):
        preset = load_config(PromptPreset, Path(name_or_path), shipped=shipped)
        if preset.name in shipped and preset.hash != load_preset(preset.name).hash:
            raise ConfigError(
                f"{name_or_path} differs from the preset {preset.name!r} and has its name",
                hint="give it a name of its own, as in name: my-prompts",
            )
        return preset
    raise ConfigError(
        f"unknown prompt preset {str(name_or_path)!r}; known are {', '.join(preset_names())}",
        hint=f"{suggestion(str(name_or_path), preset_names())} A path must end in .yaml.",
    )
