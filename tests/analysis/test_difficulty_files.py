"""Tables of ids and values: what is read, and what is refused in which words."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from helpers import message

from actiontrack.analysis import read_difficulties
from actiontrack.analysis.difficulty_files import checked_difficulties
from actiontrack.errors import DataError, ParameterError
from actiontrack.record import limits
from actiontrack.record.escaping import to_csv


@pytest.fixture
def written(tmp_path):
    """A function that writes a text and gives the path."""

    def write(text, name="difficulty.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def parquet(tmp_path):
    def write(**columns):
        path = tmp_path / "difficulty.parquet"
        pd.DataFrame(columns).to_parquet(path, index=False)
        return path

    return write


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_may_be_cut_at_any_of_three_signs(written, delimiter):
    lines = (["id", "entropy", "seconds"], ["cat/1.jpg", "0.5", "7"], ["cat/2.jpg", "", "9"])
    frame = read_difficulties(written("\n".join(map(delimiter.join, lines))))
    assert frame["sample_id"].tolist() == ["cat/1.jpg", "cat/2.jpg"]
    np.testing.assert_array_equal(frame["entropy"], [0.5, np.nan])
    np.testing.assert_array_equal(frame["seconds"], [7.0, 9.0])


def test_an_id_is_text_as_it_stands_there(written):
    frame = read_difficulties(written("id,value\n007,1\nNA,2\n1e3,3\n"))
    assert frame["sample_id"].tolist() == ["007", "NA", "1e3"]


def test_a_table_of_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes("id;value\r\na;1\r\n".encode("utf-8-sig"))
    assert read_difficulties(path)["sample_id"].tolist() == ["a"]


def test_ids_that_our_tables_have_escaped_are_read_as_they_were(written):
    ids = ["=1+1", "-cat", "plain"]
    text = to_csv(pd.DataFrame({"sample_id": ids, "value": [1.0, 2.0, 3.0]}))
    assert read_difficulties(written(text))["sample_id"].tolist() == ids


def test_columns_are_chosen_by_name(written):
    path = written("image,class,seconds,entropy\na,cat,1,4\nb,dog,2,5\n")
    frame = read_difficulties(path, id_column="image", columns=["entropy"])
    assert frame.to_dict("list") == {"sample_id": ["a", "b"], "entropy": [4.0, 5.0]}


def test_a_second_column_of_ids_is_no_value(written):
    frame = read_difficulties(written("id,sample_id,value\na,x,1\n"))
    assert frame.to_dict("list") == {"sample_id": ["a"], "value": [1.0]}


@pytest.mark.parametrize("ids", [[3, 10], ["3", "10"]])
def test_parquet_may_hold_ids_as_numbers_or_text(parquet, ids):
    frame = read_difficulties(parquet(id=ids, value=np.array([1, 2], dtype=np.float32)))
    assert frame.to_dict("list") == {"sample_id": ["3", "10"], "value": [1.0, 2.0]}


def test_arrays_by_position_are_refused(tmp_path):
    path = tmp_path / "cscores.npz"
    np.savez(path, scores=np.arange(3.0))
    text = (
        "file: must name the sample of each value, got 'cscores.npz'. Its values are by position, "
        "which is no id. Write a table: pandas.DataFrame({'id': ids, 'value': values})"
        ".to_csv('difficulty.csv', index=False)."
    )
    with pytest.raises(ParameterError, match=message(text)):
        read_difficulties(path)


def test_another_ending_is_refused(written):
    text = "file: must end in .csv or .parquet, got 'x.json'. Write it as one of these."
    with pytest.raises(ParameterError, match=message(text)):
        read_difficulties(written("{}", "x.json"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("id,value\na,1\na,2\n", "names the sample 'a' twice. Keep one row of each sample."),
        ("id,value\na,1\n,2\n", "has no id in row 2. Name the sample, or leave the row out."),
        ("id,value\n", "has no row. Write a row for each sample."),
        ("id\na\n", "has no column of values beside the ids. Add one."),
        (
            "id,value,class\na,1,cat\n",
            (
                "holds 'cat' in the column class, which is no number. Name the columns of values "
                "with columns (--value)."
            ),
        ),
        (
            "name,value\na,1\n",
            (
                "has no column id or sample_id for the ids, but name, value. Name it with "
                "id_column (--id)."
            ),
        ),
    ],
)
def test_a_table_that_is_none_is_refused_with_the_reason(written, content, reason):
    path = written(content)
    with pytest.raises(DataError, match=message(f"{path} {reason}")):
        read_difficulties(path)


@pytest.mark.parametrize("content", ["", "id,value\na,1,2\nb,1,2\n", 'id,value\n"a,1\n'])
def test_what_is_no_table_can_not_be_read(written, content):
    path = written(content)
    with pytest.raises(DataError) as refused:
        read_difficulties(path)
    assert str(refused.value).startswith(f"{path} can't be read: ")


def test_a_file_in_another_encoding_can_not_be_read(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("id,value\nfür,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="can't be read"):
        read_difficulties(path)


def test_a_missing_column_is_named_with_those_that_there_are(written):
    text = "columns (--value): must come from value, got 'entropy'. Look into difficulty.csv."
    with pytest.raises(ParameterError, match=message(text)):
        read_difficulties(written("id,value\na,1\n"), columns=["entropy"])


def test_a_damaged_parquet_file_is_refused(written):
    path = written("PAR1 and nothing more PAR1", "difficulty.parquet")
    text = f"{path} is no Parquet file that can be read safely. Write it again, or as CSV."
    with pytest.raises(DataError, match=message(text)):
        read_difficulties(path)


def test_a_parquet_file_that_expands_is_refused_before_it_is_read(parquet, monkeypatch):
    path = parquet(id=np.arange(10_000), value=np.zeros(10_000))
    monkeypatch.setattr(limits, "FREE_BYTES", 1000)
    monkeypatch.setattr(limits, "MOST_EXPANSION", 1)
    with pytest.raises(DataError, match="is no Parquet file that can be read safely"):
        read_difficulties(path)


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([1.5, 2.5], "names a sample 1.5. Ids must be text or whole numbers, as the record has"),
        ([True, False], "names a sample True. Ids must be text or whole numbers, as the record"),
        (["a", None], "has no id in row 2."),
    ],
)
def test_ids_are_text_or_whole_numbers(parquet, ids, reason):
    path = parquet(id=ids, value=[1.0, 2.0])
    with pytest.raises(DataError) as refused:
        read_difficulties(path)
    assert str(refused.value).startswith(f"{path} {reason}")


def test_times_are_no_numbers(parquet):
    path = parquet(id=["a"], value=[dt.timedelta(seconds=3)])
    with pytest.raises(DataError, match="in the column value, which is no number"):
        read_difficulties(path)


@pytest.mark.parametrize("value", [None, [1.0], pd.DataFrame({"id": ["a"], "value": [1.0]})])
def test_what_is_no_frame_of_samples_is_refused(value):
    with pytest.raises(ParameterError) as refused:
        checked_difficulties(value)
    assert str(refused.value).startswith("outside: must be a frame with the column sample_id, got ")
