"""The pages in a real browser, on a real `mlflow server --app-name actiontrack`.

The browser is the system's Chromium. Without one these tests are skipped, unless CI is set or
ACTIONTRACK_BROWSER is "required". Every page of every test must stay without complaint on the
console, and must ask nobody but our server for anything.
"""

import os
import re
import shutil
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from helpers import Server
from playwright.sync_api import expect, sync_playwright
from records import EPOCHS, HOSTILE, N_TEST, NAMES

NAMES_OF_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((found for each in NAMES_OF_BROWSERS if (found := shutil.which(each))), None)
NO_BROWSER = "no Chromium is installed (apt-get install chromium)"
REQUIRED = bool(os.environ.get("CI")) or os.environ.get("ACTIONTRACK_BROWSER") == "required"
expect.set_options(timeout=20_000)  # a machine that does other things beside
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
MODELS = ("linear-0", "linear-1", "mlp-0", "mlp-1")
WAITING = ".chart.waiting, [hx-trigger=load], .htmx-request"


pytestmark = pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason=NO_BROWSER)


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM is not None, NO_BROWSER
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield running
        running.close()


@pytest.fixture(scope="session")
def address(recorded, tmp_path_factory):
    """Address of our pages on a server process of its own."""
    folder = tmp_path_factory.mktemp("app")
    shutil.copy(recorded[0].removeprefix("sqlite:///"), folder / "server.db")
    server = Server(folder, app_name="actiontrack")
    yield server.uri
    server.kill()


class Window:
    """A tab of the browser that remembers what the pages complained about."""

    def __init__(self, context, root):
        self.root, self.complaints, self.strangers = root, [], []
        self.page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        self.page.on("request", self._on_request)

    def open(self, name="", **parameters):
        """Open a page and wait until everything on its screen is there."""
        query = f"?{urlencode(parameters, doseq=True)}" if parameters else ""
        self.page.goto(f"{self.root}/actiontrack/{name}{query}")
        return self.settled()

    def settled(self):
        expect(self.page.locator("html[data-ready=true]")).to_be_attached()
        return self.page

    def back(self):
        """Go back; a page that htmx has changed is loaded anew."""
        with self.page.expect_event("load"):
            self.page.evaluate("() => history.back()")
        return self.settled()

    def draw_all(self):
        """Make the window as tall as the page, so that every chart is drawn."""
        width = self.page.viewport_size["width"]
        height = self.page.evaluate("() => document.documentElement.scrollHeight")
        self.page.set_viewport_size({"width": width, "height": min(height + 400, 10_000)})
        expect(self.page.locator(WAITING)).to_have_count(0)

    @property
    def query(self):
        return parse_qs(urlsplit(self.page.url).query)

    def samples(self):
        """Ids of the samples on the page, in order."""
        links = self.page.locator("#results a.tile").evaluate_all(
            "found => found.map(each => each.getAttribute('href'))"
        )
        return [parse_qs(urlsplit(each).query)["id"][0] for each in links]

    def api(self, path, **parameters):
        """Rows of a table of the API, as dictionaries."""
        query = urlencode({"per_page": 1000} | parameters, doseq=True)
        answer = self.page.request.get(f"{self.root}/actiontrack/api/{path}?{query}").json()
        return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]

    def drag(self, locator, start, end):
        """Drag over an element, from and to shares of its width and height."""
        locator.scroll_into_view_if_needed()
        box = locator.bounding_box()
        places = [
            (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)
        ]
        mouse = self.page.mouse
        mouse.move(*places[0])
        mouse.down()
        mouse.move(*places[1], steps=6)
        mouse.up()

    def _on_console(self, message):
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _on_request(self, request):
        if not request.url.startswith((self.root, "data:", "blob:")):
            self.strangers.append(request.url)


@pytest.fixture
def window(browser, address):
    """A function that opens a window; at the end none of them may have complained."""
    contexts, windows = [], []

    def make(viewport=None, **options):
        contexts.append(browser.new_context(viewport=viewport or DESKTOP, **options))
        windows.append(Window(contexts[-1], address))
        return windows[-1]

    yield make
    complaints = [each for one in windows for each in one.complaints + one.strangers]
    for each in contexts:
        each.close()
    assert not complaints


@pytest.fixture
def tab(window):
    return window()


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
        "correlations": ("compare", four),
        "scatter": ("compare", four | {"view": "scatter", "x0": 3, "x1": 9}),
        "contrasts": ("compare", four | {"view": "contrasts"}),
        "entropy": ("compare", four | {"view": "entropy", "x0": 0.3}),
        "review": ("review", {"run": runs["hostile"]}),
    }


KINDS = (
    "runs", "run", "table", "bare run", "interrupted run", "sample", "hostile sample", "pixels",
    "boxes", "correlations", "scatter", "contrasts", "entropy", "review",
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


# Runs


def test_typing_filters_runs_and_the_address_says_so(tab):
    page = tab.open()
    page.get_by_label("Name or id").press_sequentially("mlp")
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page).to_have_url(re.compile(r"\?q=mlp$"))
    tab.back()
    expect(page.locator("tbody tr")).to_have_count(len(MODELS) + 5)


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
    expect(button).to_have_text("Compare 2 runs")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare 2 runs")
    assert set(tab.query["run"]) == {runs["linear-0"], runs["mlp-0"]}


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


def test_letters_in_a_note_are_no_verdicts(tab, runs):
    page = tab.open("review", run=runs["linear-0"])
    page.get_by_label("Note").press_sequentially("fa7")
    expect(page.get_by_label("Note")).to_have_value("fa7")
    assert not tab.api("verdicts", run=runs["linear-0"])


# Everywhere


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
    assert page.locator("#results a.tile").count() > 0


def test_mlflow_and_our_pages_link_to_each_other(tab, runs):
    page = tab.open("run", run=runs["mlp-0"])
    link = page.get_by_role("link", name="MLflow").last.get_attribute("href")
    assert link.endswith(f"/runs/{runs['mlp-0']}")
    assert link.startswith("/#/experiments/")
    text = page.request.get(f"{tab.root}/").text()
    assert 'id="actiontrack-link" href="/actiontrack/"' in text
