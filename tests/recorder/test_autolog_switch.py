"""What `actiontrack.autolog` promises of every framework, shown on XGBoost: disable, exclusive …"""

import logging
import pickle
import random
import threading
import warnings

import mlflow
import numpy as np
import pytest
import xgboost
from autologging import autologged, runs_of, warnings_of
from sklearn.datasets import load_digits
from xgboost.callback import TrainingCallback

import actiontrack
from actiontrack.errors import ParameterError
from actiontrack.recorder.xgboost import ActionTrackCallback

INPUTS, LABELS = load_digits(n_class=3, return_X_y=True)
INPUTS, LABELS = INPUTS[:60], LABELS[:60]
PARAMETERS = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}


@pytest.fixture
def plain():
    """XGBoost's own function, which is there again at the end."""
    function = xgboost.train
    yield function
    actiontrack.autolog(disable=True)
    assert xgboost.train is function
    assert xgboost.training.train is function
    assert xgboost.sklearn.train is function


@pytest.fixture
def records(store, active_experiment):
    """A function that returns the records of each run of the test's experiment."""
    return lambda: [run.records for run in runs_of(store, active_experiment)]


@pytest.fixture
def mlflow_autolog():
    """MLflow's own autologging of XGBoost; a function."""
    options = {"log_models": False, "log_datasets": False}
    yield lambda **more: mlflow.xgboost.autolog(**options | more)
    mlflow.xgboost.autolog(disable=True)


def train(*callbacks, rounds=2, **options):
    matrix = xgboost.DMatrix(INPUTS, LABELS)
    return xgboost.train(PARAMETERS, matrix, rounds, callbacks=list(callbacks), **options)


# ---------------------------------------------------------------- on and off


def test_a_training_without_a_run_gets_one(plain, records, store, active_experiment):
    with autologged():
        train()
    (run,) = runs_of(store, active_experiment)
    assert (run.status, run.records) == ("FINISHED", ("train-probe",))
    assert mlflow.active_run() is None


def test_it_says_what_is_recorded_and_what_the_ids_are(plain, store, run_id):
    with autologged(), mlflow.start_run(run_id=run_id):
        train()
    tags = store.get_run(run_id).tags
    assert tags["actiontrack.train-probe.autolog"] == "xgboost: dtrain"
    assert tags["actiontrack.train-probe.ids"] == "positions in dtrain"


def test_the_name_of_a_run_is_not_drawn_from_the_random_numbers_of_the_training(plain, records):
    state = random.getstate()
    with autologged():
        train()
    assert records() == [("train-probe",)]
    assert random.getstate() == state


def test_turned_off_and_on_again(plain, records):
    for _ in range(2):
        with autologged():
            train()
        train()
    assert records() == [("train-probe",)] * 2


def test_frameworks_that_are_not_named_are_left_alone(plain, records):
    with autologged("keras"):
        assert xgboost.train is plain
        train()
    assert records() == []


def test_what_is_said_by_name_takes_precedence(plain, records):
    with autologged(split="all"):
        actiontrack.autolog("xgboost", split="mine")
        train()
        actiontrack.autolog(split="others")
        train()
        actiontrack.autolog("xgboost", disable=True)
        train()
        actiontrack.autolog()
        train()
    assert records() == [("mine-probe",)] * 2
    with autologged():
        train()
    assert len(records()) == 3


def test_a_name_that_there_is_not_is_refused(plain):
    with pytest.raises(ParameterError, match="must be of the adapters that are installed: "):
        actiontrack.autolog("xgbost")
    with pytest.raises(ParameterError, match="must be of adapters that autologging can attach"):
        actiontrack.autolog("sklearn")


def test_functions_that_train_are_sent_to_other_processes(plain):
    with autologged():
        assert pickle.loads(pickle.dumps(xgboost.train)) is xgboost.train  # noqa: S301


def test_options_are_those_of_the_callback(plain, history, run_id):
    ids = [f"digit {row}" for row in range(60)]
    with autologged("xgboost", ids=ids, precision="half"), mlflow.start_run(run_id=run_id):
        train()
    assert history(run_id, "train-probe").sample_ids.tolist() == sorted(ids)


# ---------------------------------------------------------------- exclusive and silent


def test_exclusive_records_nothing_into_a_run_of_the_users(plain, records, store, run_id):
    with autologged(exclusive=True):
        with mlflow.start_run(run_id=run_id):
            train()
        train()
    assert store.get_run(run_id).records == ()
    assert sorted(records()) == [(), ("train-probe",)]


def test_exclusive_records_into_the_run_that_mlflow_has_started(plain, mlflow_autolog, records):
    mlflow_autolog()
    with autologged(exclusive=True):
        train()
    assert records() == [("train-probe",)]


@pytest.mark.filterwarnings("default:of a loss")
def test_nothing_is_said_in_silence(plain, records, caplog, recwarn):
    with autologged(silent=True, nonsense=1):
        train()
    with autologged("xgboost", silent=True, loss=_warns):
        train()
    assert warnings_of(caplog) == []
    assert not recwarn.list
    assert records() == [("train-probe",)]


def _warns(labels, margins):
    warnings.warn("of a loss", stacklevel=1)
    logging.getLogger("actiontrack").warning("of a recorder")
    return np.ones(len(labels)) * margins.mean() + np.arange(len(labels))


def test_silence_ends_with_the_training(plain, caplog):
    with autologged(silent=True):
        train()
    logging.getLogger("actiontrack").warning("later")
    assert warnings_of(caplog) == ["later"]


# ---------------------------------------------------------------- never into the training


class Fails(TrainingCallback):
    def after_iteration(self, *_):
        raise ZeroDivisionError


def test_an_error_of_the_training_is_the_users(plain, store, active_experiment):
    with autologged(), pytest.raises(ZeroDivisionError):
        train(Fails())
    (run,) = runs_of(store, active_experiment)
    assert run.status == "FAILED"
    record = store.open_record(run.run_id)
    assert (record.manifest.n_steps, record.manifest.complete) == (1, False)


def test_what_is_refused_is_told_once_and_starts_no_run(plain, records, caplog):
    with autologged():
        for _ in range(3):
            booster = xgboost.train(
                {"objective": "count:poisson"}, xgboost.DMatrix(INPUTS, LABELS), 2
            )
            assert booster.num_boosted_rounds() == 2
    (text,) = warnings_of(caplog)
    assert text.startswith(
        "this training is not recorded: loss: must be given for this objective, got 'count:poisson'"
    )
    assert records() == []


def test_an_error_of_ours_keeps_what_was_recorded(plain, store, run_id, caplog):
    calls = []

    def loss(labels, margins):
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError("broken")
        return np.arange(len(labels)) * 1.0

    with autologged(loss=loss), mlflow.start_run(run_id=run_id):
        assert train(rounds=4).num_boosted_rounds() == 4
    assert warnings_of(caplog) == ["this training is not recorded any further: broken"]
    assert store.open_record(run_id).manifest.n_steps == 1


def test_a_second_training_in_a_run_is_told_why(plain, store, run_id, caplog):
    with autologged(), mlflow.start_run(run_id=run_id):
        train()
        train()
    (text,) = warnings_of(caplog)
    assert text.startswith(
        f"this training is not recorded: run {run_id} holds a record train-probe with 2 epochs"
    )


def test_a_training_with_a_callback_of_the_users_is_left_alone(plain, store, run_id):
    with autologged(), mlflow.start_run(run_id=run_id):
        train(ActionTrackCallback(INPUTS[:40], LABELS[:40]))
    assert store.get_run(run_id).records == ("test-probe",)


def test_a_training_inside_of_a_training_is_part_of_it(plain, records):
    class Trains(TrainingCallback):
        def after_iteration(self, *_):
            train()
            return False

    with autologged():
        train(Trains())
    assert records() == [("train-probe",)]


def test_threads_train_in_runs_of_their_own(plain, records):
    with autologged():
        threads = [threading.Thread(target=train) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert records() == [("train-probe",)] * 3


# ---------------------------------------------------------------- beside MLflow's own


@pytest.mark.parametrize("first", ["ours", "mlflow"])
def test_mlflow_logs_the_same_run(plain, mlflow_autolog, store, active_experiment, first):
    if first == "mlflow":
        mlflow_autolog()
    with autologged():
        if first == "ours":
            mlflow_autolog()
        train()
        mlflow_autolog(disable=True)
    (run,) = runs_of(store, active_experiment)
    assert run.records == ("train-probe",)
    assert run.tags["mlflow.autologging"] == "xgboost"
    assert mlflow.get_run(run.run_id).data.params["num_boost_round"] == "2"


@pytest.mark.parametrize("first", ["ours", "mlflow"])
def test_ours_outlasts_mlflows(plain, mlflow_autolog, store, active_experiment, first):
    if first == "mlflow":
        mlflow_autolog()
    with autologged():
        mlflow_autolog()  # puts back what it has found
        mlflow_autolog(disable=True)
        train()
    (run,) = runs_of(store, active_experiment)
    assert run.records == ("train-probe",)
    assert "mlflow.autologging" not in run.tags


def test_mlflows_outlasts_ours(plain, mlflow_autolog, store, active_experiment):
    with autologged():
        mlflow_autolog()
    train()
    (run,) = runs_of(store, active_experiment)
    assert (run.records, run.tags["mlflow.autologging"]) == ((), "xgboost")
    mlflow_autolog(disable=True)


# ---------------------------------------------------------------- what is imported later

LATER = """
import sys
import actiontrack
actiontrack.autolog()
names = ["torch", "lightning", "pytorch_lightning", "transformers", "trl", "keras", "xgboost",
         "lightgbm", "sklearn", "ultralytics"]
print(sorted(set(names) & set(sys.modules)))
import lightgbm
print(hasattr(lightgbm.train, "__wrapped__"), hasattr(lightgbm.sklearn.train, "__wrapped__"))
actiontrack.autolog(disable=True)
print(hasattr(lightgbm.train, "__wrapped__"), hasattr(lightgbm.sklearn.train, "__wrapped__"))
"""


def test_nothing_is_imported_and_what_is_imported_later_is_recorded(in_subprocess):
    assert in_subprocess(LATER).stdout.splitlines() == ["[]", "True True", "False False"]


MISSING = """
import sys
for name in ("lightning", "pytorch_lightning", "transformers", "trl", "keras", "xgboost",
             "lightgbm", "ultralytics"):
    sys.modules[name] = None
import actiontrack
actiontrack.autolog()
actiontrack.autolog("keras", "xgboost")
actiontrack.autolog(disable=True)
"""


def test_frameworks_that_are_not_installed_do_no_harm(in_subprocess):
    assert in_subprocess(MISSING).stderr.splitlines() == [
        "autolog: keras is not installed.",
        "autolog: xgboost is not installed.",
    ]
