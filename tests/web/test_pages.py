"""The pages as HTML, without a browser: what they show, where they link, what they do not hold."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import pytest
from records import HOSTILE, N_TEST

import actiontrack.web
from actiontrack.analysis import verdicts
from actiontrack.store import Store
from actiontrack.testing import make_history, record_history
from actiontrack.web.permissions import READ, Everybody

STATIC = Path(actiontrack.web.__file__).parent / "static"
ROOT = "/actiontrack/"
LINKS = ("href", "src", "hx-get", "data-source")
VOID = {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "rect"}


class Html(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.text += " " if tag in {"td", "th", "small"} else ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text += data

    def all(self, tag, **attributes):
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]

    def links(self):
        return [
            value
            for tag, found in self.elements
            for key, value in found.items()
            if tag != "form" and key in LINKS and not value.startswith("#")
        ]


@pytest.fixture
def page(site):
    """A function that gets a page: its name and parameters to its HTML."""

    def get(name="", status=200, client=site, **parameters):
        answer = client.get(f"{ROOT}{name}?{urlencode(parameters, doseq=True)}")
        text = answer.get_data(as_text=True)
        assert answer.status_code == status, text
        assert answer.mimetype == "text/html"
        return Html(text)

    return get


def ids_of(html):
    """Ids of the samples that a page links to, in order."""
    links = [found["href"] for found in html.all("a", **{"class": "tile"})]
    return [parse_qs(urlsplit(link).query)["id"][0] for link in links]


def every_page(runs):
    """Name and parameters of pages of every kind."""
    models = ("linear-0", "linear-1", "mlp-0", "mlp-1")
    four = {"run": [runs[each] for each in models]}
    views = ("correlations", "scatter", "contrasts", "entropy")
    yield "", {}
    yield "compare", {}
    yield from (("compare", four | {"view": each}) for each in views)
    yield "compare", four | {"intervals": 1}
    yield "compare", {"run": [runs["mlp-0"]]}
    yield "compare", {"run": [runs["mlp-0"], runs["detection"]]}
    for name, run_id in runs.items():
        record = {"run": run_id}
        first = {"regression": "house 3", "hostile": f"{HOSTILE[0]} 0"}.get(name, 3)
        yield "run", record
        yield "run", record | {"show": "table", "order": "easiest", "log": 1}
        yield "sample", record | {"id": first}
        yield "review", record


@pytest.fixture(scope="module")
def pages(site, runs):
    """Every page of `every_page`: its address and its HTML."""
    found = {}
    for name, parameters in every_page(runs):
        address = f"{ROOT}{name}?{urlencode(parameters, doseq=True)}"
        answer = site.get(address)
        assert answer.status_code == 200, (address, answer.get_data(as_text=True))
        found[address] = answer.get_data(as_text=True)
    return found


# Everywhere


def test_no_page_has_a_script_or_a_style_of_its_own(pages):
    for address, text in pages.items():
        html = Html(text)
        assert all(found.get("src") for found in html.all("script")), address
        assert not html.all("style"), address
        for tag, found in html.elements:
            wrong = [key for key in found if key == "style" or key.startswith("on")]
            assert not wrong, (address, tag, wrong)


def test_every_link_of_every_page_leads_to_our_server_and_works(pages, site):
    shapes = {}  # one link of each shape: thousands differ in the id of their sample only
    for address, text in pages.items():
        for link in Html(text).links():
            parts = urlsplit(urljoin(address, link))
            assert not parts.scheme, link
            query = parse_qs(parts.query)
            kind = tuple(query.get(each, [""])[0] for each in ("format", "view", "name"))
            shapes[parts.path, frozenset(query), kind] = parts.geturl().partition("#")[0]
    del shapes["/", frozenset(), ("", "", "")]  # MLflow's own page
    assert len(shapes) > 60
    for link in shapes.values():
        with site.get(link) as answer:
            assert answer.status_code == 200, link


def test_every_image_and_field_has_a_name(pages):
    for address, text in pages.items():
        html = Html(text)
        assert all(found.get("alt") for found in html.all("img")), address
        fields = [each for each in html.all("input") if each.get("type") != "hidden"]
        boxes = [each for each in fields if each.get("type") == "checkbox"]
        assert all(each.get("aria-label") or each["name"] != "pick" for each in boxes), address
        assert len(re.findall(r"<h1[ >]", text)) == 1, address
        assert '<html lang="en">' in text


def test_ids_of_elements_are_unique(pages):
    for address, text in pages.items():
        ids = [found["id"] for _, found in Html(text).elements if "id" in found]
        assert len(ids) == len(set(ids)), address


def test_names_from_records_are_text(page, runs):
    html = page("run", run=runs["hostile"], per_page=200)
    for name in HOSTILE:
        assert name in html.text
    assert not html.all("i")
    assert not [found for found in html.all("img") if found["src"] == "x"]
    links = [urlsplit(each) for each in html.links()]
    assert {each.scheme for each in links} == {""}
    assert {each.netloc for each in links} == {""}


def test_the_policy_of_every_page_forbids_inline_code(site, runs):
    policy = site.get(f"{ROOT}run?run={runs['mlp-0']}").headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_dark_colours_of_the_system_are_those_of_the_dark_theme():
    """CSS has no way to say them once: charts read the variables as they are written."""
    text = (STATIC / "app.css").read_text()
    rules = (r':root\[data-theme="dark"\]', r":root:not\(\[data-theme\]\)")
    chosen, system = (re.search(rule + r" \{(.*?)\}", text, re.DOTALL).group(1) for rule in rules)
    assert chosen.split() == system.split()
    assert "--text:" in chosen


# Vendored files


def vendored():
    table = (STATIC / "vendor" / "README.md").read_text()
    return re.findall(r"^\| (\S+) \| .* \| ([0-9a-f]{64}) \|$", table, re.MULTILINE)


@pytest.mark.parametrize(("name", "digest"), vendored())
def test_a_vendored_file_is_the_one_that_the_table_names(name, digest):
    assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest


def test_every_vendored_script_is_in_the_table():
    scripts = {each.name for each in (STATIC / "vendor").glob("*.js")}
    assert scripts == {name for name, _ in vendored()}


# Runs


def test_an_incomplete_record_is_marked(page):
    html = page(state="incomplete")
    assert "stopped" in html.text
    assert "incomplete" in html.text
    assert "mlp-0" not in html.text


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"q": "MLP"}, {"mlp-0", "mlp-1"}),
        ({"model": ["guess", "pixelwise"]}, {"boxes", "foreground"}),
        ({"tag": "owner=ada", "model": "linear"}, {"linear-0", "linear-1"}),
        ({"experiment": "<i>hostile</i>"}, {"linear-7"}),
        ({"dataset": "digits", "state": "incomplete"}, {"stopped"}),
    ],
)
def test_filters_choose_runs(page, parameters, expected):
    boxes = page(**parameters).all("input", type="checkbox", name="pick")
    assert {each["aria-label"] for each in boxes} == {
        f"Compare {name}, test-probe" for name in expected
    }


def test_filters_that_let_nothing_through_say_how_to_go_on(page):
    assert "Remove one of them" in page(q="no such run").text


def test_a_store_without_records_says_how_to_record(page, empty_database, make_client, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_database.read_bytes())
    client = make_client(Store(f"sqlite:///{path}"))
    assert "make train" in page(client=client).text
    assert "Pick them on the page" in page("compare", client=client).text


# A run and its samples


def test_samples_come_in_the_order_of_the_api(page, get, runs):
    wanted = {"run": runs["mlp-0"], "order": "easiest", "score": "aum", "per_page": 24, "page": 2}
    body = get("scores", **wanted)
    at = body["columns"].index("sample_id")
    assert ids_of(page("run", **wanted)) == [str(row[at]) for row in body["rows"]]


def test_pages_hold_every_sample_once(page, runs):
    pages = [page("run", run=runs["mlp-0"], page=each) for each in range(1, 6)]
    found = [each for html in pages for each in ids_of(html)]
    assert sorted(map(int, found)) == list(range(N_TEST))


def test_filters_choose_samples(page, get, runs):
    wanted = {"run": runs["mlp-0"], "class": ["one", "six"], "correct": "wrong", "low": 20}
    body = get("scores", **wanted)
    assert 0 < body["total"] < N_TEST
    assert len(ids_of(page("run", **wanted))) == body["total"]


def test_filters_go_along_to_a_sample_and_back(page, runs):
    wanted = {"run": runs["mlp-0"], "class": "one", "correct": "wrong", "order": "easiest"}
    tile = page("run", **wanted).all("a", **{"class": "tile"})[1]
    html = page("sample", **parse_qs(urlsplit(tile["href"]).query))
    (up,) = html.all("a", **{"data-keys": "u"})
    query = parse_qs(urlsplit(up["href"]).query)
    assert query == {key: [value] for key, value in wanted.items()} | {"record": ["test-probe"]}
    assert "2 of" in html.text


def test_previous_and_next_follow_the_order(page, runs):
    wanted = {"run": runs["mlp-0"], "correct": "wrong", "order": "easiest"}
    ids = ids_of(page("run", **wanted))
    html = page("sample", id=ids[1], **wanted)
    around = [html.all("a", rel=each)[0]["href"] for each in ("prev", "next")]
    assert [parse_qs(urlsplit(each).query)["id"][0] for each in around] == [ids[0], ids[2]]


def test_a_sample_that_the_filters_leave_out_is_shown_all_the_same(page, runs):
    html = page("sample", run=runs["mlp-0"], id=3, high=0.001)
    assert "hidden by the filters" in html.text


def test_a_wrong_label_is_told_with_the_truth(page, get, runs):
    body = get(
        "scores", run=runs["mlp-0"], per_page=N_TEST, columns=["sample_id", "label", "true_label"]
    )
    wrong = next(row for row in body["rows"] if row[1] != row[2])
    assert "label is wrong" in page("sample", run=runs["mlp-0"], id=wrong[0]).text


def test_ranks_are_told_for_every_score(page, get, runs):
    body = get("scores", run=runs["mlp-0"], score="final_loss", per_page=7)
    at = body["columns"].index("sample_id")
    html = page("sample", run=runs["mlp-0"], id=body["rows"][6][at])
    row = re.search(r"final_loss\s+(\S+)\s+(\d+)", re.sub(r"\s+", " ", html.text))
    assert row.group(2) == "7"


def test_other_runs_on_the_same_samples_are_drawn_beside(page, runs):
    (curve,) = page("sample", run=runs["mlp-0"], id=3).all("div", **{"data-chart": "curves"})
    drawn = parse_qs(urlsplit(curve["data-source"]).query)["run"]
    assert drawn[0] == runs["mlp-0"]
    assert set(drawn) == {runs[each] for each in ("mlp-0", "mlp-1", "linear-0", "linear-1")}


def test_a_segmented_sample_has_its_map_and_pictures(page, runs):
    html = page("sample", run=runs["segmentation"], id=3)
    sources = [each["src"] for each in html.all("img")]
    assert any("/api/map?" in each for each in sources)
    assert sum("/api/picture?" in each for each in sources) == 2


def test_a_detected_sample_has_its_boxes(page, get, runs):
    body = get("boxes", run=runs["detection"], id=3)
    rects = page("sample", run=runs["detection"], id=3).all("rect")
    assert [each["class"] for each in rects] == ["truth", "prediction"]
    columns = [body["columns"].index(each) for each in ("left", "top")]
    assert [(float(each["x"]), float(each["y"])) for each in rects] == [
        tuple(float(row[at]) for at in columns) for row in body["rows"]
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("regression", "have no labels"),
        ("regression", "no images of these samples"),
        ("stopped", "was interrupted"),
        ("stopped", "three epochs"),
    ],
)
def test_a_run_page_says_what_is_missing(page, runs, name, sentence):
    assert sentence in page("run", run=runs[name]).text


def test_a_sample_page_says_what_is_missing(page, runs):
    text = page("sample", run=runs["regression"], id="house 3").text
    assert "holds no features" in text
    assert "No other run" in text
    assert "no images" in text


def test_filters_that_no_sample_passes_say_how_to_go_on(page, runs):
    assert "show all samples" in page("run", run=runs["mlp-0"], low=1e6).text


# Compare


def test_the_heat_map_has_the_values_of_the_api(page, get, runs):
    several = [runs[each] for each in ("linear-0", "linear-1", "mlp-0", "mlp-1")]
    body = get("correlations", run=several, method="spearman")
    at = body["columns"].index("mean")
    expected = sorted(f"{row[at]:.2f}" for row in body["rows"])
    text = page("compare", run=several).text
    shown = re.findall(r"\d\.\d\d(?= ?…)", text)
    assert sorted(shown) == expected


def test_intervals_come_with_the_second_request(page, runs):
    several = [runs["linear-0"], runs["mlp-0"]]
    (first,) = page("compare", run=several).all("div", id="heat")
    assert first["hx-trigger"] == "load"
    html = page("compare", **parse_qs(urlsplit(first["hx-get"]).query))
    assert "hx-get" not in html.all("div", id="heat")[0]
    assert re.search(r"\d\.\d\d to \d\.\d\d", html.text)


def test_runs_that_differ_in_their_samples_are_refused_with_a_reason(page, runs):
    text = page("compare", run=[runs["mlp-0"], runs["detection"]]).text
    assert "loss" in text
    assert "Correlations" in text  # the other views can still be chosen


def test_a_region_holds_the_samples_in_it(page, get, runs):
    several = [runs["linear-0"], runs["mlp-0"]]
    body = get("pairs", run=several, per_page=N_TEST)
    named = [dict(zip(body["columns"], row, strict=True)) for row in body["rows"]]
    inside = [each for each in named if 5 <= each["score_a"] <= 20 and each["score_b"] <= 6]
    inside.sort(key=lambda each: -each["score_a"])
    wanted = {"run": several, "view": "scatter", "x0": 5, "x1": 20, "y1": 6, "per_page": 200}
    assert ids_of(page("compare", **wanted)) == [str(each["sample_id"]) for each in inside]


def test_action_and_entropy_of_one_run_or_of_all(page, runs):
    several = [runs["mlp-0"], runs["mlp-1"]]
    for of, expected in (("all", several), ("2", [runs["mlp-1"]])):
        html = page("compare", run=several, view="entropy", of=of)
        (chart,) = html.all("div", **{"data-chart": "scatter"})
        assert parse_qs(urlsplit(chart["data-source"]).query)["run"] == expected


def test_entropy_of_a_record_without_it_says_so(page, runs):
    assert "holds no entropy" in page("compare", run=runs["regression"], view="entropy").text


def test_runs_of_one_model_have_no_contrast(page, runs):
    html = page("compare", run=[runs["mlp-0"], runs["mlp-1"]], view="contrasts")
    assert "Add a run of another model" in html.text


def test_contrasts_are_those_of_the_api(page, get, runs):
    several = [runs["mlp-0"], runs["linear-0"]]
    body = get("contrasts", run=several, n=36)
    named = [dict(zip(body["columns"], row, strict=True)) for row in body["rows"]]
    expected = [str(each["sample_id"]) for each in named if each["hard_for"] == "mlp"]
    html = page("compare", run=several, view="contrasts", hard="mlp")
    assert ids_of(html) == expected


# Review


def token(client, run_id):
    text = client.get(f"{ROOT}review?run={run_id}").get_data(as_text=True)
    (field,) = Html(text).all("input", name="csrf_token")
    return field["value"]


@pytest.fixture
def judge(site):
    """A function that sends a verdict as the form of a page does, and gives the answer."""

    def send(run_id, sample_id, client=site, **fields):
        fields |= {"run": run_id, "id": sample_id, "csrf_token": token(client, run_id)}
        return client.post(f"{ROOT}review", data=fields)

    return send


def test_a_verdict_leads_to_the_next_sample(judge, page, get, runs):
    run_id = runs["segmentation"]
    body = get("scores", run=run_id, order="easiest")
    ids = [row[body["columns"].index("sample_id")] for row in body["rows"]]
    answer = judge(run_id, ids[0], verdict="ambiguous", order="easiest")
    assert answer.status_code == 303
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query["id"] == [str(ids[1])]
    assert query["order"] == ["easiest"]
    assert "ambiguous" in page("review", run=run_id).text
    assert "1 of 24 judged" in page("review", run=run_id).text
    judge(run_id, ids[0], verdict="withdrawn")
    assert "0 of 24 judged" in page("review", run=run_id).text


def test_a_new_label_is_stored_with_a_wrong_one(judge, get, page, runs):
    run_id = runs["hostile"]
    sample = f"{HOSTILE[1]} 4"
    judge(run_id, sample, wrong="2", note="<b>look</b>")
    body = get("verdicts", run=run_id)
    row = dict(zip(body["columns"], body["rows"][-1], strict=True))
    assert (row["sample_id"], row["verdict"]) == (sample, "wrong_label")
    assert (row["new_label"], row["new_class"]) == (2, HOSTILE[2])
    html = page("review", run=run_id)
    assert "“<b>look</b>”" in html.text
    assert not html.all("b")


def test_among_many_classes_the_right_one_is_chosen_from_a_list(
    judge, page, make_client, new_run, store, spool
):
    run_id, history = new_run(), make_history(n_samples=30, n_classes=12)
    record_history(history, run_id, store, spool)
    client, own = make_client(store), int(history.labels[3])
    html = page("review", client=client, run=run_id, id=3)
    listed = [each["value"] for each in html.all("option")]
    assert listed == ["", *(str(each) for each in range(12) if each != own)]
    other = (own + 1) % 12
    assert judge(run_id, 3, client, wrong="chosen", chosen=other).status_code == 303
    assert f"class {other}" in page("review", client=client, run=run_id).text
    assert judge(run_id, 3, client, wrong="chosen", chosen="").status_code == 303
    body = client.get(f"{ROOT}api/verdicts?run={run_id}&current=0").get_json()
    at = body["columns"].index("new_label")
    assert [row[at] for row in body["rows"]] == [other, None]


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "nonsense"},
        {"wrong": "x"},
        {"wrong": "99"},
        {"wrong": "9" * 5000},
        {"wrong": "chosen", "chosen": "-1"},
        {},
        {"verdict": "fine", "more": 1},
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused(judge, runs, fields):
    answer = judge(runs["mlp-1"], 3, **fields)
    assert answer.status_code == 400


def test_a_review_page_reads_the_verdicts_once_and_names_each_label(
    judge, page, get, runs, monkeypatch
):
    run_id = runs["linear-1"]
    body = get("scores", run=run_id, per_page=3, columns=["sample_id", "class"])
    for sample, _ in body["rows"]:
        judge(run_id, sample, verdict="fine")
    read, calls = verdicts.read, []
    monkeypatch.setattr(verdicts, "read", lambda record: calls.append(record) or read(record))
    text = re.sub(r"\s+", " ", page("review", run=run_id).text)
    assert len(calls) == 1
    for sample, label in body["rows"]:
        assert f" {sample} {label} fine" in text
        judge(run_id, sample, verdict="withdrawn")


def test_a_reader_sees_no_buttons(page, recorded, make_client, runs):
    class Reader(Everybody):
        def may_use_run(self, _run_id, right):
            return right == READ

    html = page("review", client=make_client(Store(recorded[0]), Reader()), run=runs["mlp-0"])
    assert not html.all("form", method="post")
    assert "ask for the permission" in html.text


# Errors


@pytest.mark.parametrize(
    ("name", "parameters", "status"),
    [
        ("run", {}, 400),
        ("run", {"run": "mlp-0", "order": "sideways"}, 400),
        ("run", {"run": "mlp-0", "score": "beauty"}, 400),
        ("run", {"run": "mlp-0", "low": "much"}, 400),
        ("run", {"run": "mlp-0", "page": "0"}, 400),
        ("run", {"run": "mlp-0", "clas": "one"}, 400),
        ("run", {"run": "mlp-0", "class": "eleven"}, 400),
        ("run", {"run": "mlp-0", "record": "train-probe"}, 404),
        ("sample", {"run": "mlp-0"}, 400),
        ("sample", {"run": "mlp-0", "id": "1000"}, 404),
        ("compare", {"run": "mlp-0", "view": "sideways"}, 400),
    ],
)
def test_a_wrong_address_is_told(page, runs, name, parameters, status):
    parameters = {key: runs.get(value, value) for key, value in parameters.items()}
    html = page(name, status=status, **parameters)
    assert html.all("div", **{"class": "note warn"})
    assert html.all("a", href=ROOT)
    assert html.all("div", id="results")  # where a part of a page was asked for
