"""The frame of experiments: nested runs, steps that are not done twice, a report at the end."""

import pandas as pd
import pytest

from actiontrack.errors import ActionTrackError
from actiontrack.reporting.document import Report, Section
from projects.experiments.experiment import experiment, training_identity
from projects.params import parse
from projects.params.experiments import ExperimentParams

TINY = ["--subset", "60", "--test_subset", "20", "--epochs", "1"]


@pytest.fixture(name="own_experiment")
def _own_experiment(experiment, monkeypatch):  # the name `experiment` is taken in this file
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)


def tiny(*more):
    return parse(ExperimentParams, [*TINY, *more])


def children(store, parent):
    client = store._client
    runs = client.search_runs(
        [parent.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.run_id}'"
    )
    return [run.info.run_id for run in runs]


def test_trainings_are_nested_runs_in_the_order_asked_for(store, own_experiment):
    params = tiny()
    with experiment("example", params, store) as current:
        runs = current.train([params.training(model="cnn3", seed=seed) for seed in (1, 0)])
        assert [run.params["seed"] for run in runs] == ["1", "0"]
        assert sorted(children(store, current.run)) == sorted(run.run_id for run in runs)
    assert {run.status for run in runs} == {"FINISHED"}


def test_a_training_whose_identical_run_is_finished_is_skipped_and_said_so(
    store, own_experiment, capsys
):
    params = tiny()
    with experiment("example", params, store) as current:
        (first,) = current.train([params.training(model="cnn3")])
    capsys.readouterr()
    with experiment("example", params, store) as current:
        again, other = current.train(
            [params.training(model="cnn3"), params.training(model="cnn3", seed=1)]
        )
    assert again.run_id == first.run_id
    assert other.run_id != first.run_id
    line = f"== train cnn3 seed 0: skipped, finished already in run {first.run_id}"
    assert line in capsys.readouterr().out


def test_a_training_that_failed_is_done_again(store, own_experiment):
    params = tiny()
    training = params.training(model="cnn3")
    with experiment("example", params, store) as current:
        (first,) = current.train([training])
        store._client.set_terminated(first.run_id, "FAILED")
        (second,) = current.train([training])
    assert second.run_id != first.run_id


def test_where_the_work_is_passed_from_does_not_change_what_it_is():
    training = tiny().training(model="cnn3")
    moved = training.model_copy(update={"data_dir": "/elsewhere", "checkpoint": "state.pt"})
    assert training_identity(moved) == training_identity(training)


@pytest.mark.parametrize("change", [{"seed": 1}, {"epochs": 2}, {"label_noise": 0.1}])
def test_another_parameter_is_another_training(change):
    training = tiny().training(model="cnn3")
    other = training.model_copy(update=change)
    assert training_identity(other) != training_identity(training)


def test_a_folder_with_another_file_is_another_training(tmp_path):
    image = tmp_path / "cat" / "1.png"
    image.parent.mkdir()
    image.write_bytes(b"1")
    training = tiny("--dataset", f"folder:{tmp_path}").training(model="cnn3")
    before = training_identity(training)
    assert training_identity(training) == before
    image.write_bytes(b"12")
    assert training_identity(training) != before


def test_a_step_is_done_once_and_its_run_holds_the_result(store, own_experiment, tmp_path):
    done = []

    def work(run):
        done.append(run.run_id)
        path = tmp_path / "result.csv"
        path.write_text("a\n1\n")
        store.upload(run.run_id, path, "step")

    for attempt in ("first", "second"):
        with experiment("example", tiny(), store) as current:
            run = current.step("count", {"of": "things"}, work)
            (tmp_path / attempt).mkdir()
            frame = pd.read_csv(store.download(run, "step/result.csv", tmp_path / attempt))
            assert frame["a"].tolist() == [1]
    assert done == [run.run_id]


def test_a_step_of_another_identity_is_another_step(store, own_experiment):
    done = []
    with experiment("example", tiny(), store) as current:
        for of in ("things", "people"):
            current.step("count", {"of": of}, lambda run: done.append(run.run_id))
    assert len(set(done)) == 2


def test_a_step_that_fails_fails_the_experiment_and_is_done_again(store, own_experiment):
    done = []

    def work(run):
        done.append(run.run_id)
        if len(done) == 1:
            raise ActionTrackError("no luck")

    with pytest.raises(ActionTrackError, match="no luck"), experiment("x", tiny(), store) as first:
        first.step("count", {}, work)
    assert store.get_run(first.run.run_id).status == "FAILED"
    with experiment("x", tiny(), store) as second:
        second.step("count", {}, work)
    assert len(done) == 2


def test_the_report_tells_finding_settings_and_steps(store, own_experiment, capsys):
    with experiment("example", tiny(), store) as current:
        run = current.step("count", {}, lambda _: None)
        table = Section(heading="Table", frame=pd.DataFrame({"a": [1]}))
        current.finish(Report(title="Example", sections=[table]), "It is 1.")
    root = store.local_root(current.run) / "example"
    text = (root / "report.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["# Example", "## Finding", "## Table", "## Settings", "## Steps"]
    assert run.run_id in text
    steps = pd.read_parquet(root / "tables" / "04-steps.parquet")
    assert steps["step"].tolist() == ["count"]
    printed = capsys.readouterr().out
    assert "It is 1." in printed
    assert f"{root}/report.html" in printed


def test_the_parent_run_holds_the_values_that_the_scale_filled_in(store, own_experiment):
    with experiment("example", tiny(), store) as current:
        pass
    params = store.get_run(current.run.run_id).params
    assert params["effective.dataset"] == "digits"
    assert params["effective.subset"] == "60"
