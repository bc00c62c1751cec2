"""Boxes of a record: kept in the order of the samples, with the trained model only."""

import numpy as np
import pandas as pd
import pytest

from actiontrack.errors import CorruptRecordError
from actiontrack.record.pictures import read_boxes, write_boxes
from actiontrack.recorder import Recorder

SIDES = {"left": 2.0, "top": 0.5, "right": 6.0, "bottom": 4.0, "width": 8.0, "height": 4.0}


def boxes(*rows):
    head = ("sample_id", "kind", "class", "score")
    return pd.DataFrame([dict(zip(head, row, strict=True)) | SIDES for row in rows])


@pytest.fixture
def recorder(store, new_run, spool):
    run_id = new_run()

    def make(**options):
        return Recorder(run_id=run_id, store=store, spool=spool, **options)

    make.run_id = run_id
    return make


@pytest.fixture
def read(recorder, store):
    return lambda: store.open_record(recorder.run_id)


def epoch(rec, ids=("a", "b", "c")):
    rec.update(list(ids), np.arange(len(ids)) + 1.0)
    rec.end_epoch()


def test_boxes_are_kept_in_the_order_of_the_samples(recorder, read):
    given = boxes(
        ("c", "truth", "cat", np.nan), ("a", "truth", "dog", np.nan), ("a", "predicted", "cat", 0.5)
    )
    with recorder() as rec:
        epoch(rec)
        rec.log_boxes(given)
    found = read().boxes
    expected = given.iloc[[1, 2, 0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected[found.columns], check_dtype=False)


def test_boxes_are_named_by_the_manifest(recorder, read):
    with recorder() as rec:
        epoch(rec)
        rec.log_boxes(boxes(("a", "truth", "dog", np.nan)))
    record = read()
    record.fetch("boxes.parquet").write_bytes(b"something else")
    with pytest.raises(CorruptRecordError, match=r"boxes\.parquet"):
        _ = record.boxes


def test_a_record_without_boxes_has_none(recorder, read):
    with recorder() as rec:
        epoch(rec)
    assert read().boxes is None


def test_integer_ids_name_boxes_too(recorder, read):
    with recorder() as rec:
        epoch(rec, (7, 3, 5))
        rec.log_boxes(boxes((5, "truth", "dog", np.nan), (3, "truth", "cat", np.nan)))
    assert read().boxes["sample_id"].tolist() == [3, 5]


def test_boxes_of_a_model_that_trains_on_leave_the_record(recorder, read):
    with recorder() as rec:
        epoch(rec)
        rec.log_boxes(boxes(("a", "truth", "dog", np.nan)))
    with recorder(resume=True) as rec:
        epoch(rec)
    assert read().manifest.n_steps == 2
    assert read().boxes is None


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (boxes(("z", "truth", "dog", 1.0)), "boxes: sample_id z is none of the record test-probe"),
        (boxes(("a", "guess", "dog", 1.0)), 'must have the kind "truth" or "predicted"'),
        (boxes(("a", "truth", "dog", 1.0)).drop(columns="top"), "none named top"),
        (boxes(("a", "truth", "dog", 1.0)).drop(columns="sample_id"), "must have the column samp"),
        (boxes(("a", "truth", "dog", 1.0)).assign(right=np.inf), "must have finite sides"),
        ([{"sample_id": "a"}], "must be a pandas.DataFrame with one row per box, got 'list'"),
    ],
)
def test_boxes_that_cannot_be_drawn_are_left_out_with_a_warning(recorder, read, frame, problem):
    with recorder() as rec:
        epoch(rec)
        with pytest.warns(UserWarning, match="^record test-probe is left without boxes: ") as told:
            rec.log_boxes(frame)
    assert problem in str(told[0].message)
    assert read().manifest.complete


def test_boxes_of_samples_beyond_the_record_are_refused(recorder, read):
    with recorder() as rec:
        epoch(rec)
    manifest = read().manifest
    folder = read().fetch("manifest.json").parent
    far = boxes(("a", "truth", "dog", np.nan)).assign(sample=3)
    entry = write_boxes(folder, far)
    with pytest.raises(CorruptRecordError, match="names samples beyond the 3"):
        read_boxes(manifest.with_file("boxes.parquet", entry), lambda path: folder / path)
