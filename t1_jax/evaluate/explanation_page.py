"""An explanation in the terminal, and as a self-contained HTML page."""

import statistics
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from t1_jax.evaluate.environment import package_versions
from t1_jax.evaluate.explain import ExplainedDocument, Explanation
from t1_jax.evaluate.report import page_environment
from t1_jax.evaluate.sentences import SentenceEffect
from t1_jax.progress import counted, shorten, visible

_MOVES_SHOWN = 3
_TITLE_CHARACTERS = 60


def render_explanation(explanation: Explanation, *, model: str, index: str) -> str:
    """The page as HTML, without scripts and external resources; all texts are escaped.

    `model` and `index` are their names.
    """
    environment = page_environment()
    environment.filters["spread"] = spread_text
    environment.filters["moves"] = lambda effect: moves_text(effect, explanation)
    return environment.get_template("explanation.html.j2").render(
        explanation=explanation, model=model, index=index, versions=package_versions()
    )


def spread_text(ranks: tuple[int, ...]) -> str:
    """`1 to 4, median 2`, or the rank if all thoughts agree."""
    if min(ranks) == max(ranks):
        return str(ranks[0])
    return f"{min(ranks)} to {max(ranks)}, median {statistics.median(ranks):g}"


def moves_text(effect: SentenceEffect, explanation: Explanation) -> str:
    """The documents that move most without the sentence: `title 1 → 7; ...`."""
    titles = {item.hit.document_id: item.hit.title for item in explanation.documents}
    moves = [
        f"{shorten(titles[move.document_id], _TITLE_CHARACTERS)} {move.before} → {move.after}"
        for move in effect.moves[:_MOVES_SHOWN]
    ]
    return "; ".join(moves) or "no rank changes"


class ExplanationView:
    """The explanation for a terminal."""

    def __init__(self, explanation: Explanation) -> None:
        self._explanation = explanation

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in self._parts():
            yield Padding(part, (0, 0, 1, 0))

    def _parts(self) -> Iterator[RenderableType]:
        explanation = self._explanation
        first = explanation.thoughts[0]
        yield Text.assemble(
            (visible(explanation.query), "bold"), "\n", visible(first.text.strip() or "(nothing)")
        )
        yield self._rankings()
        yield self._sentences()
        if len(explanation.thoughts) > 1:
            yield self._spread()

    def _rankings(self) -> Table:
        explanation = self._explanation
        count = len(explanation.hits)
        table = _table(
            f"With and without the thought, {explanation.overlap} of {count} documents in both",
            "document", "title", "with>", "without>", "change>", "score>",
        )  # fmt: skip
        for item in explanation.documents:
            hit = item.hit
            table.add_row(
                visible(hit.document_id),
                Text(shorten(visible(hit.title), _TITLE_CHARACTERS)),
                str(hit.rank),
                str(item.rank_without),
                _change(item),
                f"{hit.score:.3f}",
            )
        return table

    def _sentences(self) -> RenderableType:
        explanation = self._explanation
        if not explanation.sentences:
            return Text("The thought is empty, so there is no sentence to leave out.", style="dim")
        table = _table(
            "Each sentence left out of the thought", "sentence", "cosine>", "ranks that change"
        )
        for effect in explanation.sentences:
            table.add_row(
                Text(visible(effect.text)),
                f"{effect.similarity:.3f}",
                Text(visible(moves_text(effect, explanation))),
            )
        return table

    def _spread(self) -> Table:
        explanation = self._explanation
        table = _table(
            f"Ranks over {counted(len(explanation.thoughts), 'thoughts')}", "document", "ranks"
        )
        for item in explanation.documents:
            table.add_row(visible(item.hit.document_id), spread_text(item.ranks))
        for thought, similarity in zip(
            explanation.thoughts[1:], explanation.similarities[1:], strict=True
        ):
            text = shorten(visible(thought.text), 2 * _TITLE_CHARACTERS) or "(nothing)"
            table.add_row(f"cosine {similarity:.3f}", Text(text, style="dim"))
        return table


def _change(item: ExplainedDocument) -> Text:
    if item.gain == 0:
        return Text("same", style="dim")
    sign, style = ("▲", "green") if item.gain > 0 else ("▼", "red")
    return Text(f"{sign} {abs(item.gain)}", style=style)


def _table(title: str, *columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for column in columns:
        table.add_column(
            column.removesuffix(">"), justify="right" if column.endswith(">") else "left"
        )
    return table
