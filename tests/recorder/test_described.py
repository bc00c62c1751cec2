"""Attributes that a recorder is given with the samples, beside those of `actiontrack metadata`."""

import numpy as np
import pandas as pd
import pytest
from helpers import remote_run
from recording import N, one_epoch

from actiontrack.analysis import slices
from actiontrack.errors import DataError, ParameterError
from actiontrack.record.digest import hash_ids
from actiontrack.recorder import Recorder, sync
from actiontrack.store import Store

SALT = "a salt of enough letters"
FRAME = pd.DataFrame(
    {
        "id": np.arange(N)[::-1],
        "light": ["day", "night", None] * 3 + ["day", "night"],
        "angle": np.linspace(0, 1, N),
        "wet": [True, False] * 5 + [True],
    }
)


def record_with(recorder, metadata, **options):
    recorder.describe_samples(np.arange(N), metadata=metadata, **options)
    one_epoch(recorder, 1)
    recorder.finish()


def stored(store, run_id):
    """Names and contents of the files with attributes, their times left out."""
    record = store.open_record(run_id)
    folder = store.local_root(record.run) / "actiontrack" / record.name / "metadata"
    return sorted((path.name.partition("-")[2], path.read_bytes()) for path in folder.glob("*"))


@pytest.mark.parametrize("table", [FRAME, dict(FRAME), FRAME.rename(columns={"id": "sample_id"})])
def test_the_record_holds_the_very_file_that_the_command_keeps(recorder, store, run_id, table):
    record_with(recorder(), table)
    of_recorder = stored(store, run_id)
    frame = FRAME.rename(columns={"id": "sample_id"})
    slices.add_metadata(store.open_record(run_id), frame)
    assert len(of_recorder) == 1
    assert stored(store, run_id) == of_recorder * 2


def test_without_metadata_the_record_has_none(recorder, store, run_id):
    record_with(recorder(), None)
    assert not slices.has_metadata(store.open_record(run_id))


def test_rows_of_other_samples_are_left_out(recorder, store, run_id):
    more = pd.concat([FRAME, pd.DataFrame({"id": [N + 5], "light": ["dusk"]})])
    record_with(recorder(), more)
    read = slices.read_metadata(store.open_record(run_id))
    assert sorted(read["sample_id"]) == sorted(map(str, range(N)))


def test_only_the_columns_that_are_named_are_kept(recorder, store, run_id):
    record_with(recorder(), FRAME, metadata_columns=["wet"])
    assert list(slices.read_metadata(store.open_record(run_id))) == ["sample_id", "wet"]


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        ([1, 2], ParameterError, "must be a frame or a mapping of columns"),
        (FRAME.drop(columns="id"), ParameterError, "must have the column id or sample_id"),
        ({"id": [0, 1], "light": ["day"]}, ParameterError, "must hold columns of equal length"),
        (FRAME.assign(id=FRAME["id"] + N), ParameterError, "must name some of the samples"),
        (FRAME.assign(id=0), DataError, "names the sample '0' twice"),
        (FRAME[["id"]], DataError, "has no column beside the ids"),
    ],
)
def test_what_is_no_such_table_is_refused_before_the_first_epoch(recorder, table, error, words):
    with pytest.raises(error) as raised:
        recorder().describe_samples(np.arange(N), metadata=table)
    assert words in str(raised.value)


def test_hashed_ids_need_the_names_of_columns(recorder):
    with pytest.raises(ParameterError, match="must name what may be kept"):
        recorder(id_salt=SALT).describe_samples(np.arange(N), metadata=FRAME)


def test_hashed_ids_are_those_of_the_record(recorder, store, run_id):
    record_with(recorder(id_salt=SALT), FRAME, metadata_columns=["light"])
    read = slices.read_metadata(store.open_record(run_id))
    lights = dict(zip(read["sample_id"], read["light"], strict=True))
    assert list(read) == ["sample_id", "light"]
    assert lights.keys() == set(hash_ids(map(str, range(N)), SALT))
    [night] = hash_ids([str(N - 2)], SALT)  # of the second row
    assert lights[night] == "night"


def test_a_resumed_training_adds_the_same_attributes_once(recorder, store, run_id):
    for epoch in (1, 2):
        with Recorder("test", store=store, run_id=run_id, resume=epoch > 1) as going:
            going.describe_samples(np.arange(N), metadata=FRAME)
            one_epoch(going, epoch)
    assert len(stored(store, run_id)) == 1


def test_a_resumed_training_adds_attributes_that_are_new(recorder, store, run_id):
    for epoch, table in ((1, FRAME[["id", "light"]]), (2, FRAME[["id", "wet"]])):
        with Recorder("test", store=store, run_id=run_id, resume=epoch > 1) as going:
            going.describe_samples(np.arange(N), metadata=table)
            one_epoch(going, epoch)
    assert set(slices.read_metadata(store.open_record(run_id))) == {"sample_id", "light", "wet"}


def test_what_a_person_corrected_outlasts_a_resumed_training(recorder, store, run_id):
    with Recorder("test", store=store, run_id=run_id) as first:
        first.describe_samples(np.arange(N), metadata=FRAME)
        one_epoch(first, 1)
    corrected = pd.DataFrame({"sample_id": np.arange(N), "light": "dawn"})
    slices.add_metadata(store.open_record(run_id), corrected)
    with Recorder("test", store=store, run_id=run_id, resume=True) as second:
        second.describe_samples(np.arange(N), metadata=FRAME)
        one_epoch(second, 2)
    assert set(slices.read_metadata(store.open_record(run_id))["light"]) == {"dawn"}


def test_attributes_wait_in_the_spool_while_the_server_is_away(door, spool):
    store, run_id = Store(door.uri), remote_run(door)
    recorder = Recorder("test", store=store, run_id=run_id, patience=0.5)
    door.shut()
    recorder.describe_samples(np.arange(N), metadata=FRAME)
    one_epoch(recorder, 1)
    assert not recorder.finish()
    door.open()
    assert sync(spool, store=store) == [f"{run_id}/test-probe"]
    read = slices.read_metadata(store.open_record(run_id))
    assert set(read) == {"sample_id", "light", "angle", "wet"}
