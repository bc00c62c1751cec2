"""Nearest neighbours by features."""

import numpy as np
import pytest
from helpers import message

from actiontrack import analysis
from actiontrack.errors import NotFoundError


@pytest.fixture
def with_features(new_run, store, spool):
    """A record of 12 samples in 3 classes whose single feature is their id, and its losses."""
    from actiontrack.recorder import Recorder

    run_id, ids = new_run(), np.arange(12)
    losses = np.random.default_rng(0).gamma(2.0, size=12)
    options = {"class_names": ("x", "y", "z"), "loss_name": "hinge"}
    with Recorder(run_id=run_id, store=store, spool=spool, **options) as recorder:
        recorder.update(ids, losses, labels=ids % 3)
        recorder.end_epoch()
        recorder.log_features(ids, ids[:, None].astype(np.float32))
    return store.open_record(run_id), losses


def test_neighbours_are_told_with_distance_and_class(with_features):
    record, losses = with_features
    frame = analysis.neighbours(record, [0, 11], k=3)
    assert frame["query_id"].tolist() == [0] * 3 + [11] * 3
    assert frame["sample_id"].tolist() == [1, 2, 3, 10, 9, 8]
    assert frame["distance"].tolist() == [1.0, 2.0, 3.0] * 2
    assert frame["rank"].tolist() == [1, 2, 3] * 2
    assert frame["query_class"].tolist() == ["x"] * 3 + ["z"] * 3
    assert frame["class"].tolist() == ["y", "z", "x", "y", "x", "z"]
    assert frame["same_class"].tolist() == [False, False, True] * 2
    np.testing.assert_allclose(frame["action"], losses[frame["sample_id"]], rtol=1e-6)
    np.testing.assert_allclose(frame["query_action"], losses[frame["query_id"]], rtol=1e-6)


def test_neighbours_default_to_those_of_the_hardest(with_features):
    record, losses = with_features
    frame = analysis.neighbours(record, n=2, k=1)
    assert frame["query_id"].tolist() == np.argsort(-losses)[:2].tolist()


def test_neighbours_without_features_say_how_to_record_them(record, history):
    opened = record(history)
    text = (
        f"record test-probe of run {opened.run.run_id} ({opened.run.name}) holds no features. "
        "Record them with the training parameter save_features=true, or with "
        "Recorder.log_features."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        analysis.neighbours(opened)
