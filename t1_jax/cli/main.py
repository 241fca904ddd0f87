"""The command `t1`: its subcommands, its error messages and its exit codes."""

import errno
import inspect
import io
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from t1_jax import __version__
from t1_jax.cli.adapt import adapt
from t1_jax.cli.bench import bench
from t1_jax.cli.collection import check_collection, split_collection
from t1_jax.cli.compare import compare
from t1_jax.cli.doctor import doctor
from t1_jax.cli.encode import encode
from t1_jax.cli.evaluate import evaluate
from t1_jax.cli.explain import explain
from t1_jax.cli.index import build_index, index_info, verify_index
from t1_jax.cli.mine import mine
from t1_jax.cli.output import print_error
from t1_jax.cli.prompt import show_prompt
from t1_jax.cli.pull import pull
from t1_jax.cli.quickstart import quickstart
from t1_jax.cli.report import report
from t1_jax.cli.reward import try_reward
from t1_jax.cli.search import search
from t1_jax.cli.serve import serve
from t1_jax.cli.think import think
from t1_jax.cli.thoughts import teacher_thoughts, template_thoughts
from t1_jax.cli.train import UNFINISHED, train
from t1_jax.cli.weights import export_model, import_model, rebase
from t1_jax.errors import RetryableError, T1Error

USER_ERROR = 2
_CACHE = Path(os.environ.get("T1_CACHE") or Path.home() / ".cache" / "t1_jax")
INTERRUPTED = 130
_HINTS: dict[int | None, str] = {
    errno.EACCES: "check its permissions",
    errno.ENOENT: "check the path, and whether a link leads to a file that is gone",
    errno.EISDIR: "give a file instead of a folder",
    errno.ENOTDIR: "give a folder instead of a file",
    errno.ENOSPC: "free disk space, then run the command again",
    errno.ENAMETOOLONG: "give a shorter path",
}


class _Commands(TyperGroup):
    """Prints an error of the user as two lines; a bug of ours stays a traceback.

    Exit codes: 2 for an error of the user, 75 if a later attempt may succeed, 130 for Ctrl-C.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["as_json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except T1Error as error:
            print_error(error, as_json=ctx.meta["as_json"])
            retryable = isinstance(error, RetryableError)
            raise typer.Exit(UNFINISHED if retryable else USER_ERROR) from error
        except OSError as error:
            # A bad path is an error of the user. A closed pipe is handled by click.
            if error.errno == errno.EPIPE or error.filename is None:
                raise
            file_error = T1Error(
                f"{error.filename}: {error.strerror}", hint=_HINTS.get(error.errno)
            )
            print_error(file_error, as_json=ctx.meta["as_json"])
            raise typer.Exit(USER_ERROR) from error
        except KeyboardInterrupt as error:
            print("stopped", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from error


class _Command(TyperCommand):
    """Rejects an option that is given twice where only the last value would count."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        *_, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter, count in Counter(order).items():
            if count > 1 and parameter.param_type_name == "option" and not parameter.multiple:
                names = " / ".join(f"'{name}'" for name in parameter.opts)
                raise typer.BadParameter(f"it was given {count} times", ctx, param_hint=names)
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="t1",
    cls=_Commands,
    help="T1 retrieves by thinking: it writes a thought about the query, then embeds both.",
    epilog="Start here: t1 quickstart",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def help_text(command: Callable[..., None]) -> str:
    """The command's docstring with each paragraph on one line, for the terminal to wrap."""
    paragraphs = inspect.getdoc(command) or ""
    return escape("\n\n".join(" ".join(part.split()) for part in paragraphs.split("\n\n")))


def _add(to: typer.Typer, panel: str | None, **commands: Callable[..., None]) -> None:
    for name, command in commands.items():
        to.command(name, cls=_Command, help=help_text(command), rich_help_panel=panel)(command)


_add(app, "Start", quickstart=quickstart, doctor=doctor, pull=pull, bench=bench)
_add(app, "Use", think=think, encode=encode)
index_app = typer.Typer(
    help="Build an index of documents, describe or verify one.", no_args_is_help=True
)
_add(index_app, None, build=build_index, info=index_info, verify=verify_index)
app.add_typer(index_app, name="index", rich_help_panel="Use")
_add(app, "Use", search=search, serve=serve, explain=explain, evaluate=evaluate, compare=compare)
_add(app, "Use", report=report)
collection_app = typer.Typer(help="Check a collection, or split its queries.", no_args_is_help=True)
_add(collection_app, None, check=check_collection, split=split_collection)
app.add_typer(collection_app, name="collection", rich_help_panel="Use")
prompt_app = typer.Typer(help="Show the prompts of queries and documents.", no_args_is_help=True)
_add(prompt_app, None, show=show_prompt)
app.add_typer(prompt_app, name="prompt", rich_help_panel="Use")
thoughts_app = typer.Typer(help="Write thoughts for training.", no_args_is_help=True)
_add(thoughts_app, None, template=template_thoughts, teacher=teacher_thoughts)
app.add_typer(thoughts_app, name="thoughts", rich_help_panel="Train")
_add(app, "Train", train=train, adapt=adapt, mine=mine)
reward_app = typer.Typer(help="Try rewards of thoughts before training.", no_args_is_help=True)
_add(reward_app, None, **{"try": try_reward})
app.add_typer(reward_app, name="reward", rich_help_panel="Train")
_add(app, "Weights", **{"import": import_model, "export": export_model}, rebase=rebase)


def _print_version(requested: bool) -> bool:
    if requested:
        print(f"t1_jax {__version__}")
        raise typer.Exit
    return requested


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options of `t1` itself; typer shows the help of the application instead of this line."""


def main() -> None:
    """Runs the command `t1`."""
    # Compiled programs are cached for the next start; JAX reads this when it is imported.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE / "xla"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal's encoding may lack a character
            stream.reconfigure(errors="backslashreplace")
    app()
