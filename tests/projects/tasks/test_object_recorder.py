"""Two records in one: the images of a split and the objects in them."""

import numpy as np
import pytest

from actiontrack.errors import ParameterError, RecordingError
from projects.tasks.detection import OBJECT_LOSS, ObjectRecorder

OBJECTS = {"ids": np.array(["a#1", "a#2", "b#1"]), "labels": np.array([0, 1, 0])}


@pytest.fixture
def recorder(store, run_id):
    """A function that opens both records in the test's run."""
    opened = []

    def go(objects=OBJECTS, **options):
        opened.append(
            ObjectRecorder(
                "test",
                objects=objects,
                run_id=run_id,
                store=store,
                loss_name="multibox",
                class_names=("cat", "dog"),
                model="m",
                **options,
            )
        )
        return opened[-1]

    yield go
    for pair in opened:
        pair.close()


def record(pair, epochs=2):
    for _ in range(epochs):
        pair.update(np.array(["a", "b"]), np.array([1.0, 2.0]))
        pair.objects.update(np.array(["a#1", "b#1"]), np.array([0.5, 0.25]))
        summary = pair.end_epoch(metrics={"map": 0.5})
    return summary


def test_ending_an_epoch_ends_that_of_the_objects_and_tells_of_the_images(recorder):
    pair = recorder()
    summary = record(pair)
    assert summary.mean_loss == 1.5
    assert (pair.last_step, pair.objects.last_step) == (2, 2)


def test_finishing_leaves_both_records_whole(recorder, store, run_id):
    pair = recorder()
    record(pair)
    assert pair.finish()
    for name in ("test-probe", "test_objects-probe"):
        assert store.open_record(run_id, name).manifest.complete


def test_objects_have_their_labels_and_a_loss_of_their_own_name(recorder, store, run_id):
    pair = recorder()
    record(pair)
    pair.finish()
    objects = store.open_record(run_id, "test_objects-probe")
    assert objects.manifest.loss_name == OBJECT_LOSS
    assert objects.samples.labels.tolist() == [0, 1, 0]
    assert store.open_record(run_id, "test-probe").manifest.loss_name == "multibox"


def test_an_object_without_a_loss_is_missing_and_no_error(recorder, store, run_id):
    pair = recorder()
    record(pair)
    pair.finish()
    scores = store.open_record(run_id, "test_objects-probe").scores().set_index("sample_id")
    assert scores["action"].isna().to_dict() == {"a#1": False, "a#2": True, "b#1": False}


def test_metrics_are_those_of_the_images(recorder, store, run_id):
    pair = recorder()
    record(pair)
    pair.finish()
    assert store._client.get_run(run_id).data.metrics["map"] == 0.5


def test_closing_leaves_both_records_unfinished(recorder, store, run_id):
    pair = recorder()
    record(pair, epochs=1)
    pair.close()
    for name in ("test-probe", "test_objects-probe"):
        assert store.open_record(run_id, name).manifest.status == "recording"


def test_objects_that_are_refused_leave_no_open_record(recorder, spool):
    twice = {"ids": np.array(["a#1", "a#1"]), "labels": np.array([0, 1])}
    with pytest.raises((RecordingError, ParameterError)):
        recorder(objects=twice)
    recorder()  # the spool of the first attempt is free again
