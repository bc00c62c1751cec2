"""Comparing runs and judging samples in a real browser, see test_browser."""

import re

import pytest
from browser import CHROMIUM, MODELS, NO_BROWSER, REQUIRED, WAITING
from playwright.sync_api import expect
from records import N_TEST, NAMES

pytestmark = pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason=NO_BROWSER)


# Compare


def test_a_box_over_two_runs_shows_its_samples(window, runs):
    tab = window()
    several = [runs["linear-0"], runs["mlp-0"]]
    page = tab.open("compare", run=several, view="scatter")
    chart = page.locator("[data-chart=scatter]")
    expect(chart.locator("canvas")).to_be_visible()
    tab.drag(chart, (0.3, 0.9), (0.7, 0.3))
    expect(page).to_have_url(re.compile("x0="))
    x0, x1, y0, y1 = (float(tab.query[each][0]) for each in ("x0", "x1", "y0", "y1"))
    inside = [
        each
        for each in tab.api("pairs", run=several)
        if x0 <= each["score_a"] <= x1 and y0 <= each["score_b"] <= y1
    ]
    assert 0 < len(inside) < N_TEST
    expect(page.get_by_role("heading", name=f"{len(inside)} sample")).to_be_visible()
    shared = window().page
    shared.goto(page.url)
    expect(shared.get_by_role("heading", name=f"{len(inside)} sample")).to_be_visible()
    tab.back()
    expect(page.get_by_role("heading", name="All samples")).to_be_visible()


def test_a_region_of_action_and_entropy_can_be_drawn_and_typed(tab, runs):
    several = [runs[each] for each in MODELS]
    page = tab.open("compare", run=several, view="entropy")
    chart = page.locator("[data-chart=scatter]")
    expect(chart.locator("canvas")).to_be_visible()
    tab.drag(chart, (0.4, 0.75), (0.95, 0.4))
    expect(page).to_have_url(re.compile("y1="))
    page.get_by_label("action from").fill("0.25")
    page.get_by_label("action from").press("Enter")
    expect(page).to_have_url(re.compile(r"x0=0\.25"))
    bounds = [float(tab.query[each][0]) for each in ("x0", "x1", "y0", "y1")]
    inside = [
        each
        for each in tab.api("entropy", run=several)
        if bounds[0] <= each["action"] <= bounds[1] and bounds[2] <= each["entropy"] <= bounds[3]
    ]
    expect(page.get_by_role("heading", name=f"{len(inside)} sample")).to_be_visible()


def test_wrong_predictions_differ_from_right_ones_by_more_than_colour(tab, runs):
    page = tab.open("compare", run=[runs["mlp-0"], runs["mlp-1"]], view="entropy")
    chart = page.locator("[data-chart=scatter]")
    expect(chart.locator("canvas")).to_be_visible()
    symbols = chart.evaluate(
        "found => echarts.getInstanceByDom(found).getOption().series.map(each => each.symbol)"
    )
    assert len(symbols) == len(set(symbols)) == 2


def test_keys_change_the_view_of_a_comparison(tab, runs):
    page = tab.open("compare", run=[runs["linear-0"], runs["mlp-0"]])
    page.keyboard.press("3")
    expect(page.get_by_role("heading", name="Hard for linear, easy for mlp")).to_be_visible()
    tab.settled().locator("select[name=hard]").select_option("mlp")
    expect(page.get_by_role("heading", name="Hard for mlp, easy for linear")).to_be_visible()


CONTRAST = """cells => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((each) => {
      const share = each / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  return cells.map((cell) => {
    const style = getComputedStyle(cell);
    const [dark, bright] = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tone_of_the_heat_map_can_be_read(window, runs, scheme):
    tab = window(color_scheme=scheme)
    page = tab.open("compare", run=[runs["linear-0"], runs["mlp-0"]])
    expect(page.locator(WAITING)).to_have_count(0)
    page.locator(".heat td[class^=t]").evaluate_all(
        """cells => cells.slice(0, 21).forEach((cell, tone) => {
          cell.className = `t${tone}`;
        })"""
    )
    contrasts = page.locator(".heat td[class^=t]").evaluate_all(CONTRAST)
    assert min(contrasts) >= 4.5  # WCAG 2.2, AA


# Review


def test_samples_are_judged_by_the_keyboard(tab, runs):
    run_id = runs["linear-1"]
    ids = [each["sample_id"] for each in tab.api("scores", run=run_id)]
    labels = {each["sample_id"]: each["class"] for each in tab.api("scores", run=run_id)}
    page = tab.open("review", run=run_id)
    place = page.get_by_text(re.compile(r"^Sample \d+"))
    right = next(at for at, name in enumerate(NAMES) if name != labels[ids[1]])
    for number, key in enumerate(("f", str(right), "a", "w")):
        expect(place).to_contain_text(f"Sample {ids[number]},")
        tab.settled().keyboard.press(key)
    expect(place).to_contain_text(f"Sample {ids[4]},")
    expect(page.get_by_text("4 of 200 judged")).to_be_visible()
    given = {each["sample_id"]: each for each in tab.api("verdicts", run=run_id)}
    assert [given[each]["verdict"] for each in ids[:4]] == [
        "fine", "wrong_label", "ambiguous", "wrong_label",
    ]  # fmt: skip
    assert given[ids[1]]["new_class"] == NAMES[right]
    assert given[ids[3]]["new_class"] is None
    first = page.get_by_role("region", name="Precision at k").locator("tbody tr").first
    expect(first).to_contain_text("0.50")  # two wrong labels among four
    tab.settled().keyboard.press("ArrowLeft")
    expect(place).to_contain_text(f"Sample {ids[3]},")
    tab.settled().keyboard.press("x")
    expect(page.get_by_text("3 of 200 judged")).to_be_visible()


@pytest.mark.parametrize("way", ["key", "button"])
def test_a_suggested_class_is_taken_by_one_key_or_one_click(tab, runs, way):
    run_id = runs["training"]
    first, second = tab.api("scores", run=run_id, score="p_wrong")[:2]
    page = tab.open("run", run=run_id)
    page.get_by_role("link", name="Review the most suspect first").click()
    tab.settled()
    assert tab.query["score"] == ["p_wrong"]
    place = page.get_by_text(re.compile(r"^Sample \d+"))
    expect(place).to_contain_text(f"Sample {first['sample_id']},")
    button = page.get_by_role("button", name=f"{NAMES[first['suggested_class']]} is right s")
    expect(button.locator("kbd")).to_have_text("s")
    if way == "key":
        page.keyboard.press("s")
    else:
        button.click()
    expect(place).to_contain_text(f"Sample {second['sample_id']},")
    assert tab.query["score"] == ["p_wrong"]
    (verdict,) = tab.api("verdicts", run=run_id)
    assert (verdict["sample_id"], verdict["verdict"]) == (first["sample_id"], "wrong_label")
    assert verdict["new_label"] == first["suggested_class"]
    assert verdict["new_class"] == NAMES[first["suggested_class"]]
    tab.settled().keyboard.press("ArrowLeft")
    expect(place).to_contain_text(f"Sample {first['sample_id']},")
    tab.settled().keyboard.press("x")
    expect(page.get_by_text("0 of 500 judged")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_key_on_a_button_in_colour_can_be_read(window, runs, scheme):
    page = window(color_scheme=scheme).open("review", run=runs["training"], score="p_wrong")
    (contrast,) = page.locator("button.primary kbd").evaluate_all(CONTRAST)
    assert contrast >= 4.5  # WCAG 2.2, AA


def test_letters_in_a_note_are_no_verdicts(tab, runs):
    page = tab.open("review", run=runs["linear-0"])
    page.get_by_label("Note").press_sequentially("fa7")
    expect(page.get_by_label("Note")).to_have_value("fa7")
    assert not tab.api("verdicts", run=runs["linear-0"])
