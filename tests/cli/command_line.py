"""Parses commands as `t1` would, and runs nothing."""

from typer.core import TyperGroup
from typer.main import get_command

from t1_jax.cli.main import app


def parse(words: list[str]) -> None:
    """Parses the words after `t1`, every argument of them; a usage error is raised."""
    command = get_command(app)
    context = command.make_context("t1", [], resilient_parsing=True)
    while isinstance(command, TyperGroup):
        name, command, words = command.resolve_command(context, words)
        assert command is not None
        known = [] if isinstance(command, TyperGroup) else words
        context = command.make_context(name, known, resilient_parsing=not known, parent=context)
