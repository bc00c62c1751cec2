"""Parts of classes by features, and whether they are harder."""

import numpy as np
import pytest

from actiontrack.analysis import slices
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.recorder import Recorder

N = 300
RNG = np.random.default_rng(6)
LABELS = np.arange(N) % 2
HIDDEN = RNG.random(N) < 0.3  # a part of each class that looks otherwise, and is harder


@pytest.fixture
def opened(new_run, store, spool):
    """A function that records two classes, with features unless told otherwise."""

    def record(*, features=True):
        run_id, ids = new_run(), np.arange(N)
        points = RNG.normal(size=(N, 4)) + 9 * HIDDEN[:, None] + 30 * LABELS[:, None]
        with Recorder(
            "test", run_id=run_id, store=store, spool=spool, class_names=("cat", "dog")
        ) as recorder:
            recorder.update(ids, RNG.gamma(2.0, 1.0, N) + 2.0 * HIDDEN, labels=LABELS)
            recorder.end_epoch(1)
            if features:
                recorder.log_features(ids, points.astype(np.float32))
        return store.open_record(run_id)

    return record


def test_the_parts_are_those_that_the_features_were_made_of(opened):
    frame = slices.feature_clusters(opened(), k=2)
    parts = frame["feature_cluster"].to_numpy()
    expected = [
        f"{('cat', 'dog')[label]} {2 if hidden else 1}"
        for label, hidden in zip(LABELS, HIDDEN, strict=True)
    ]
    assert parts.tolist() == expected


def test_a_part_that_is_harder_is_found(opened):
    record = opened()
    sample_set = slices.sliced([record], slices.feature_clusters(record, k=2))
    table = slices.slices(sample_set, pairs=False).table
    assert set(table["slice"][:2]) == {"feature_cluster = cat 2", "feature_cluster = dog 2"}
    assert (table["p_harder"][:2] > 0.7).all()


def test_the_same_seed_gives_the_same_parts(opened):
    record = opened()
    first, second = (slices.feature_clusters(record, k=4, seed=1) for _ in range(2))
    assert first.equals(second)


def test_a_small_class_stays_whole(opened):
    frame = slices.feature_clusters(opened(), k=20)
    assert frame["feature_cluster"].nunique() <= 40
    small = slices.clusters._parts(np.arange(6.0).reshape(3, 2), 2, np.random.default_rng(0))
    assert small.tolist() == [0, 0, 0]


def test_a_record_without_features_is_refused(opened):
    with pytest.raises(NotFoundError, match="features"):
        slices.feature_clusters(opened(features=False))


def test_one_part_is_no_part(opened):
    with pytest.raises(ParameterError, match=r"must lie in 2\.\.20"):
        slices.feature_clusters(opened(), k=1)
