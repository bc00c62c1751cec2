"""Attributes beside the record: what is kept, read and refused."""

import pandas as pd
import pytest

from actiontrack.analysis import slices
from actiontrack.errors import (
    CorruptRecordError,
    NotComparableError,
    NotFoundError,
    ParameterError,
)
from actiontrack.record.attributes import write_attributes
from actiontrack.record.digest import hash_ids

SALT = "a salt of enough letters"


@pytest.fixture
def frame(history):
    ids = history.sample_ids
    camera = [("front", "rear")[number % 2] for number in ids]
    return pd.DataFrame({"sample_id": ids, "camera": camera, "angle": ids * 0.5})


def test_what_was_kept_is_read_again(record, history, frame):
    opened = record(history)
    assert not slices.has_metadata(opened)
    slices.add_metadata(opened, frame)
    assert slices.has_metadata(opened)
    pd.testing.assert_frame_equal(slices.read_metadata(opened), slices.checked_metadata(frame))


def test_a_later_column_takes_the_place_of_an_earlier_one(record, history, frame):
    opened = record(history)
    slices.add_metadata(opened, frame)
    slices.add_metadata(opened, pd.DataFrame({"sample_id": [0], "angle": [9.0], "wet": [True]}))
    read = slices.read_metadata(opened).set_index("sample_id")
    assert read.loc["0", "angle"] == 9.0
    assert read["angle"].count() == 1
    assert read["camera"].count() == len(frame)


def test_a_category_stays_one_though_it_looks_like_a_time(record, history):
    opened = record(history)
    frame = pd.DataFrame({"sample_id": [0, 1], "batch": ["2026-01-01", "2026-01-02"]})
    slices.add_metadata(opened, slices.checked_metadata(frame, kinds={"batch": "category"}))
    assert slices.read_metadata(opened)["batch"].tolist() == ["2026-01-01", "2026-01-02"]


@pytest.mark.parametrize("name", ["step", "sample", "label", "predicted"])
def test_a_column_may_have_the_name_of_one_of_ours(record, history, frame, name):
    opened = record(history)
    named = frame[["sample_id", "angle"]].rename(columns={"angle": name})
    slices.add_metadata(opened, named)
    assert slices.read_metadata(opened)[name].tolist() == frame["angle"].tolist()


def test_rows_of_other_samples_are_not_kept(record, history, frame):
    opened = record(history)
    extra = pd.concat([frame, pd.DataFrame({"sample_id": [10**6], "camera": ["front"]})])
    assert len(slices.add_metadata(opened, extra)) == len(frame)


def test_a_table_of_other_samples_is_refused(record, history, frame):
    with pytest.raises(NotComparableError, match="the metadata names none of the"):
        slices.add_metadata(record(history), frame.assign(sample_id=frame["sample_id"] + 10**6))


def test_a_record_without_metadata_says_how_to_add_some(record, history):
    with pytest.raises(NotFoundError, match="actiontrack metadata --run"):
        slices.read_metadata(record(history))


def test_a_changed_file_is_told(record, history, frame):
    opened = record(history)
    slices.add_metadata(opened, frame)
    folder = opened.store.local_root(opened.run) / "actiontrack" / opened.name / "metadata"
    (path,) = folder.iterdir()
    write_attributes(slices.checked_metadata(frame.head(2)), path)
    with pytest.raises(CorruptRecordError, match="is not what was written"):
        slices.read_metadata(opened)


def test_hashed_records_keep_named_columns_under_hashes(record, history, frame, monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_ID_SALT", SALT)
    opened = record(history, "hashed")  # a history is recorded once by its name
    with pytest.raises(ParameterError, match="must name what may be kept"):
        slices.add_metadata(opened, frame)
    kept = slices.add_metadata(opened, frame, columns=["camera"])
    assert list(kept.columns) == ["sample_id", "camera"]
    assert set(kept["sample_id"]) == set(hash_ids(map(str, frame["sample_id"]), SALT))
    monkeypatch.setenv("ACTIONTRACK_ID_SALT", "another salt of letters")
    with pytest.raises(ParameterError, match="must hold the salt with which the run was recorded"):
        slices.add_metadata(opened, frame, columns=["camera"])


def test_a_column_that_the_file_lacks_is_refused(record, history, frame):
    with pytest.raises(ParameterError, match="must come from camera, angle, got 'weather'"):
        slices.add_metadata(record(history), frame, columns=["weather"])


def test_of_several_records_the_columns_of_all_are_read(record, history, frame):
    first, second = record(history), record(history)
    slices.add_metadata(first, frame[["sample_id", "camera"]])
    slices.add_metadata(second, frame[["sample_id", "angle"]])
    assert list(slices.shared_metadata([first, second]).columns) == [
        "sample_id", "camera", "angle",
    ]  # fmt: skip


def test_a_file_is_read_by_its_ids(tmp_path):
    path = tmp_path / "attributes.csv"
    path.write_text("id;camera;taken\n7;front;2026-01-01\n8;;2026-01-02\n", encoding="utf-8")
    frame = slices.read_metadata_file(path)
    assert frame["sample_id"].tolist() == ["7", "8"]
    assert frame["camera"].isna().tolist() == [False, True]
    assert str(frame["taken"].dtype) == "datetime64[ns, UTC]"
