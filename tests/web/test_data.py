"""`Data`: frames agree with the record; caches are bounded and follow the record."""

import contextlib
import gc
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import message, wait_until

from actiontrack.analysis import load_scores
from actiontrack.analysis.exploration import SampleFilter
from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError
from actiontrack.record.vectors import read_scores
from actiontrack.recorder import Recorder
from actiontrack.store import RunQuery, Store
from actiontrack.store import record as stored_record
from actiontrack.store.cache import Cache, size_of
from actiontrack.testing import make_history, record_history
from actiontrack.web.data import Data, RunFilter


@pytest.fixture(scope="module")
def data(recorded):
    return Data(Store(recorded[0]))


class OnlyExperiment:
    """Permissions of somebody who may read one experiment, and edit nothing."""

    def __init__(self, experiment_id):
        self.experiment_id = experiment_id

    def user(self):
        return "reader"

    def may_use_run(self, _run_id, right):
        return right == "read"

    def may_read_experiment(self, experiment_id):
        return experiment_id == self.experiment_id


# Runs


def test_every_run_with_a_record_is_listed_newest_first(data, runs):
    page = data.runs()
    assert set(page.frame["run_id"]) == set(runs.values())
    assert page.total == len(runs)
    assert page.frame["start_time"].is_monotonic_decreasing


def test_pages_of_runs_do_not_overlap(data, runs):
    first, second = (data.runs(page=each, per_page=4).frame["run_id"] for each in (1, 2))
    assert len(set(first) | set(second)) == 8


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (RunFilter(experiments=("others",)), {"regression", "segmentation", "detection"}),
        (RunFilter(models=("mlp",)), {"mlp-0", "mlp-1"}),
        (RunFilter(datasets=("digits",), text="MLP-1"), {"mlp-1"}),
        (RunFilter(tags=(("owner", "ada"),), models=("linear",)), {"linear-0", "linear-1"}),
        (RunFilter(state="incomplete"), {"stopped"}),
        (RunFilter(models=("none of these",)), set()),
    ],
)
def test_runs_are_filtered(data, runs, wanted, names):
    assert set(data.runs(wanted).frame["run_id"]) == {runs[each] for each in names}


def test_an_empty_store_lists_no_runs_under_the_usual_columns(empty_database):
    page = Data(Store(f"sqlite:///{empty_database}")).runs()
    assert page.total == 0
    assert {"run_id", "experiment_id", "complete", "problem"} <= set(page.frame.columns)


def test_choices_are_what_readable_runs_have(data):
    choices = data.choices()
    assert choices["experiments"] == ["<i>hostile</i>", "digits", "others"]
    assert {"linear", "mlp", "pixelwise", "guess"} <= set(choices["models"])
    assert choices["tags"] == ["owner=ada"]


def test_runs_of_other_experiments_are_neither_listed_nor_opened(recorded, runs):
    store = Store(recorded[0])
    allowed = store.get_run(runs["regression"]).experiment_id
    data = Data(store, permissions=OnlyExperiment(allowed))
    assert set(data.runs().frame["experiment"]) == {"others"}
    assert data.choices()["experiments"] == ["others"]
    with pytest.raises(NotFoundError, match=message(f"run {runs['mlp-0']!r}: not found.")):
        data.scores(runs["mlp-0"])


def test_a_reader_adds_no_verdict(recorded, runs):
    store = Store(recorded[0])
    allowed = store.get_run(runs["detection"]).experiment_id
    data = Data(store, permissions=OnlyExperiment(allowed))
    with pytest.raises(NotFoundError, match="not found"):
        data.add_verdict(runs["detection"], None, 3, verdict="fine", who="reader")


def test_a_record_that_cannot_be_read_is_listed_with_its_problem(new_run, store, spool):
    run_id = new_run(run_name="damaged")
    record_history(make_history(), run_id, store, spool)
    root = store.local_root(store.get_run(run_id))
    (root / "actiontrack/test-probe/manifest.json").write_text("{")
    row = Data(store).runs(RunFilter(text=run_id)).frame.iloc[0]
    assert row["run_name"] == "damaged"
    assert "damaged or half-written" in row["problem"]


def test_the_view_of_a_run_says_what_its_record_offers(data, runs):
    view = data.run(runs["mlp-0"])
    assert view.scores[0] == "action"
    assert {"aum", "forgetting", "final_entropy"} < set(view.scores)
    assert not {"sample_id", "label", "predicted", "n_steps"} & set(view.scores)
    assert (view.has_features, view.has_images, view.has_maps, view.has_boxes) == (
        True, True, False, False,
    )  # fmt: skip
    assert data.run(runs["segmentation"]).pictures == ("label", "prediction")
    assert data.run(runs["detection"]).has_boxes
    assert not data.run(runs["regression"]).has_labels


def test_siblings_are_other_runs_on_the_same_samples(data, runs):
    found = set(data.siblings(runs["mlp-0"])["run_id"])
    assert found == {runs["mlp-1"], runs["linear-0"], runs["linear-1"]}


# Samples


def test_scores_are_those_of_the_analysis(recorded, data, runs):
    expected = load_scores(RunQuery(run_ids=(runs["mlp-0"],)), tracking_uri=recorded[0])
    page = data.scores(runs["mlp-0"], order=None, per_page=1000)
    pd.testing.assert_frame_equal(page.frame, expected)


def test_hardest_first_goes_through_all_samples_page_by_page(data, runs):
    pages = [data.scores(runs["mlp-0"], page=each, per_page=64).frame for each in range(1, 5)]
    action = np.concatenate([each["action"] for each in pages])
    assert len(action) == 200
    assert (np.diff(action) <= 0).all()


def test_of_a_score_whose_low_values_are_hard_the_lowest_come_first(data, runs):
    aum = data.scores(runs["mlp-0"], score="aum", per_page=200).frame["aum"]
    assert aum.is_monotonic_increasing


def test_filters_hold_together(data, runs):
    wanted = SampleFilter(classes=("one", "two"), correct="wrong", low=0.5, high=30.0)
    frame = data.scores(runs["mlp-0"], wanted=wanted, per_page=200).frame
    everything = data.scores(runs["mlp-0"], order=None, per_page=200).frame
    named = everything["class"].astype(str).isin(["one", "two"])
    inside = everything["action"].between(0.5, 30.0)
    assert set(frame["sample_id"]) == set(
        everything.loc[named & inside & ~everything["correct"], "sample_id"]
    )
    assert len(frame)


def test_the_histogram_counts_every_sample_once(data, runs):
    overall = data.histogram(runs["mlp-0"], bins=7)
    by_class = data.histogram(runs["mlp-0"], bins=7, by_class=True)
    assert overall["count"].sum() == by_class["count"].sum() == 200
    per_bin = by_class.groupby("low")["count"].sum().to_numpy()
    assert per_bin.tolist() == overall["count"].tolist()


def test_a_sample_knows_its_rank_its_class_and_its_prediction(data, runs):
    hardest = data.scores(runs["mlp-0"], per_page=1).frame.iloc[0]
    row = data.sample(runs["mlp-0"], None, hardest["sample_id"])
    ranks = data.ranks(runs["mlp-0"], None, hardest["sample_id"]).set_index("score")["rank"]
    assert ranks["action"] == 1
    assert row["class"] == hardest["class"]
    assert row["predicted_class"] in data.run(runs["mlp-0"]).class_names


def test_curves_are_the_losses_of_the_record(data, runs, recorded):
    curve = data.curves([runs["mlp-0"]], sample_ids=[3])
    history = Store(recorded[0]).open_record(runs["mlp-0"]).history()
    np.testing.assert_array_equal(curve["loss"], history.losses[:, 3])
    assert curve["action"].iloc[0] == pytest.approx(history.losses[:, 3].sum(dtype=np.float64))


def test_curves_of_several_runs_hold_the_same_sample_of_each(data, runs):
    chosen = [runs["mlp-0"], runs["linear-1"]]
    frame = data.curves(chosen, sample_ids=["3"])
    assert frame.groupby("run_id", sort=False).size().to_dict() == dict.fromkeys(chosen, 12)


def test_neighbours_are_looked_for_in_features(data, runs):
    frame = data.neighbours(runs["mlp-0"], sample_ids=[3], k=4)
    assert frame["query_id"].unique().tolist() == [3]
    assert frame["distance"].is_monotonic_increasing


def test_pairs_keep_the_order_in_which_the_runs_are_named(data, runs):
    a, b = runs["mlp-0"], runs["linear-0"]
    one, other = data.pairs(a, b), data.pairs(b, a)
    assert one["score_a"].tolist() == other["score_b"].tolist()
    expected = data.scores(a, order=None, per_page=200).frame["action"]
    assert one["score_a"].tolist() == expected.tolist()


def test_entropy_of_one_run_is_its_final_entropy(data, runs):
    frame = data.entropy([runs["mlp-0"]])
    scores = data.scores(runs["mlp-0"], order=None, per_page=200).frame
    assert frame["entropy_nats"].tolist() == scores["final_entropy"].tolist()
    assert (frame["action"].min(), frame["action"].max()) == (0, 1)


def test_entropy_of_an_ensemble_needs_probabilities(data, runs):
    frame = data.entropy([runs["mlp-0"], runs["mlp-1"]])
    assert len(frame) == 200
    with pytest.raises(NotFoundError, match="holds no entropy"):
        data.entropy([runs["regression"]])


def test_boxes_are_those_of_the_sample(data, runs):
    frame = data.boxes(runs["detection"], None, "3")
    assert frame["kind"].tolist() == ["truth", "predicted"]
    assert set(frame["sample_id"]) == {3}


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda data, run: data.scores(run, score="beauty"), ParameterError),
        (lambda data, run: data.scores(run, score="class"), ParameterError),
        (lambda data, run: data.scores(run, page=0), ParameterError),
        (lambda data, run: data.scores(run, per_page=10**9), ParameterError),
        (lambda data, run: data.scores(run, wanted=SampleFilter(classes=("x",))), ParameterError),
        (lambda data, run: data.scores(run, "train-probe"), NotFoundError),
        (lambda data, run: data.scores(run, "../../../etc"), ParameterError),
        (lambda data, run: data.scores(run[::-1]), NotFoundError),
        (lambda data, run: data.sample(run, None, 10**30), NotFoundError),
        (lambda data, run: data.sample(run, None, "3.0"), NotFoundError),
        (lambda data, run: data.sample(run, None, "1_0"), NotFoundError),
        (lambda data, run: data.clusters(run, k=10**6), ParameterError),
        (lambda data, run: data.histogram(run, bins=10**9), ParameterError),
        (lambda data, run: data.correlations([run], bootstrap=0), ParameterError),
        (lambda data, run: data.correlations([run, run]), ParameterError),
        (lambda data, run: data.precision(run, ks=[0]), ParameterError),
    ],
)
def test_what_makes_no_sense_is_an_error_of_ours(data, runs, ask, error):
    with pytest.raises(error):
        ask(data, runs["mlp-0"])


# Freshness and bounds


def test_a_record_that_grows_is_read_anew(new_run, store, spool):
    run_id, data = new_run(), Data(store)

    def shown(n_steps):
        with contextlib.suppress(NotFoundError):  # nothing is uploaded yet
            return data.record(run_id, "test-probe").manifest.n_steps == n_steps

    with Recorder("test", run_id=run_id, store=store, spool=spool) as recorder:
        for n_steps in (1, 2):
            recorder.update([1, 2, 3], np.array([1.0, 2.0, 3.0]) + n_steps)
            recorder.end_epoch()
            wait_until(partial(shown, n_steps))
            before = data.version([run_id], "test-probe")
            frame = data.scores(run_id, "test-probe").frame
            assert frame["n_steps"].tolist() == [n_steps] * 3
    assert data.version([run_id], "test-probe") != before


@pytest.fixture
def remote(recorded, monkeypatch):
    """The recorded store as if its artifacts were elsewhere, and the paths that it downloads."""
    store, paths = Store(recorded[0]), []
    download = store.download

    def counted(run, path, folder, **options):
        paths.append(path)
        return download(run, path, folder, **options)

    monkeypatch.setattr(store, "local_root", lambda _run: None)
    monkeypatch.setattr(store, "download", counted)
    return store, paths


def test_files_of_a_record_elsewhere_are_downloaded_once_by_many_threads(remote, runs, recorded):
    store, paths = remote
    data, frames = Data(store), []

    def look():
        frames.append(data.curves([runs["mlp-0"]], sample_ids=[3]))
        data.image(runs["mlp-0"], None, 3)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    expected = Data(Store(recorded[0])).curves([runs["mlp-0"]], sample_ids=[3])
    for frame in frames:
        pd.testing.assert_frame_equal(frame, expected)
    assert len(frames) == 4
    blocks = [each for each in paths if "/blocks/" in each]
    assert len(blocks) == len(set(blocks)) == 12


def test_downloads_of_records_that_left_the_cache_leave_the_disk(remote, runs):
    store, _ = remote
    data = Data(store, disk_bytes=1)
    record = data.record(runs["mlp-0"])
    folder = record._files.scratch
    record.scores()
    assert (folder / "scores.parquet").is_file()
    del record
    gc.collect()
    assert not folder.exists()


def test_an_unchanged_record_is_read_once(recorded, runs, monkeypatch):
    data = Data(Store(recorded[0]))
    calls = []
    read = read_scores
    monkeypatch.setattr(
        stored_record, "read_scores", lambda *a, **k: calls.append(1) or read(*a, **k)
    )
    for _ in range(3):
        data.scores(runs["mlp-0"])
        data.classes(runs["mlp-0"])
    assert len(calls) == 1


def test_an_altered_file_is_refused_when_it_is_read(new_run, store, spool):
    run_id = new_run()
    record_history(make_history(), run_id, store, spool)
    root = store.local_root(store.get_run(run_id))
    path = Path(root) / "actiontrack/test-probe/scores.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptRecordError, match="truncated or altered"):
        Data(store).scores(run_id)


def test_a_cache_holds_no_more_than_it_may():
    cache = Cache(3000)
    for each in range(10):
        cache.get(each, lambda: np.zeros(100))
        assert cache.n_bytes <= 3000
    assert len(cache) == 3


def test_a_cache_forgets_what_was_not_asked_for_longest():
    cache, made = Cache(2000), []

    def value(name):
        return cache.get(name, lambda: made.append(name) or np.zeros(100))

    for name in ("a", "b", "a", "c", "a"):
        value(name)
    assert made == ["a", "b", "c"]
    value("b")
    assert made == ["a", "b", "c", "b"]


def test_a_value_that_is_too_large_is_handed_out_and_not_kept():
    cache = Cache(100)
    assert cache.get("large", lambda: np.zeros(1000)).size == 1000
    assert len(cache) == 0


def test_threads_that_want_the_same_value_compute_it_once():
    cache, made, got = Cache(10**6), [], []
    inside, go_on = threading.Event(), threading.Event()

    def slow():
        made.append(1)
        inside.set()
        assert go_on.wait(10)
        return np.arange(3)

    threads = [threading.Thread(target=lambda: got.append(cache.get("k", slow))) for _ in range(4)]
    for each in threads:
        each.start()
    assert inside.wait(10)
    go_on.set()
    for each in threads:
        each.join(10)
    assert len(made) == 1
    assert len(got) == 4


def test_an_error_is_not_kept():
    cache, answers = Cache(100), iter([ValueError("first"), None])

    def compute():
        answer = next(answers)
        if answer:
            raise answer
        return 7

    with pytest.raises(ValueError, match="first"):
        cache.get("k", compute)
    assert cache.get("k", compute) == 7


def test_the_size_of_a_history_is_that_of_its_arrays():
    history = make_history(n_steps=10, n_samples=1000)
    assert 10 * 1000 * 4 < size_of(history) < 10 * 1000 * 60


def test_the_room_of_the_cache_is_read_from_the_environment(store, monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_CACHE_MB", "3")
    assert Data(store)._cache.max_bytes == 3 * 2**20
    monkeypatch.setenv("ACTIONTRACK_CACHE_MB", "much")
    with pytest.raises(ParameterError, match="ACTIONTRACK_CACHE_MB"):
        Data(store)
