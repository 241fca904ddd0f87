"""The instruction in the prompts of queries: that of a task, of the user, or of a collection."""

from t1_jax.text import PromptPreset


def query_instruction(
    preset: PromptPreset,
    task: str | None,
    instruction: str | None,
    known_task: str | None = None,
    *,
    custom: str = "write one: --instruction TEXT",
) -> str:
    """The instruction in the prompts of queries, from the `task` or `instruction` of the user.

    `known_task`, that of a collection that `t1 pull` knows, is used if the user gave neither; the
    name of a folder or file is never a task. `custom` is part of the hint about an unknown task.

    Raises:
        ConfigError: an unknown task, both a task and an instruction, or prompts without one.
    """
    if task is None and instruction is None:
        return preset.instruction(preset.known_task(known_task))
    return preset.query_instruction(task, instruction, custom=custom)


def instruction_note(preset: PromptPreset, instruction: str) -> str:
    """A line about the instruction in the prompts of queries."""
    if not preset.uses_instruction:
        return f"the prompts {preset.name!r} have no instruction"
    return f"query instruction: {instruction}"
