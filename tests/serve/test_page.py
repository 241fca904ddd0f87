"""The page in a browser: type, stream, edit a sentence, see the ranking change, share a link."""

import json
import re
import shutil
from collections.abc import Iterator

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright")

from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from tests.serve.conftest import DOCUMENTS, Running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.skipif(CHROMIUM is None, reason="needs the package chromium"),
]
QUERY = "who hunts mice at night?"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: Running) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(30_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if _is_bad(message) else None)
    page.goto(server.url)
    yield page
    page.close()
    assert problems == []


def _is_bad(message: ConsoleMessage) -> bool:
    return message.type in ("error", "warning")


def search(page: Page, query: str = QUERY) -> None:
    page.get_by_role("searchbox").fill(query)
    page.keyboard.press("Enter")
    found(page)


def found(page: Page) -> list[str]:
    """Ids of the documents, once the search is over."""
    expect(page.get_by_role("status")).to_contain_text("documents in", timeout=30_000)
    items = page.locator("#results > li")
    expect(items).to_have_count(len(DOCUMENTS))
    return [str(item.get_attribute("data-id")) for item in items.all()]


def sentences(page: Page) -> list[str]:
    return page.locator(".sentence > .text").all_inner_texts()


def test_a_search_shows_the_thought_and_the_documents(page: Page, server: Running):
    expect(page.locator("#about")).to_have_text("tiny over animals: 5 documents")
    search(page)
    body = {"query": QUERY, "ranking": "dense"}
    (result,) = server.post("/v1/search", body).json()["results"]
    assert found(page) == [hit["id"] for hit in result["hits"]]
    shown = "".join("".join(sentences(page)).split())
    assert shown == "".join(result["thoughts"][0]["text"].split())
    assert page.locator("#results mark").first.inner_text() in " ".join(DOCUMENTS.values())


def test_an_edited_sentence_changes_the_ranking_and_a_link_reproduces_it(
    page: Page, browser: Browser
):
    search(page)
    before = found(page)
    rankings = []
    for text in ("It makes honey from flowers. ", "A fish swims. ", "It barks at the moon. "):
        page.get_by_role("button", name="Edit sentence 1").click()
        page.get_by_label("Text of sentence 1").fill(text)
        with page.expect_response("**/v1/search"):
            page.keyboard.press("Enter")
        expect(page.locator(".sentence > .text").first).to_have_text(text.strip())
        rankings.append(found(page))
    assert [ranking for ranking in rankings if ranking != before]
    expect(page.locator(".change").first).to_be_visible()
    other = browser.new_page()
    other.goto(page.url)
    assert found(other) == rankings[-1]
    assert sentences(other) == sentences(page)
    other.close()
    page.reload()
    assert found(page) == rankings[-1]
    with page.expect_response("**/v1/search"):
        page.get_by_role("button", name="Back to the model's thought").click()
    expect(page.get_by_role("button", name="Back to the model's thought")).to_be_disabled()
    assert found(page) == before


def test_sentences_are_added_pinned_and_deleted_with_the_keyboard(page: Page):
    search(page)
    page.get_by_role("button", name="Add a sentence").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("It flies at night.")
    page.keyboard.press("Enter")
    found(page)
    last = len(sentences(page))
    assert sentences(page)[-1] == "It flies at night."
    expect(page.get_by_role("button", name=f"Edit sentence {last}", exact=True)).to_be_focused()
    for number in range(last - 1, 0, -1):
        page.get_by_role("button", name=f"Delete sentence {number}", exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.locator(".sentence")).to_have_count(number)
    found(page)
    expect(page.get_by_role("button", name="Delete sentence 1")).to_be_focused()
    assert sentences(page) == ["It flies at night."]
    pin = page.get_by_role("button", name="Pin sentence 1")
    pin.focus()
    page.keyboard.press("Space")
    expect(pin).to_have_attribute("aria-pressed", "true")
    expect(pin).to_be_focused()
    with page.expect_response("**/v1/search") as response:
        page.get_by_role("button", name="Think again").click()
    sent = response.value.request.post_data_json
    assert sent is not None
    assert sent["thought_prefix"] == "It flies at night. "
    found(page)
    assert "".join(sentences(page)).startswith("It flies at night.")


def test_all_modes_side_by_side(page: Page):
    page.get_by_role("searchbox").fill(QUERY)
    page.get_by_label("compare all").check()
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("status")).to_contain_text("Compared", timeout=60_000)
    columns = page.locator("#compared > section")
    expect(columns).to_have_count(4)
    for column in columns.all():
        expect(column.locator("ol > li")).to_have_count(len(DOCUMENTS))
    assert [column.locator(".thought").count() for column in columns.all()] == [0, 1, 3, 3]
    expect(columns.nth(2)).to_contain_text(re.compile(r"spread \d\.\d{3}"))


def test_text_is_never_markup(page: Page):
    attack = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"
    search(page, attack)
    page.get_by_role("button", name="Edit sentence 1").click()
    page.get_by_label("Text of sentence 1").fill(attack)
    page.keyboard.press("Enter")
    expect(page.locator(".sentence > .text").first).to_have_text(attack)
    found(page)
    assert page.locator("main img, main b").count() == 0
    assert page.title() != "owned"


def test_an_error_is_shown_without_the_results_of_another_query(page: Page):
    search(page, "who barks?")
    error = {"error": {"message": "no such thing", "hint": "try another"}}
    page.route(
        "**/v1/search",
        lambda route: route.fulfill(
            content_type="text/event-stream", body=f"event: error\ndata: {json.dumps(error)}\n\n"
        ),
    )
    page.get_by_role("searchbox").fill(QUERY)
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert")).to_have_text("no such thing: try another")
    expect(page.locator("#results")).not_to_be_visible()
    expect(page.locator("#thinking")).not_to_be_visible()


def test_a_server_that_is_gone_is_an_error_that_says_what_to_do(browser: Browser, server: Running):
    page = browser.new_page()
    page.goto(server.url)
    search(page)
    page.route("**/v1/search", lambda route: route.abort())
    page.get_by_role("searchbox").fill(QUERY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text(
        "the server cannot be reached: check that it runs"
    )
    page.unroute("**/v1/search")
    search(page)
    expect(page.get_by_role("alert")).not_to_be_visible()
    page.close()


def test_the_page_of_a_server_that_loads_waits_for_it(browser: Browser, server: Running):
    page = browser.new_page()
    loading = {"error": {"message": "the server is loading", "hint": None}}
    answers = iter([True])

    def answer(route: Route) -> None:
        if next(answers, False):
            route.fulfill(status=503, headers={"Retry-After": "1"}, json=loading)
        else:
            route.continue_()

    page.route("**/info", answer)
    page.goto(server.url)
    expect(page.get_by_role("status")).to_have_text("The server is loading.")
    expect(page.locator("#about")).to_contain_text("5 documents")
    expect(page.get_by_role("status")).to_have_text("")
    page.close()


def test_it_fits_a_phone_in_the_dark(browser: Browser, server: Running):
    page = browser.new_page(
        viewport={"width": 360, "height": 740}, color_scheme="dark", reduced_motion="reduce"
    )
    page.goto(server.url)
    search(page)
    wide = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == (
        "rgb(21, 23, 27)"
    )
    small = [
        box
        for button in page.get_by_role("button").all()
        if (box := button.bounding_box()) and box["height"] < 32
    ]
    assert small == []
    page.close()
