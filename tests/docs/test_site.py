"""The built site holds every command, option, field, score, plot, route and name that there is."""

import importlib
import re
import sys
from dataclasses import fields
from pathlib import Path
from urllib.parse import urldefrag

import click
import pytest
import yaml
from bs4 import BeautifulSoup
from helpers import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT / "docs"))
from hooks import public_modules

import actiontrack
from actiontrack import errors, plots, scores
from actiontrack.cli import cli
from actiontrack.history import MEASURES
from actiontrack.record.disk import FileEntry
from actiontrack.record.manifest import Manifest
from actiontrack.record.paths import (
    BOXES,
    FEATURES,
    MANIFEST,
    MAP_INDEX,
    PROBABILITIES,
    SAMPLES,
    SCORES,
    THUMBNAILS,
    block_path,
    losses_path,
    map_path,
    picture_path,
)
from actiontrack.record.pictures import BOX_COLUMNS
from actiontrack.record.samples import Samples
from actiontrack.record.steps import Block, StepEntry, StepTotals
from actiontrack.testing import make_history
from actiontrack.web.app import routes
from actiontrack.web.routes import PREFIX

FIGURES = ROOT / "docs" / "figures"
MAX_FIGURE_BYTES, MAX_FIGURES_BYTES = 120_000, 1_500_000


@pytest.fixture(scope="session")
def page(built_site):
    """A function from the name of a page to its parsed content."""
    parsed = {}

    def get(name):
        if name not in parsed:
            text = (built_site / name).read_text(encoding="utf-8")
            parsed[name] = BeautifulSoup(text, "html.parser")
        return parsed[name]

    return get


@pytest.fixture(scope="session")
def words(page):
    """A function from the name of a page to the texts of its code spans, and of all its text."""

    def get(name):
        article = page(name).find("article")
        return {each.get_text() for each in article.find_all("code")}, article.get_text(" ")

    return get


def all_commands():
    """(name, command) of every command."""
    return [
        ("actiontrack", cli),
        *((f"actiontrack {name}", each) for name, each in cli.commands.items()),
    ]


@pytest.mark.parametrize(
    ("name", "command"), all_commands(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_the_command_reference_holds_every_command_and_option(name, command, page):
    text = _section(page("cli.html"), name.replace(" ", "-"))
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert option in re.split(r"[\s,/`]+", text), f"{name} {option}"
            assert parameter.help, f"{name} {parameter.name} has no help"
    summary = (command.help or "").split("\n\n")[0].split(". ")[0]
    assert " ".join(summary.split()) in " ".join(text.split())


@pytest.mark.parametrize("kind", [Manifest, Block, StepEntry, StepTotals, FileEntry, Samples])
def test_the_format_holds_every_field(kind, words):
    code, _ = words("format.html")
    names = {"sample_ids": "sample_id", "labels": "label", "true_labels": "true_label"}
    names |= {"paths": "path", "input_digests": "input_digest"}
    names = {Samples: names, FileEntry: {"digest": "blake3", "algorithm": "sha256"}}.get(kind, {})
    for field in fields(kind):
        name = names.get(field.name, field.name)
        assert name in code, f"docs/format.md does not describe {kind.__name__}.{field.name}"


def test_the_format_holds_every_file_measure_and_column_of_boxes(words):
    code, _ = words("format.html")
    files = [
        *(MANIFEST, SAMPLES, SCORES, FEATURES),
        *(PROBABILITIES, THUMBNAILS, BOXES, MAP_INDEX),
        *(losses_path(1), block_path(1), map_path(0), picture_path("NAME")),
    ]
    for name in (*files, *MEASURES, *BOX_COLUMNS):
        assert name in code, f"docs/format.md does not describe {name}"


def test_every_score_is_explained(words):
    history = make_history()
    columns = scores.score_table(history).columns.drop(["sample_id", "label"])
    code, _ = words("scores.html")
    assert set(columns) <= code


@pytest.mark.parametrize("name", [each for each in plots.__all__ if each != "save_figure"])
def test_every_plot_is_shown_with_a_picture_and_its_call(name, page):
    section = page("plots.html").find(id=name)
    assert section is not None, f"docs/plots.md has no section {name}"
    parts = _until_next_heading(section)
    sources = [image["src"] for part in parts for image in part.find_all("img")]
    assert f"figures/{name}.png" in sources
    called = "".join(part.get_text() for part in parts)
    assert f"plots.{name}(" in called or f"reporting.{_FETCHING.get(name)}(" in called
    with Image.open(FIGURES / f"{name}.png") as image:
        assert len(image.convert("RGB").getcolors(2**24)) > 8  # something is drawn


_FETCHING = {"gallery": "gallery", "pixel_maps": "pixel_figure"}


@pytest.mark.parametrize("path", sorted({each.path for each in routes()}))
def test_every_page_and_route_of_the_server_is_listed(path, words):
    pages, _ = words("deployment.html")
    api, _ = words("web.html")
    if path.startswith("/api/"):
        assert path.removeprefix("/api/") in api
    else:
        assert f"{PREFIX}{path}" in pages


def test_figures_are_small():
    sizes = [each.stat().st_size for each in FIGURES.iterdir()]
    assert max(sizes) <= MAX_FIGURE_BYTES
    assert sum(sizes) <= MAX_FIGURES_BYTES


def test_every_figure_is_one_of_a_plot():
    assert {each.stem for each in FIGURES.iterdir()} <= set(plots.__all__)


def test_every_entry_point_is_in_the_map_of_the_paper_or_the_experiments(words):
    entries = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    _, text = words("paper.html")
    _, more = words("experiments.html")
    missing = [
        each
        for each in set(entries) - {"main", "compare", "report"}
        if f"-e {each}" not in text and f"-e {each}" not in more
    ]
    assert not missing


@pytest.mark.parametrize(
    "what",
    [
        *(f"Fig. {each}" for each in range(1, 15)),
        *("Table 1", "eq. 1", "eq. 3", "eq. 4", "eq. 6", "eq. 7", "Supplement"),
        *("4.1", "4.2", "4.3", "4.4", "4.5", "4.6"),
    ],
)
def test_the_map_of_the_paper_names_every_section_figure_and_table(what, words):
    _, text = words("paper.html")
    if what.startswith("Fig. "):
        assert int(what.removeprefix("Fig. ")) in _numbers(text)
    else:
        assert what in text


def _numbers(text):
    """Numbers of the figures that a text names, also as "Fig. 1, 4" or "Fig. 1 to 5"."""
    found = set()
    for group in re.findall(r"Fig\. (\d+\w?(?:(?:, | to )\d+)*)", text):
        found |= {int(re.sub(r"\D", "", each)) for each in re.split(", | to ", group)}
    return found


def test_the_reference_holds_every_name_that_the_package_offers(page):
    index = page("reference/index.html")
    for name in actiontrack.__all__:
        link = index.find("a", string=re.compile(rf"\.{name}$"))
        assert link is not None, f"the reference does not link {name}"
        target, anchor = urldefrag(link["href"])
        assert page(f"reference/{target}").find(id=anchor) is not None


@pytest.mark.parametrize("module", public_modules())
def test_every_public_name_has_an_entry_on_the_page_of_its_module(module, page):
    entries = page(f"reference/{module.removeprefix('actiontrack.')}.html")
    names = importlib.import_module(module).__all__
    assert [name for name in names if entries.find(id=f"{module}.{name}") is None] == []


def test_exit_codes_are_listed(page):
    rows = [
        [cell.get_text() for cell in row.find_all("td")] for row in page("cli.html").find_all("tr")
    ]
    listed = {row[2]: row[0] for row in rows if len(row) == 3}
    codes = {
        name: str(value.exit_code)
        for name, value in vars(errors).items()
        if name in errors.__all__ and hasattr(value, "exit_code")
    }
    del codes["ActionTrackError"]  # the base of the others is never raised itself
    assert {name: listed.get(name) for name in codes} == codes


def test_the_questions_name_csl_and_aul(words):
    _, text = words("faq.html")
    assert "CSL" in text
    assert "AUL" in text


def test_no_page_loads_anything_from_elsewhere(built_site):
    loaded = []
    for path in built_site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded += re.findall(r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=\"([^\"]+)", text)
        loaded += re.findall(r"<link\b[^>]*?\bhref=\"([^\"]+)", text)
    assert any(each.endswith(".css") for each in loaded)
    assert any(each.endswith(".js") for each in loaded)
    for path in built_site.rglob("*.css"):
        loaded += re.findall(r"url\(['\"]?([^'\")]+)", path.read_text(encoding="utf-8"))
    assert not [each for each in loaded if re.match(r"(https?:)?//", each)]


def test_pages_do_not_name_a_machine(built_site):
    """None of the folders of the machine that builds them."""
    folders = {ROOT, ROOT.resolve(), Path.home(), built_site}
    if sys.prefix != sys.base_prefix:  # an environment of its own, not that of the system
        folders |= {Path(sys.prefix), Path(sys.prefix).resolve()}
    named = [str(each) for each in folders if len(each.parts) > 1]
    for path in built_site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        found = [each for each in named if re.search(rf"{re.escape(each)}(?![\w-])", text)]
        assert not found, f"{path.name} names {found}"


def _section(soup, anchor):
    """Text from the heading with this id to the next heading of any command."""
    heading = soup.find(id=anchor)
    assert heading is not None, f"no heading with the id {anchor}"
    return " ".join(each.get_text(" ") for each in [heading, *_until_next_heading(heading)])


def _until_next_heading(heading):
    parts = []
    for each in heading.find_next_siblings():
        if each.name in {"h1", "h2", "h3"}:
            break
        parts.append(each)
    return parts
