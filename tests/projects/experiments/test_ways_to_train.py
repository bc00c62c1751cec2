"""An experiment trains in this process, in processes of their own, or all models at once."""

from types import SimpleNamespace

import pytest
from helpers import message

from actiontrack.errors import StoreError
from projects.experiments import experiment as module
from projects.experiments.experiment import STEP_TAG, Experiment, training_identity
from projects.params import parse, to_strings
from projects.params.experiments import ExperimentParams


class Store:
    """In place of the tracking server: runs by their ids, and those that are finished by tag."""

    def __init__(self, finished=()):
        self.tags, self._finished = {}, dict(finished)

    def find_finished(self, _, tags):
        return self._finished.get(tags[STEP_TAG])

    def get_run(self, run_id):
        return a_run(run_id)

    def set_tags(self, run_id, tags):
        self.tags[run_id] = tags


def a_run(run_id):
    return SimpleNamespace(run_id=run_id, name=run_id, start_time=0, end_time=1500)


def an_experiment(store, *argv):
    params = parse(ExperimentParams, ["--epochs", "1", *argv])
    run = SimpleNamespace(run_id="parent", experiment_id="7")
    return Experiment("example", params, store, run), params


@pytest.fixture
def trainings():
    params = parse(ExperimentParams, ["--epochs", "1"])
    return [params.training(model="cnn3", seed=seed) for seed in (0, 1)]


@pytest.fixture
def trained(monkeypatch):
    """What was trained by which way."""
    log = []

    def here(params, store, *, nested):
        log.append(("here", params.seed, nested))
        return a_run(f"here {params.seed}"), True

    def in_processes(store, parent, children, *, parallel):
        log.append(("processes", [child.parameters for child in children], parallel))
        log.append([child.tags[STEP_TAG] for child in children])
        return [f"process {child.parameters['seed']}" for child in children]

    def at_once(trainings, store, *, tags):
        log.append(("at once", [params.seed for params in trainings], tags))
        return [a_run(f"at once {params.seed}") for params in trainings]

    monkeypatch.setattr(module, "train", here)
    monkeypatch.setattr(module, "run_children", in_processes)
    monkeypatch.setattr(module, "train_stacked", at_once)
    return log


def test_one_at_once_trains_in_this_process_as_nested_runs(trainings, trained):
    store = Store()
    current, _ = an_experiment(store, "--parallel", "1")
    runs = current.train(trainings)
    assert [run.run_id for run in runs] == ["here 0", "here 1"]
    assert trained == [("here", 0, True), ("here", 1, True)]
    assert store.tags["here 1"] == {STEP_TAG: training_identity(trainings[1])}


def test_several_at_once_train_in_processes_with_all_their_parameters(trainings, trained):
    current, _ = an_experiment(Store(), "--parallel", "3")
    runs = current.train(trainings)
    assert [run.run_id for run in runs] == ["process 0", "process 1"]
    way, tags = trained
    assert way == ("processes", [to_strings(params) for params in trainings], 3)
    assert tags == [training_identity(params) for params in trainings]


def test_stacked_models_train_at_once(trainings, trained):
    current, _ = an_experiment(Store(), "--parallel", "3")
    runs = current.train(trainings, stacked=True)
    assert [run.run_id for run in runs] == ["at once 0", "at once 1"]
    tags = [{STEP_TAG: training_identity(params)} for params in trainings]
    assert trained == [("at once", [0, 1], tags)]


@pytest.mark.parametrize(("stacked", "second"), [(False, "here 1"), (True, "at once 1")])
def test_what_is_finished_is_not_trained_again(trainings, trained, stacked, second):
    store = Store({training_identity(trainings[0]): a_run("earlier")})
    current, _ = an_experiment(store, "--parallel", "1")
    runs = current.train(trainings, stacked=stacked)
    assert [run.run_id for run in runs] == ["earlier", second]
    assert len(trained) == 1


def test_stacked_models_that_are_all_finished_start_nothing(trainings, trained):
    done = {training_identity(params): a_run(f"earlier {params.seed}") for params in trainings}
    current, _ = an_experiment(Store(done), "--parallel", "1")
    runs = current.train(trainings, stacked=True)
    assert [run.run_id for run in runs] == ["earlier 0", "earlier 1"]
    assert trained == []


def test_a_record_that_is_not_uploaded_ends_the_experiment_with_the_remedy(trainings, monkeypatch):
    monkeypatch.setattr(module, "train", lambda *_, **__: (a_run("abc"), False))
    current, _ = an_experiment(Store(), "--parallel", "1")
    text = (
        "train cnn3 seed 0: the record of run abc is not uploaded. Run `actiontrack sync`, then "
        "the experiment again."
    )
    with pytest.raises(StoreError, match=message(text)):
        current.train(trainings)
