import base64
import html.parser
import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from actiontrack import plots
from actiontrack.errors import ParameterError
from actiontrack.report import Report, Section

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)> | [a](javascript:b) `c` *d* {{ e }}'


def png():
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(stream, "png")
    return stream.getvalue()


def figure():
    drawing = Figure(layout="constrained")
    drawing.subplots().plot([1, 2, 4])
    return drawing


def table():
    return pd.DataFrame(
        {
            "class": ["cat", "dog"],
            "action": np.array([3.14159, np.nan], np.float32),
            "n": [10000, 2],
        }
    )


@pytest.fixture
def report():
    return Report(
        title="Hard samples",
        sections=(
            Section(
                heading="Classes", text="One.\n\nTwo\nlines.", frame=table(), caption="By class."
            ),
            Section(heading="Curves & más", figure=figure(), caption="Loss by epoch."),
            Section(heading="Picture", figure=png()),
        ),
    )


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and whether each one is closed."""

    VOID = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


# ---------------------------------------------------------------- HTML


def test_the_page_is_well_formed_and_semantic(report):
    text = report.to_html()
    page = Page(text)
    assert page.open == []
    assert text.startswith("<!DOCTYPE html>\n")
    for tag in ("header", "nav", "main", "figure", "figcaption", "caption", "thead", "tbody", "h1"):
        assert page.all(tag), tag
    assert page.all("html") == [{"lang": "en"}]
    assert [section["id"] for section in page.all("section")] == [
        "01-classes", "02-curves-mas", "03-picture",
    ]  # fmt: skip
    assert [link["href"] for link in page.all("a")] == [
        "#01-classes", "#02-curves-mas", "#03-picture",
    ]  # fmt: skip
    assert all(head["scope"] == "col" for head in page.all("th"))


def test_the_page_loads_nothing_and_runs_nothing(report):
    page = Page(report.to_html())
    assert not page.all("script")
    assert not page.all("link")
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    policy = page.all("meta")[2]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "http://" not in report.to_html()
    assert "https://" not in report.to_html()


def test_the_page_fits_dark_rooms_paper_and_telephones(report):
    text = report.to_html()
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text
    assert ".scroll { overflow-x: auto" in text
    assert '<div class="scroll" role="region" aria-label="By class." tabindex="0">' in text


def test_figures_are_inlined_with_their_caption_as_alternative_text(report):
    images = Page(report.to_html()).all("img")
    assert [image["alt"] for image in images] == ["Loss by epoch.", "Picture"]
    data = [base64.b64decode(image["src"].split(",")[1]) for image in images]
    assert data[1] == png()
    assert Image.open(io.BytesIO(data[0])).format == "PNG"


def test_tables_show_the_numbers_short_and_missing_values_as_a_dash(report):
    text = report.to_html()
    assert re.findall(r"<td.*?>(.*?)</td>", text) == ["cat", "3.142", "10000", "dog", "–", "2"]
    assert re.findall(r"<th.*?>(.*?)</th>", text) == ["class", "action", "n"]
    assert '<td class="number">3.142</td>' in text


def test_paragraphs_are_split_at_blank_lines(report):
    assert "<p>One.</p>" in report.to_html()
    assert "<p>Two\nlines.</p>" in report.to_html()


def test_a_telling_index_is_shown_and_a_bare_one_is_not():
    frame = pd.DataFrame({"overall": [0.5]}, index=pd.Index(["a / b"], name="pair"))
    text = Report(title="t", sections=[Section(heading="h", frame=frame)]).to_html()
    assert re.findall(r"<th.*?>(.*?)</th>", text) == ["pair", "overall"]
    assert re.findall(r"<td.*?>(.*?)</td>", text) == ["a / b", "0.5"]


def test_long_tables_are_cut_on_the_page_and_whole_in_the_file(tmp_path):
    report = Report(
        title="t", sections=[Section(heading="h", frame=pd.DataFrame({"x": range(250)}))]
    )
    text = report.to_html()
    assert text.count("<tr>") == 201
    assert '<p class="note">The first 200 of 250 rows.</p>' in text
    paths = report.save(tmp_path)
    assert len(pd.read_csv(paths["tables/01-h.csv"])) == 250
    assert "The first 200 of 250 rows." in paths["report.md"].read_text(encoding="utf-8")


def test_an_empty_report_and_an_empty_table():
    page = Page(Report(title="nothing").to_html())
    assert page.all("h1")
    assert not page.all("nav")
    text = Report(title="t", sections=[Section(heading="h", frame=table().iloc[:0])]).to_html()
    assert Page(text).open == []
    assert len(re.findall("<th ", text)) == 3


def test_the_same_report_gives_the_same_page(report):
    assert report.to_html() == report.to_html()


# ---------------------------------------------------------------- injection


@pytest.fixture
def evil():
    frame = pd.DataFrame({EVIL: [EVIL], "action": [1.0]}, index=pd.Index([EVIL], name=EVIL + "?"))
    section = {"heading": EVIL, "text": EVIL, "caption": EVIL, "frame": frame}
    return Report(
        title=EVIL,
        sections=[Section(**section, figure=png()), Section(heading="", figure=figure())],
    )


def test_no_text_acts_as_html(evil):
    page = Page(evil.to_html())
    assert page.open == []
    assert not page.all("script")
    assert len(page.all("img")) == 2
    assert all(set(image) == {"alt", "src"} for image in page.all("img"))
    assert page.all("img")[0]["alt"] == EVIL
    assert page.text.count(EVIL) >= 8
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_no_text_acts_as_markdown(evil, tmp_path):
    text = evil.to_markdown(tmp_path)
    assert "<" not in text.replace("&lt;", "")
    bare = re.sub(r"\\.", "", text)
    assert "[a](" not in bare
    assert "`" not in bare
    rows = [line for line in bare.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4}


def test_a_plot_of_a_hostile_class_name_is_only_text(tmp_path):
    frame = pd.DataFrame({"class": [EVIL], "action": [1.0]})
    drawing = plots.class_distributions(frame).figure
    paths = Report(title="t", sections=[Section(heading="h", figure=drawing)]).save(tmp_path)
    svg = paths["figures/01-h.svg"].read_text(encoding="utf-8")
    assert "<script" not in svg
    assert "onerror=alert" not in re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)


def test_a_notebook_shows_the_page_in_a_sandbox(evil):
    frame = Page(evil._repr_html_())
    assert [tag for tag, _ in frame.tags] == ["iframe"]
    assert frame.all("iframe")[0]["sandbox"] == ""
    assert frame.all("iframe")[0]["srcdoc"] == evil.to_html()


# ---------------------------------------------------------------- files


def test_save_writes_every_file_it_names_and_no_other(report, tmp_path):
    paths = report.save(tmp_path / "deep" / "report")
    assert sorted(paths) == [
        "figures/02-curves-mas.png", "figures/02-curves-mas.svg", "figures/03-picture.png",
        "report.html", "report.md", "tables/01-classes.csv", "tables/01-classes.parquet",
    ]  # fmt: skip
    written = {path for path in (tmp_path / "deep" / "report").rglob("*") if path.is_file()}
    assert written == set(paths.values())


def test_saving_twice_gives_the_same_bytes(report, tmp_path):
    first, second = report.save(tmp_path / "a"), report.save(tmp_path / "b")
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name


def test_the_page_and_the_folder_show_the_same_picture(report, tmp_path):
    path = report.save(tmp_path)["figures/02-curves-mas.png"]
    assert base64.b64encode(path.read_bytes()).decode() in report.to_html()


def test_tables_are_read_back_with_their_types(report, tmp_path):
    paths = report.save(tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(paths["tables/01-classes.parquet"]), table())
    back = pd.read_csv(paths["tables/01-classes.csv"]).astype({"action": np.float32})
    pd.testing.assert_frame_equal(back, table())


def test_markdown_links_its_figures_and_holds_its_tables(report, tmp_path):
    text = report.to_markdown(tmp_path)
    assert text == (
        "# Hard samples\n\n"
        "## Classes\n\nOne\\.\n\nTwo lines\\.\n\n*By class\\.*\n\n"
        "| class | action | n |\n| --- | ---: | ---: |\n"
        "| cat | 3\\.142 | 10000 |\n| dog | – | 2 |\n\n"
        "## Curves &amp; más\n\n![Loss by epoch\\.](figures/02-curves-mas.png)\n\n"
        "*Loss by epoch\\.*\n\n"
        "## Picture\n\n![Picture](figures/03-picture.png)\n"
    )
    for name in re.findall(r"\((figures/.*?)\)", text):
        assert (tmp_path / name).is_file()


def test_headings_without_plain_letters_still_get_distinct_names(tmp_path):
    sections = [Section(heading="动作", frame=table()), Section(heading="../..", frame=table())]
    paths = Report(title="t", sections=sections).save(tmp_path)
    assert {"tables/01-section.csv", "tables/02-section.csv"} <= set(paths)


# ---------------------------------------------------------------- checks


def test_bytes_that_are_no_png_are_refused():
    text = (
        "figure: must be a PNG image, got b'GIF89a'. "
        "Pass a matplotlib figure or the content of a PNG file."
    )
    with pytest.raises(ParameterError, match=f"^{re.escape(text)}$"):
        Section(heading="h", figure=b"GIF89a")


def test_two_columns_of_one_name_are_refused():
    text = "frame: must have columns of distinct names, got ['class']. Rename one of them."
    frame = table().set_index(pd.Index(["a", "b"], name="class"))
    with pytest.raises(ParameterError, match=f"^{re.escape(text)}$"):
        Section(heading="h", frame=frame)
