"""Runs, a run and a sample in a real browser, see test_browser."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from browser import CHROMIUM, MODELS, NO_BROWSER, REQUIRED
from playwright.sync_api import expect
from records import EPOCHS

pytestmark = pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason=NO_BROWSER)


# Runs


def test_typing_filters_runs_and_the_address_says_so(tab):
    page = tab.open()
    page.get_by_label("Name or id").press_sequentially("mlp")
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page).to_have_url(re.compile(r"\?q=mlp$"))
    tab.back()
    expect(page.locator("tbody tr")).to_have_count(len(MODELS) + 7)


def test_menus_filter_runs_and_a_link_shows_the_same(window):
    tab = window()
    page = tab.open()
    page.get_by_text("Model", exact=True).first.click()
    page.get_by_label("guess", exact=True).check()
    page.get_by_label("mlp", exact=True).check()
    expect(page.locator("tbody tr")).to_have_count(3)
    assert tab.query == {"model": ["guess", "mlp"]}
    page.keyboard.press("Escape")
    expect(page.get_by_label("guess", exact=True)).to_be_hidden()
    other = window().page
    other.goto(page.url)
    expect(other.locator("tbody tr")).to_have_count(3)


def test_picked_runs_are_compared(tab, runs):
    page = tab.open()
    button = page.locator("[data-compare]")
    expect(button).to_be_disabled()
    page.get_by_label("Compare linear-0").check()
    page.get_by_label("Compare mlp-0").check()
    expect(button).to_have_text("Compare test-probe of 2 runs")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare 2 runs")
    assert set(tab.query["run"]) == {runs["linear-0"], runs["mlp-0"]}
    assert tab.query["record"] == ["test-probe"]


# A run


def test_filters_of_samples_are_in_the_address_and_back_undoes_them(tab, runs):
    page = tab.open("run", run=runs["mlp-0"])
    before = tab.samples()
    page.get_by_label("Prediction").select_option("wrong")
    expect(page.locator("#results a.tile")).not_to_have_count(len(before))
    page.get_by_text("Class", exact=True).click()
    page.get_by_label("one", exact=True).check()
    wanted = tab.api("scores", run=runs["mlp-0"], correct="wrong", **{"class": "one"})
    expect(page.locator("#results a.tile")).to_have_count(len(wanted))
    assert tab.query["class"] == ["one"]
    assert tab.query["correct"] == ["wrong"]
    assert set(tab.query) == {"run", "record", "class", "correct"}  # and no default
    tab.back()
    assert set(tab.query) == {"run", "record", "correct"}
    tab.back()
    assert tab.samples() == before


def test_paging_shows_the_next_samples(tab, runs):
    page = tab.open("run", run=runs["mlp-0"])
    ids = [str(each["sample_id"]) for each in tab.api("scores", run=runs["mlp-0"])]
    assert tab.samples() == ids[:48]
    page.keyboard.press("n")
    expect(page.get_by_text("Page 2 of")).to_be_visible()
    assert tab.samples() == ids[48:96]
    assert tab.query["page"] == ["2"]


def test_dragging_over_the_histogram_chooses_a_range(tab, runs):
    page = tab.open("run", run=runs["mlp-0"])
    chart = page.locator("[data-chart=histogram]")
    expect(chart.locator("canvas")).to_be_visible()
    tab.drag(chart, (0.4, 0.3), (0.8, 0.6))
    expect(page).to_have_url(re.compile("low="))
    low, high = float(tab.query["low"][0]), float(tab.query["high"][0])
    wanted = tab.api("scores", run=runs["mlp-0"], low=low, high=high)
    assert 0 < len(wanted) < 100
    expect(page.locator("#results a.tile")).to_have_count(len(wanted))
    expect(page.get_by_label("action from")).to_have_value(tab.query["low"][0])
    expect(chart).to_have_attribute("data-drawn", "2")  # its bars show the range


def test_clicking_a_class_shows_its_samples(tab, runs):
    page = tab.open("run", run=runs["mlp-0"], correct="wrong")
    chart = page.locator("[data-chart=classes]")
    expect(chart.locator("canvas")).to_be_visible()
    hardest = tab.api("classes", run=runs["mlp-0"])[0]["class"]
    box = chart.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 60, box["y"] + 28)  # beside the first box plot
    page.mouse.click(box["x"] + 40, box["y"] + 28)  # its name
    expect(page).to_have_url(re.compile(f"class={hardest}"))
    assert tab.query["correct"] == ["wrong"]


def test_the_samples_closest_to_each_centre_are_shown(tab, runs):
    page = tab.open("run", run=runs["mlp-0"], per_page=24)
    rows = tab.api("clusters", run=runs["mlp-0"])
    closest = {str(each["sample_id"]) for each in rows if each["kind"] == "closest"}
    tab.draw_all()
    tiles = page.locator("[data-closest] a.tile")
    expect(tiles).to_have_count(len(closest))
    links = tiles.evaluate_all("found => found.map(each => each.href)")
    assert {parse_qs(urlsplit(each).query)["id"][0] for each in links} == closest
    expect(page.locator("[data-closest] img")).to_have_count(len(closest))


def test_another_score_sorts_and_draws_anew(tab, runs):
    page = tab.open("run", run=runs["mlp-0"])
    page.get_by_label("Sort by").select_option("aum")
    expect(page.get_by_role("heading", name="aum per class")).to_be_visible()
    tab.settled()
    rows = tab.api("scores", run=runs["mlp-0"], score="aum")
    assert tab.samples() == [str(each["sample_id"]) for each in rows[:48]]
    assert rows[0]["aum"] == min(each["aum"] for each in rows)  # a low margin is hard


# A sample


def test_arrow_keys_go_through_the_samples_in_order(tab, runs):
    wanted = {"run": runs["mlp-0"], "correct": "wrong", "order": "easiest"}
    ids = [str(each["sample_id"]) for each in tab.api("scores", **wanted)]
    page = tab.open("sample", id=ids[0], **wanted)
    for key, expected in (("ArrowRight", ids[1]), ("ArrowRight", ids[2]), ("ArrowLeft", ids[1])):
        page.keyboard.press(key)
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Sample {expected}")
        tab.settled()
    page.keyboard.press("u")
    expect(page.get_by_role("heading", level=1)).to_have_text("mlp-0")
    assert tab.query["correct"] == ["wrong"]


def test_the_slider_fades_the_map_of_pixels(tab, runs):
    page = tab.open("sample", run=runs["segmentation"], id=3)
    over = page.locator("#pixel-map")
    expect(over).to_have_css("opacity", "0.6")
    page.get_by_label("Action of each pixel").press("End")
    expect(over).to_have_css("opacity", "1")


def test_loss_curves_of_other_runs_are_drawn(tab, runs):
    page = tab.open("sample", run=runs["mlp-0"], id=3)
    source = page.locator("[data-chart=curves]").get_attribute("data-source")
    answer = page.request.get(f"{tab.root}{source}").json()
    assert answer["total"] == len(MODELS) * EPOCHS
