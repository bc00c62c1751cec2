"""Tables as HTML, Markdown and LaTeX; whatever they hold is only text."""

import re
import shutil
import subprocess

import pandas as pd
import pytest
from report_pages import EVIL, A, Page, source, table

from actiontrack import plots
from actiontrack.reporting.document import Report, Section
from actiontrack.reporting.markup import latex_table


def test_tables_show_the_numbers_short_and_missing_values_as_a_dash(report):
    text = report.to_html()
    assert re.findall(r"<td.*?>(.*?)</td>", text) == ["cat", "3.142", "10000", "dog", "–", "2"]
    assert re.findall(r"<th.*?>(.*?)</th>", text) == ["class", "action", "n"]
    assert '<td class="number">3.142</td>' in text


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
