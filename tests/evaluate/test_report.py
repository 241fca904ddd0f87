import dataclasses
import re
from html.parser import HTMLParser

import pytest

from t1_jax.errors import ConfigError
from t1_jax.evaluate import Evaluation, ReportOptions, comparison_sentences, render_report
from t1_jax.evaluate.report import make_section
from t1_jax.progress import visible

_VOID = {"meta", "input"}
_CLOSED = {"line", "circle", "rect"}


class _Page(HTMLParser):
    """Tags must nest; keeps texts by the class of the innermost element that has one."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.attributes += [(tag, name, value) for name, value in named.items()]
        self.ids += [named["id"]] if "id" in named else []
        if tag not in _VOID:
            self.open.append((tag, named.get("class", "")))
            self.texts.setdefault(named.get("class", tag), []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _CLOSED

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            tag, name = self.open[-1]
            self.texts[name or tag][-1] += data


@pytest.fixture
def html(evaluation: Evaluation) -> str:
    return render_report([evaluation])


def test_the_page_is_whole_and_asks_nothing_of_the_outside(html: str):
    page = _Page(html)
    assert html.startswith("<!doctype html>")
    assert len(set(page.ids)) == len(page.ids)
    loading = [
        a for a in page.attributes if a[1] in ("src", "srcset", "action", "onclick", "style")
    ]
    assert loading == []
    links = [value for tag, name, value in page.attributes if name == "href"]
    assert all(value[0] == "#" and value[1:].partition("=")[0] in page.ids for value in links)
    assert "default-src 'none'" in html
    assert "fetch(" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert "@import" not in html
    assert "url(" not in html
    assert "prefers-color-scheme: dark" in html


def test_thoughts_stand_exactly_as_written_and_never_as_markup(html: str):
    texts = _Page(html).texts["text"]
    assert "<script>bbbb</script> <emb_token> bbbb bbbb" in texts
    assert "e ␀e" in texts
    assert "<script>bbbb" not in html
    assert "&lt;emb_token&gt;" in html
    assert "<i>e</i>" not in html


def test_every_number_of_the_table_is_a_mean_or_an_end_of_its_interval(
    evaluation: Evaluation, html: str
):
    shown = re.findall(
        r"<b>(\d\.\d{3})</b> <span class=\"quiet\">\[(\d\.\d{3}), (\d\.\d{3})\]", html
    )
    expected = [
        tuple(f"{x:.3f}" for x in (row.values[metric].mean(), found.low, found.high))
        for row in evaluation.rows
        for metric in ("nDCG@10", "recall@10")
        for found in [evaluation.intervals[row.name][metric]]
    ]
    assert shown == expected
    assert comparison_sentences(evaluation)[0] in _Page(html).texts["verdict-sentence"]


def test_bars_are_drawn_to_the_scale_that_the_heading_names(evaluation: Evaluation):
    section = make_section(evaluation, ReportOptions())
    for line in section.lines:
        for cell, end in zip(line.cells, section.axis_ends, strict=True):
            assert 0 <= cell.bar.low <= cell.bar.mean <= cell.bar.high <= 100 + 1e-9
            assert cell.bar.mean * end / 100 == pytest.approx(cell.interval.mean)
    reference = section.references[0]
    assert reference is not None
    expected = evaluation.row("t1-no-think").values["nDCG@10"].mean()
    assert reference * section.axis_ends[0] / 100 == pytest.approx(expected)
    assert [line.row.name for line in section.lines if line.cells[0].best] == [
        evaluation.best_row("nDCG@10").name
    ]


def test_cards_show_documents_with_ranks_scores_grades_and_changes(
    evaluation: Evaluation, html: str
):
    card = html[html.index('<article class="card helped"') :]
    card = card[: card.index("</article>")]
    own = evaluation.row("t1-own")
    assert f"{own.run['q1']['ball']:.3f}</span>" in card
    assert "✓ grade 2" in card
    assert '<span class="up">▲ 2</span>' in card
    assert '<span class="down">▼ 2</span>' in card
    assert "ended by the model" in card
    hurt = html[html.index('<article class="card hurt"') :]
    assert "truncated at the maximum length" in hurt[: hurt.index("</article>")]
    assert "e &lt;b&gt;&amp;" in html


def test_what_was_judged_not_relevant_is_not_marked_as_found(html: str):
    assert "judged not relevant" in html
    items = re.findall(r'<li class="(.*?)">(.*?)</li>', html, flags=re.S)
    assert all(("✓ grade" in body) == (name == "relevant") for name, body in items)


def test_it_says_what_ran(evaluation: Evaluation, html: str):
    for fact in (
        evaluation.collection.data_hash,
        evaluation.collection.qrels_hash,
        "ab12",
        "float32",
        "max_thought_tokens: 9",
        "&lt;none&gt;",
        evaluation.started[:10],
    ):
        assert fact in html


def test_a_page_without_model_or_without_control_still_renders(evaluation: Evaluation):
    baseline = dataclasses.replace(evaluation, rows=evaluation.rows[:1], systems=())
    assert "Baselines" in render_report([baseline])
    alone = dataclasses.replace(evaluation, rows=(evaluation.row("t1-own"),))
    page = render_report([alone, baseline])
    assert "Found without thought" not in page
    _Page(page)


def test_long_thoughts_open_on_demand_and_are_complete(evaluation: Evaluation):
    own = evaluation.row("t1-own")
    (record,) = own.thoughts["q1"]
    long = dataclasses.replace(record, text="word <x> " * 200)
    thoughts = {**own.thoughts, "q1": (long, dataclasses.replace(record, text="", sample=1))}
    changed = dataclasses.replace(own, thoughts=thoughts)
    rows = tuple(changed if row is own else row for row in evaluation.rows)
    html = render_report([dataclasses.replace(evaluation, rows=rows)])
    assert "word <x> " * 200 in _Page(html).texts["text"]
    assert "Show the whole thought (1,800 characters)" in html
    assert "Thought 1 of 2" in html
    assert "The thought is empty." in html


def test_control_characters_become_visible_and_line_breaks_stay():
    assert visible("a\x00b\x1b\x7f\r\n\tc") == "a␀b␛␡␍\n\tc"


@pytest.mark.parametrize("change", [{"helped": -1}, {"documents": 0}])
def test_impossible_options_are_refused(change: dict[str, int]):
    with pytest.raises(ConfigError):
        ReportOptions(**change)
