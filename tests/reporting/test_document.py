"""A report as a page, as Markdown and as files."""

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_pages import A, B, C, Page, png, source, table

from actiontrack.errors import ParameterError
from actiontrack.reporting import document as report_document
from actiontrack.reporting.document import Report, Section


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


def test_paragraphs_are_split_at_blank_lines(report):
    assert "<p>One.</p>" in report.to_html()
    assert "<p>Two\nlines.</p>" in report.to_html()


def test_an_empty_report_and_an_empty_table():
    page = Page(Report(title="nothing").to_html())
    assert page.all("h1")
    assert not page.all("nav")
    text = Report(title="t", sections=[Section(heading="h", frame=table().iloc[:0])]).to_html()
    assert Page(text).open == []
    assert len(re.findall("<th ", text)) == 3


def test_the_same_report_gives_the_same_page(report):
    assert report.to_html() == report.to_html()


def test_a_notebook_shows_the_page_in_a_sandbox(evil):
    frame = Page(evil._repr_html_())
    assert [tag for tag, _ in frame.tags] == ["iframe"]
    assert frame.all("iframe")[0]["sandbox"] == ""
    assert frame.all("iframe")[0]["srcdoc"] == evil.to_html()


def test_save_writes_every_file_it_names_and_no_other(report, tmp_path):
    paths = report.save(tmp_path / "deep" / "report")
    assert sorted(paths) == [
        "figures/02-curves-mas.png", "figures/02-curves-mas.svg", "figures/03-picture.png",
        "report.html", "report.json", "report.md",
        "tables/01-classes.csv", "tables/01-classes.parquet", "tables/01-classes.tex",
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


def test_each_figure_is_drawn_once_per_format(report, tmp_path, monkeypatch):
    drawn = []
    original = report_document.save_figure

    def counted(figure, stem, formats=("png", "svg")):
        drawn.extend(formats)
        return original(figure, stem, formats)

    monkeypatch.setattr(report_document, "save_figure", counted)
    report.save(tmp_path)
    report.to_html()
    assert sorted(drawn) == ["png", "svg"]


@pytest.fixture
def traced():
    """A report of three runs, one of which has two records."""
    sections = [
        Section(heading="All", text="1.", run_ids=(A, B, C)),
        Section(heading="One", text="2.", run_ids=(B,), frame=table()),
        Section(heading="Two", text="3.", run_ids=(A, C), level=3, figure=png()),
        Section(heading="Words", text="No numbers."),
    ]
    sources = [source(A), source(B), source(C), source(C, "train-probe")]
    return Report(title="Traced", sections=sections, sources=sources)


def test_every_section_names_its_runs_and_links_to_them(traced):
    text = traced.to_html()
    page = Page(text)
    assert page.open == []
    runs = [part.get("data-runs") for part in page.all("section")]
    assert runs == [f"{A} {B} {C}", B, f"{A} {C}", None, None]
    anchors = [row["id"] for row in page.all("tr") if "id" in row]
    assert anchors == [f"run-{each}" for each in (A, B, C)]
    links = [link["href"] for link in page.all("a") if link["href"].startswith("#run-")]
    assert links == [f"#run-{each}" for each in (B, A, C)]
    assert "From all 3 runs of this report." in page.text


def test_the_table_of_sources_holds_whole_ids_and_digests(traced, tmp_path):
    for text in (traced.to_html(), traced.to_markdown(tmp_path)):
        assert text.count("train-probe") + text.count(r"train\-probe") == 1
        assert all(each * 64 in text for each in "abc")


def test_markdown_names_the_runs_of_a_section(traced, tmp_path):
    text = traced.to_markdown(tmp_path)
    assert "*From run* `bbbbbbbb`\n" in text
    assert "*From 2 runs:* `aaaaaaaa`, `cccccccc`\n" in text
    assert "*From all 3 runs of this report\\.*\n" in text


def test_a_report_of_one_run_does_not_repeat_it(tmp_path):
    report = Report(
        title="t", sections=[Section(heading="h", text="1", run_ids=(A,))], sources=[source(A)]
    )
    assert "From run" not in report.to_html() + report.to_markdown(tmp_path)
    assert f'data-runs="{A}"' in report.to_html()


def test_json_says_which_runs_each_file_comes_from(traced, tmp_path):
    paths = traced.save(tmp_path)
    content = json.loads(paths["report.json"].read_text(encoding="utf-8"))
    assert content["title"] == "Traced"
    assert [each["run_id"] for each in content["sources"]] == [A, B, C, C]
    assert [each["run_ids"] for each in content["sections"]] == [[A, B, C], [B], [A, C], []]
    named = [path for each in content["sections"] for path in each["tables"] + each["figures"]]
    assert {"report.html", "report.md", "report.json", *named} == set(paths)


def test_a_run_that_is_no_source_is_refused():
    text = (
        f"run_ids: must be sources of the report (section 'h'), got '{A}'. "
        "Add the record to the sources."
    )
    with pytest.raises(ParameterError, match=f"^{re.escape(text)}$"):
        Report(title="t", sections=[Section(heading="h", run_ids=(A,))])


def test_a_part_of_a_section_is_nested_in_the_contents(traced, tmp_path):
    text = traced.to_html()
    contents = re.sub(r"\s+", "", text[text.index("<nav") : text.index("</nav>")])
    assert '<li><ahref="#02-one">One</a><ul><li><ahref="#03-two">Two</a></li></ul></li>' in contents
    assert "<h3>Two</h3>" in text
    assert "\n### Two\n" in traced.to_markdown(tmp_path)


@pytest.mark.parametrize("level", [1, 4])
def test_other_levels_are_refused(level):
    with pytest.raises(ParameterError, match=r"^level: must be 2 or 3"):
        Section(heading="h", level=level)


def test_a_report_cannot_begin_with_a_part():
    with pytest.raises(ParameterError, match=r"^level: must be 2 for the first section"):
        Report(title="t", sections=[Section(heading="h", level=3)])


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
