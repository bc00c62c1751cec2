"""Every page in a real browser: it draws, fits, obeys the keyboard, and complains of nothing.

The browser is the system's Chromium. Without one these tests are skipped, unless CI is set or
ACTIONTRACK_BROWSER is "required". Every page of every test must stay without complaint on the
console, and must ask nobody but our server for anything.
"""

import re

import pytest
from browser import CHROMIUM, MODELS, NO_BROWSER, PHONE, REQUIRED
from playwright.sync_api import expect
from records import HOSTILE

pytestmark = pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason=NO_BROWSER)


def pages(runs):
    """Every kind of page: a name for the test, the page, its parameters."""
    four = {"run": [runs[each] for each in MODELS]}
    return {
        "runs": ("", {}),
        "run": ("run", {"run": runs["mlp-0"], "per_page": 24}),
        "table": ("run", {"run": runs["hostile"], "show": "table", "log": 1, "per_page": 24}),
        "bare run": ("run", {"run": runs["regression"]}),
        "interrupted run": ("run", {"run": runs["stopped"]}),
        "sample": ("sample", {"run": runs["mlp-0"], "id": 3}),
        "hostile sample": ("sample", {"run": runs["hostile"], "id": f"{HOSTILE[3]} 2"}),
        "pixels": ("sample", {"run": runs["segmentation"], "id": 3}),
        "boxes": ("sample", {"run": runs["detection"], "id": 3}),
        "tokens": ("tokens", {"run": runs["language"], "id": 3}),
        "sample with tokens": ("sample", {"run": runs["language"], "id": 0}),
        "correlations": ("compare", four),
        "scatter": ("compare", four | {"view": "scatter", "x0": 3, "x1": 9}),
        "contrasts": ("compare", four | {"view": "contrasts"}),
        "entropy": ("compare", four | {"view": "entropy", "x0": 0.3}),
        "review": ("review", {"run": runs["hostile"]}),
        "slices": ("slices", {"run": runs["mlp-0"], "show": "all"}),
        "no attributes": ("slices", {"run": runs["linear-0"]}),
    }


KINDS = (
    "runs", "run", "table", "bare run", "interrupted run", "sample", "hostile sample", "pixels",
    "boxes", "tokens", "sample with tokens", "correlations", "scatter", "contrasts", "entropy",
    "review", "slices", "no attributes",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_draws_without_complaint_and_fits(window, runs, kind):
    """On a desktop in light colours, then on a telephone in dark ones."""
    name, parameters = pages(runs)[kind]
    tab = window(color_scheme="light")
    page = tab.open(name, **parameters)
    tab.draw_all()
    charts = page.locator("[data-chart]").count()
    expect(page.locator("[data-chart] canvas")).to_have_count(charts)
    assert brightness(page) > 240
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    expect(page.locator("[data-drawn='1']")).to_have_count(0)  # all are drawn again
    expect(page.locator("[data-chart] canvas")).to_have_count(charts)
    assert brightness(page) < 40
    over = page.evaluate(
        "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert over <= 0, f"{over} pixels too wide"
    broken = "found => found.filter(each => each.complete && !each.naturalWidth).length"
    assert page.locator("main img").evaluate_all(broken) == 0


def brightness(page):
    colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    return max(map(int, re.findall(r"\d+", colour)[:3]))


def test_nothing_from_a_record_runs_as_a_script(tab, runs):
    page = tab.open("run", run=runs["hostile"], per_page=24)
    tab.draw_all()
    assert page.title() == "linear-7 – actiontrack"
    for name in (HOSTILE[0], HOSTILE[3]):
        expect(page.get_by_text(name, exact=True).first).to_be_attached()


def test_the_theme_is_kept_from_page_to_page(window, runs):
    tab = window(color_scheme="light")
    page = tab.open()
    toggle = page.get_by_role("button", name="Colour theme")
    toggle.click()
    toggle.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page = tab.open("run", run=runs["mlp-0"])
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    drawn = page.locator("[data-chart=histogram]")
    expect(drawn).to_have_attribute("data-drawn", "1")
    page.get_by_role("button", name="Colour theme").click()
    expect(drawn).to_have_attribute("data-drawn", "2")  # in the other colours


def test_the_keyboard_reaches_the_content_first(tab):
    page = tab.open()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Name or id")).to_be_focused()


def test_a_question_mark_lists_the_keys(tab, runs):
    page = tab.open("review", run=runs["mlp-0"])
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("the label is fine")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_server_that_is_away_is_told(tab, runs):
    page = tab.open("run", run=runs["mlp-0"], per_page=24)
    page.route("**/actiontrack/run?*", lambda route: route.abort())
    page.get_by_label("Prediction").select_option("wrong")
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    assert all("Failed to" in each for each in tab.complaints)
    tab.complaints.clear()


def test_pages_work_without_scripts(window, runs):
    page = window(java_script_enabled=False).page
    page.goto(f"{window().root}/actiontrack/run?run={runs['mlp-0']}&correct=wrong")
    page.get_by_label("Order").select_option("easiest")
    page.get_by_role("button", name="Filter").click()
    assert "order=easiest" in page.url
    expect(page.locator("#results a.tile").first).to_be_attached()


def test_mlflow_and_our_pages_link_to_each_other(tab, runs):
    page = tab.open("run", run=runs["mlp-0"])
    link = page.get_by_role("link", name="MLflow").last.get_attribute("href")
    assert link.endswith(f"/runs/{runs['mlp-0']}")
    assert link.startswith("/#/experiments/")
    text = page.request.get(f"{tab.root}/").text()
    assert 'id="actiontrack-link" href="/actiontrack/"' in text
