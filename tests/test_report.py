import base64
import html.parser
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from actiontrack import plots
from actiontrack.errors import ParameterError
from actiontrack.reporting import document as report_document
from actiontrack.reporting.document import Report, Section, Source
from actiontrack.reporting.markup import latex_table

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
    assert text.count("<tr>") == 51
    assert '<p class="note">The first 50 of 250 rows.</p>' in text
    paths = report.save(tmp_path)
    assert len(pd.read_csv(paths["tables/01-h.csv"])) == 250
    assert "The first 50 of 250 rows." in paths["report.md"].read_text(encoding="utf-8")


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
    assert [set(image) for image in page.all("img")] == [
        {"alt", "src"}, {"alt", "src", "width", "height"}
    ]  # fmt: skip
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


# ---------------------------------------------------------------- sources


def source(run_id, record="test-probe"):
    return Source(run_id=run_id, name=f"name of {run_id}", record=record, digest=run_id[0] * 64)


A, B, C = (letter * 32 for letter in "abc")


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


def test_run_ids_in_tables_are_short_and_lead_to_the_sources(tmp_path):
    frame = pd.DataFrame({"run_id": [A], "other": ["d" * 32]})
    report = Report(title="t", sections=[Section(heading="h", frame=frame)], sources=[source(A)])
    link = f'<td><a href="#run-{A}" title="{A}"><code>aaaaaaaa</code></a></td>'
    assert link in report.to_html()
    assert "d" * 32 in report.to_html()
    assert "| `aaaaaaaa` | " in report.to_markdown(tmp_path)
    paths = report.save(tmp_path)
    assert pd.read_csv(paths["tables/01-h.csv"])["run_id"].tolist() == [A]
    assert r"aaaaaaaa & ddd" in paths["tables/01-h.tex"].read_text(encoding="utf-8")


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


# ---------------------------------------------------------------- levels


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


# ---------------------------------------------------------------- LaTeX

HOSTILE_TEX = r"\input{/etc/passwd} 50% & $x^2_3$ #1 ~ {<a>} \\"


def tex_rows(text):
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    return [line for line in body.splitlines() if line.endswith(r"\\")]


def test_a_latex_table_has_its_rows_rules_caption_and_label():
    text = latex_table(table(), caption="By class.", label="x")
    assert tex_rows(text) == [
        r"class & action & n \\", r"cat & 3.142 & 10000 \\", r"dog & – & 2 \\"
    ]  # fmt: skip
    assert r"\begin{tabular}{lrr}" in text
    assert r"\caption{By class.}" in text
    assert r"\label{tab:x}" in text


def test_a_long_latex_table_breaks_across_pages_and_is_cut_as_on_the_page():
    text = latex_table(pd.DataFrame({"x": range(250)}), caption="Many.")
    assert r"\begin{longtable}{r}" in text
    assert r"\caption{Many. The first 50 of 250 rows.}" in text
    rows = [line for line in text.splitlines() if re.fullmatch(r"\d+ \\\\", line)]
    assert [int(row.split()[0]) for row in rows] == list(range(50))


def test_no_text_acts_as_latex():
    frame = pd.DataFrame({HOSTILE_TEX: [HOSTILE_TEX], "n": [1]})
    text = latex_table(frame, caption=HOSTILE_TEX)
    assert r"\input" not in text
    for row in tex_rows(text):
        assert len(re.findall(r"(?<!\\)&", row)) == 1
        assert not re.search(r"(?<!\\)[$#%_]", row)


@pytest.mark.parametrize("frame", [table(), pd.DataFrame({"ρ": range(60), HOSTILE_TEX: EVIL})])
def test_a_latex_engine_sets_the_table(frame, tmp_path):
    engine = shutil.which("lualatex")
    if engine is None:
        pytest.skip("no lualatex on this machine")
    body = latex_table(frame, caption=HOSTILE_TEX, label="t")
    document = (
        "\\documentclass{article}\\usepackage{booktabs,longtable}\n"
        f"\\begin{{document}}\n{body}\\end{{document}}\n"
    )
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


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
