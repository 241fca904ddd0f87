"""`t1 adapt`: teaches a model the contents of a folder of files."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError
from t1_jax.progress import counted

_MINUTES = 15.0


def adapt(
    folder: Annotated[
        Path,
        typer.Argument(help="A folder, or a file: text, Markdown, source code, JSONL, CSV ..."),
    ],
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Fields of the training config to override."),
    ] = None,
    model: options.Model = options.DEFAULT_MODEL,
    minutes: Annotated[
        float, typer.Option("--minutes", min=1, help="Minutes of training.")
    ] = _MINUTES,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write. Default: runs/adapt-NAME."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would be done and how long it takes.")
    ] = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Teach the model a folder: its headings, file names and sentences become queries.

    Each of them must find the passage that it was taken out of. Sections are held out, and show
    what was gained. The result is a small adapter, for `t1 search FOLDER -m ADAPTER`. The same
    command resumes a run that was stopped.

    Example: t1 adapt notes/
    """
    from t1_jax.cli.inputs import split_arguments
    from t1_jax.cli.train import print_stopped
    from t1_jax.cli.train_pairs import PairsRun, print_result, train_on_pairs
    from t1_jax.retrieval import read_folder
    from t1_jax.train.data import section_pairs

    out = Output(as_json)
    recipe, overrides = split_arguments(fields or [])
    if recipe is not None:
        raise ConfigError(
            "`t1 adapt` chooses its recipe itself",
            hint=f"change fields of it, as in stages.s2.steps=50, and leave {recipe} out",
        )
    contents = read_folder(folder)
    made = section_pairs(contents.documents)
    kinds = ", ".join(counted(count, kind) for kind, count in made.counts.items())
    out.print(
        f"{folder}: {counted(len(contents.files), 'files')}, "
        f"{counted(len(contents.documents), 'passages')}; queries: {kinds}"
    )
    name = folder.resolve().name
    run = PairsRun(
        name=name,
        folder=output or Path("runs") / f"adapt-{name}",
        model=model,
        minutes=minutes,
        held_out=True,
        groups=made.groups,
        fields=overrides,
        plan_only=plan,
        overwrite=overwrite,
    )
    result = train_on_pairs(out, made.pairs, run)
    if result.trained is not None and result.trained.stopped is not None:
        print_stopped(out, result.trained)
    following = None
    if result.weights is not None:
        source, weights = quote(str(folder)), quote(str(result.weights))
        following = f't1 search {source} "your query" -m {weights}'
    print_result(out, run, result, following)
