"""The report in a real browser: filter, sort, compare, open; on a phone, light and dark."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from t1_jax.evaluate import Evaluation, render_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="the page is driven with Playwright, which is not installed"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, evaluation: Evaluation, tmp_path: Path) -> Iterator[Any]:
    """The report at the width of a desktop; any message of the console fails the test."""
    (tmp_path / "report.html").write_text(render_report([evaluation]))
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    messages: list[str] = []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.goto((tmp_path / "report.html").as_uri())
    yield opened
    opened.close()
    assert messages == []


def ids(page) -> list[str]:
    return page.locator("table.all button.open .id").all_inner_texts()


def test_queries_are_sorted_filtered_and_found(page) -> None:
    assert page.locator(".count").inner_text() == "3 of 3 queries"
    assert ids(page)[0] == "q1"  # the largest gain
    page.locator("button[data-sort=gain]").click()
    assert page.locator("th[aria-sort]").nth(3).get_attribute("aria-sort") == "ascending"
    assert ids(page)[0].startswith("q2")
    page.locator("button[data-sort=query]").click()
    assert [name[:2] for name in ids(page)] == ["q1", "q2", "q3"]
    page.locator("select.kind").select_option("truncated")
    assert ids(page) == ["q2truncated"]
    page.locator("select.kind").select_option("all")
    page.locator("input.search").fill("BBBB BBBB BBBB")
    assert ids(page) == ["q1"]
    assert page.locator(".count").inner_text() == "1 of 3 queries"


def test_a_query_opens_with_both_rankings_and_its_address_opens_it_again(page) -> None:
    page.locator("button.open", has_text="q1").click()
    detail = page.locator("tr.detail")
    assert detail.locator(".thought .text").first.inner_text() == "bbbb bbbb bbbb"
    assert detail.locator(".side").count() == 2
    assert detail.locator("li.relevant").count() >= 2
    assert "▲ 2" in detail.inner_text()
    assert page.url.endswith("#collection-1-queries=q1")
    page.reload()
    assert page.locator("tr.detail").count() == 1
    assert page.locator("button.open[aria-expanded=true] .id").inner_text() == "q1"
    page.keyboard.press("Enter")  # the button has the focus
    assert page.locator("tr.detail").count() == 0


def test_other_rows_can_be_compared(page) -> None:
    page.locator("select.first").select_option(label="BM25")
    page.locator("button.open", has_text="q1").click()
    assert "BM25, nDCG@10" in page.locator("tr.detail .side h4").first.inner_text()


def test_a_point_of_the_plot_opens_its_query(page) -> None:
    page.locator('a[href="#collection-1-queries=q3"] circle').dispatch_event("click")
    page.wait_for_selector("tr.detail")
    assert page.locator("button.open[aria-expanded=true] .id").inner_text() == "q3"


def test_texts_are_never_markup(page) -> None:
    page.locator("button.open", has_text="q2").click()
    shown = page.locator("tr.detail .thought .text").first.inner_text()
    assert shown == "<script>bbbb</script> <emb_token> bbbb bbbb"
    assert page.locator("tr.detail script").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_color_schemes(page, scheme) -> None:
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)
    page.locator("button.open").first.click()
    wide, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner
    assert page.locator("table.all").bounding_box()["width"] > 300
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == light) == (scheme == "light")


def test_without_scripts_the_page_has_everything_but_the_table(browser, evaluation, tmp_path):
    (tmp_path / "report.html").write_text(render_report([evaluation]))
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto((tmp_path / "report.html").as_uri())
    assert opened.locator(".card").first.is_visible()
    assert not opened.locator(".queries").is_visible()
    context.close()
