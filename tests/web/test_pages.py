"""Every page: what none of them may hold, where their links lead, what a wrong address gets."""

import hashlib
import re
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import pytest
from pages_html import ROOT, Html
from records import HOSTILE

import actiontrack.web

STATIC = Path(actiontrack.web.__file__).parent / "static"


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
    for sample in (0, 3, 12):
        yield "tokens", {"run": runs["language"], "id": sample}


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
