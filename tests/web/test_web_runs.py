"""Lists of runs: which records they hold, for whom, and what a record offers."""

import contextlib
import shutil
import sqlite3

import pytest
from helpers import message

from actiontrack.errors import NotFoundError, StoreError
from actiontrack.store import Store
from actiontrack.store.reach import Reach
from actiontrack.store.translation import ForbiddenError
from actiontrack.testing import make_history, record_history
from actiontrack.web.images import ImageRoots
from actiontrack.web.records import Records
from actiontrack.web.runs import RunFilter, list_runs, run_choices, siblings, view_run


class OnlyExperiment:
    """Permissions of somebody who may read one experiment, and edit nothing."""

    def __init__(self, experiment_id):
        self.experiment_id = experiment_id

    def user(self):
        return "reader"

    def audience(self):
        return ""

    def may_use_run(self, _run_id, right):
        return right == "read"

    def may_read_experiment(self, experiment_id):
        return experiment_id == self.experiment_id


def test_every_run_with_a_record_is_listed_newest_first(records, runs):
    page = list_runs(records)
    assert set(page.frame["run_id"]) == set(runs.values())
    assert page.total == len(runs)
    assert page.frame["start_time"].is_monotonic_decreasing


def test_pages_of_runs_do_not_overlap(records):
    first, second = (
        list_runs(records, page=number, per_page=4).frame["run_id"] for number in (1, 2)
    )
    assert len(set(first) | set(second)) == 8


@pytest.mark.parametrize(
    ("run_filter", "names"),
    [
        (
            RunFilter(experiments=("others",)),
            {"training", "regression", "segmentation", "detection", "language"},
        ),
        (RunFilter(models=("mlp",)), {"mlp-0", "mlp-1"}),
        (RunFilter(datasets=("digits",), text="MLP-1"), {"mlp-1"}),
        (RunFilter(tags=(("owner", "ada"),), models=("linear",)), {"linear-0", "linear-1"}),
        (RunFilter(state="incomplete"), {"stopped"}),
        (RunFilter(models=("none of these",)), set()),
    ],
)
def test_runs_are_filtered(records, runs, run_filter, names):
    listed = set(list_runs(records, run_filter).frame["run_id"])
    assert listed == {runs[name] for name in names}


def test_an_empty_store_lists_no_runs_under_the_usual_columns(empty_database):
    page = list_runs(Records(Store(f"sqlite:///{empty_database}")))
    assert page.total == 0
    assert {"run_id", "experiment_id", "complete", "problem"} <= set(page.frame.columns)


def test_choices_are_what_readable_runs_have(records):
    choices = run_choices(records)
    assert choices["experiments"] == ["<i>hostile</i>", "digits", "others"]
    assert {"linear", "mlp", "pixelwise", "guess"} <= set(choices["models"])
    assert choices["tags"] == ["owner=ada"]


def test_runs_of_other_experiments_are_neither_listed_nor_opened(recorded, runs):
    store = Store(recorded[0])
    allowed = store.get_run(runs["regression"]).experiment_id
    records = Records(store, permissions=OnlyExperiment(allowed))
    assert set(list_runs(records).frame["experiment"]) == {"others"}
    assert run_choices(records)["experiments"] == ["others"]
    with pytest.raises(NotFoundError, match=message(f"run {runs['mlp-0']!r}: not found.")):
        records.ask("scores", runs["mlp-0"])


def test_a_record_that_cannot_be_read_is_listed_with_its_problem(new_run, store, spool):
    run_id = new_run(run_name="damaged")
    record_history(make_history(), run_id, store, spool)
    root = store.local_root(store.get_run(run_id))
    (root / "actiontrack/test-probe/manifest.json").write_text("{")
    row = list_runs(Records(store), RunFilter(text=run_id)).frame.iloc[0]
    assert row["run_name"] == "damaged"
    assert "damaged or half-written" in row["problem"]
    assert str(root.parent) not in row["problem"]


def test_a_run_with_two_records_has_a_row_for_each(new_run, store, spool):
    run_id = new_run()
    for name in ("test", "train"):
        record_history(make_history(split=name), run_id, store, spool)
    rows = list_runs(Records(store), RunFilter(text=run_id)).frame
    assert rows["record"].tolist() == ["test-probe", "train-probe"]


@pytest.mark.parametrize("authority", ["h:bad", "h:99999", "[h"])
def test_an_artifact_address_that_cannot_be_read_costs_one_row(recorded, runs, tmp_path, authority):
    shutil.copy(recorded[0].removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    uri = f"mlflow-artifacts://{authority}/{runs['mlp-0']}/artifacts"
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        values = (uri, runs["mlp-0"])
        database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", values)
    folder = recorded[0].removeprefix("sqlite:///").removesuffix("/mlflow.db")
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", reach=Reach("http://h", (folder,)))
    frame = list_runs(Records(store)).frame.set_index("run_id")
    assert set(frame.index) == set(runs.values())
    problems = frame["problem"][frame["problem"] != ""]
    assert list(problems.index) == [runs["mlp-0"]]
    assert "the address of its artifacts is not valid" in problems.iloc[0]


def test_the_view_of_a_run_says_what_its_record_offers(records, runs):
    def view(name):
        return view_run(records, ImageRoots(), runs[name])

    classifier = view("mlp-0")
    assert classifier.scores[0] == "action"
    assert {"aum", "forgetting", "final_entropy"} < set(classifier.scores)
    assert not {"sample_id", "label", "predicted", "n_steps"} & set(classifier.scores)
    assert (classifier.has_features, classifier.has_images) == (True, True)
    assert (classifier.has_maps, classifier.has_boxes) == (False, False)
    assert view("segmentation").pictures == ("label", "prediction")
    assert view("detection").has_boxes
    assert view("language").has_tokens
    assert not view("language").has_maps
    assert not view("regression").has_labels
    suggesting = {name for name in runs if view(name).has_suggestions}
    classifiers = {"mlp-0", "mlp-1", "linear-0", "linear-1", "hostile", "stopped", "training"}
    assert suggesting == classifiers
    assert [name for name in runs if view(name).tells_wrong_labels] == ["training"]


@pytest.mark.parametrize("refusal", [NotFoundError, StoreError, ForbiddenError])
def test_a_run_whose_records_are_refused_is_no_sibling(recorded, runs, monkeypatch, refusal):
    records = Records(Store(recorded[0]))
    open_of = records.open_of

    def refuse(info, name, **options):
        if info.run_id == runs["linear-0"]:
            raise refusal("its artifact store refuses")
        return open_of(info, name, **options)

    monkeypatch.setattr(records, "open_of", refuse)
    others = set(siblings(records, runs["mlp-0"])["run_id"])
    assert others == {runs["mlp-1"], runs["linear-1"]}


def test_siblings_are_other_runs_on_the_same_samples(records, runs):
    others = set(siblings(records, runs["mlp-0"])["run_id"])
    assert others == {runs["mlp-1"], runs["linear-0"], runs["linear-1"]}
