"""Text of records as names of files and as cells of spreadsheets."""

import csv
import io
import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actiontrack.record.escaping import (
    distinct_names,
    escape_cell,
    escape_cells,
    joined_name,
    read_csv,
    safe_name,
    to_csv,
    unescape_cell,
)

TEXTS = st.text(st.sampled_from("=+-@\t\r\n;,'\" 1.5eax\u2028\uff1dé"), max_size=12) | st.text()
FORMULAS = ["=1+1", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "\uff1d1"]
NUMBERS = ["-1", "+2.5", "-1.5e-07", "1e3", "-.5", "0"]


def runs(cell):
    """Whether a spreadsheet takes a cell for a formula, after OWASP's list."""
    text = cell.lstrip(' "\t\r')
    if text[:1] not in {*"=+-@\uff1d\uff0b\uff0d\uff20"}:
        return False
    return cell not in {"+", "-"} and not is_number(cell)


def is_number(text):
    try:
        return np.isfinite(float(text)) and text.isascii() and "_" not in text
    except ValueError:
        return False


def cells(text, delimiter):
    """Cells of a table as a spreadsheet that cuts rows at a delimiter finds them."""
    return [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            for cell in row]  # fmt: skip


# ---------------------------------------------------------------- cells


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_runs_gets_an_apostrophe_in_front(text):
    assert escape_cell(text).startswith("'")
    assert escape_cell(text).replace("'", "") == text.replace("'", "")


@pytest.mark.parametrize(
    "text", [*NUMBERS, "-", "+", "a=b", "a cat", "", "'quoted'", "3-4", "naïve"]
)
def test_a_text_that_runs_nothing_stays_as_it_is(text):
    assert escape_cell(text) == text


@given(TEXTS)
@example("'=1")
@example("''=1")
@example("x;=1")
@example('"=1"')
@example("\t\t=1")
def test_what_is_escaped_can_be_undone(text):
    assert unescape_cell(escape_cell(text)) == text


@given(st.lists(TEXTS, min_size=1, max_size=4))
@example(["x;=1+1"])
@example(['x;"=1+1"'])
@example(["one\n=1+1"])
@example([" =1"])
@example(["x;-5,5+cmd"])
@example(["x;-", '"&cmd'])
def test_no_cell_runs_in_a_spreadsheet_whatever_it_cuts_rows_at(texts):
    written = to_csv(pd.DataFrame([[1, *texts]]))
    for delimiter in ",;\t":
        assert not [cell for cell in cells(written, delimiter) if runs(cell)]


@pytest.mark.parametrize("first", [-1, -1.5, "-1", "-", "+"])
def test_a_row_that_begins_with_a_sign_does_not_go_on_as_a_formula(first):
    frame = pd.DataFrame({"id": [first], "class": ["5+A1"]})
    assert to_csv(frame).endswith(',"5+A1"\n')  # not -1,5+A1, which adds 1.5 where , is decimal
    assert to_csv(frame.assign(id=1)) == "id,class\n1,5+A1\n"


@given(st.lists(TEXTS.filter(lambda text: "\0" not in text), min_size=1, max_size=4))
@example(["one\rtwo", "three\u2028four"])
@example(["a\x0bb", "line\r\nbreak"])
def test_tables_keep_every_text_and_line_break(texts):
    frame = pd.DataFrame({"a": range(len(texts)), "text": texts})
    file = io.StringIO(to_csv(frame), newline="")
    rows = list(csv.reader(file))
    assert [unescape_cell(row[1]) for row in rows[1:]] == texts
    file.seek(0)
    read = read_csv(file, keep_default_na=False, dtype={"text": str})
    assert read["text"].tolist() == texts


def test_numbers_stay_numbers_and_names_of_columns_run_no_formula():
    frame = pd.DataFrame(
        {
            "=name": [-1.5, np.nan],
            "whole": pd.array([-1, None], dtype="Int64"),
            "mixed": [-2, "=x"],
            "class": pd.Categorical(["@home", "-"]),
            "text": pd.array(["+x", None], dtype="string"),
        }
    )
    rows = list(csv.reader(io.StringIO(to_csv(frame))))
    assert rows == [
        ["'=name", "whole", "mixed", "class", "text"],
        ["-1.5", "-1", "-2", "'@home", "'+x"],
        ["", "", "'=x", "-", ""],
    ]
    assert frame["class"].tolist() == ["@home", "-"]  # the table itself is not changed


def test_a_table_keeps_its_types():
    frame = pd.DataFrame({"f": [1.5], "c": pd.Categorical(["=a"]), "s": ["=b"], "t": [True]})
    assert escape_cells(frame).dtypes.map(str).tolist() == frame.dtypes.map(str).tolist()


def test_an_empty_table_has_its_columns():
    assert to_csv(pd.DataFrame(columns=["a", "=b"])) == "a,'=b\n"


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("text", ["x" * 300 + ".png", "é" * 200 + ".jpeg", "a/" * 200 + "b.webp"])
def test_a_long_name_keeps_its_ending(text):
    name = safe_name(text)
    assert len(name.encode()) <= 150
    assert name.endswith("." + text.rpartition(".")[2])


def test_long_names_that_differ_at_their_end_stay_apart():
    names = {safe_name("x" * 200 + f"{number}.png") for number in range(100)}
    assert len(names) == 100


@pytest.mark.parametrize(
    "text", ["CON", "con.png", "nul", "NUL.tar.gz", "Aux.jpg", "COM1.png", "lpt9", "prn .png"]
)
def test_names_of_devices_are_no_names_of_files(text):
    assert safe_name(text)[0] == "%"


@pytest.mark.parametrize("text", ["console.png", "com10.png", "nullable", "a.con"])
def test_names_that_begin_like_devices_stay(text):
    assert safe_name(text) == text


@pytest.mark.parametrize("text", ["a.", "a ", " a", "..", ".hidden", "a\n", "a\\b", "a:b", "a?b"])
def test_what_some_file_system_changes_is_encoded(text):
    name = safe_name(text)
    assert "%" in name
    assert name == name.strip(" .")


NAMES = st.lists(
    st.text(st.sampled_from("aAéE\u0301\u212b\u00c5ßs_-/."), min_size=1, max_size=4), max_size=8
)


@given(NAMES)
@example(["a", "A", "a-8254c329a928"])
def test_names_are_distinct_on_every_file_system(names):
    made = distinct_names(names, range(len(names)))
    for folded in (str.lower, str.casefold, str.upper):
        for form in ("NFC", "NFD"):
            assert len({unicodedata.normalize(form, folded(name)) for name in made}) == len(names)


def test_only_names_that_meet_change_whatever_their_order():
    names, keys = ["a.png", "A.png", "b.png"], ["first", "second", "third"]
    made = distinct_names(names, keys)
    assert made[2] == "b.png"
    assert [name[:2] for name in made[:2]] == ["a-", "A-"]
    assert all(name.endswith(".png") for name in made)
    assert distinct_names(names[::-1], keys[::-1]) == made[::-1]


def test_a_name_in_use_is_not_given_again():
    (name,) = distinct_names(["Kept.csv"], ["x"], taken=["kept.csv"])
    assert name.lower() != "kept.csv"


def test_parts_of_a_path_become_one_name():
    assert joined_name(["a", "x/1.png"]) == "a_x%2F1.png"
    long = joined_name(["a" * 140, "b" * 140 + ".png"])
    assert len(long.encode()) <= 150
    assert long.endswith(".png")
