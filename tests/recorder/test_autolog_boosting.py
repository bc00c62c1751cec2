"""XGBoost and LightGBM under autologging."""

import lightgbm
import mlflow
import numpy as np
import pytest
import xgboost
from autologging import AutologTests, FailingError, autologged, runs_of, warnings_of
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from xgboost.callback import TrainingCallback

from actiontrack.recorder.lightgbm import ActionTrackCallback
from actiontrack.testing import AdapterTraining

INPUTS, LABELS = load_digits(n_class=3, return_X_y=True)
TRAIN, TEST = slice(120), slice(120, 180)
PARAMETERS = {
    "objective": "multi:softprob",
    "num_class": 3,
    "subsample": 0.7,
    "seed": 1,
    "nthread": 1,
}
LEAVES = {"objective": "multiclass", "num_class": 3, "verbose": -1, "bagging_fraction": 0.7,
          "bagging_freq": 1, "seed": 1, "num_threads": 1}  # fmt: skip


class Fails(TrainingCallback):
    def after_iteration(self, model, epoch, evals_log):  # noqa: ARG002 - XGBoost's signature
        raise FailingError


def cross_entropies(margins):
    return -log_softmax(margins.astype(float), axis=1)[np.arange(60), LABELS[TEST]]


class TestXGBoost(AutologTests):
    framework = "xgboost"
    atol = 1e-5

    def train_as_always(self, *, fails=False):
        train = xgboost.DMatrix(INPUTS[TRAIN], LABELS[TRAIN])
        test = xgboost.DMatrix(INPUTS[TEST], LABELS[TEST])
        booster = xgboost.train(
            PARAMETERS, train, 3, evals=[(test, "test")], verbose_eval=False,
            callbacks=[Fails()] if fails else None,
        )  # fmt: skip
        losses = [
            cross_entropies(booster.predict(test, output_margin=True, iteration_range=(0, n)))
            for n in (1, 2, 3)
        ]
        weights = np.frombuffer(booster.save_raw("json"), np.uint8)
        return AdapterTraining(ids=range(60), losses=losses, weights=[weights])


class TestLightGBM(AutologTests):
    framework = "lightgbm"

    def train_as_always(self, *, fails=False):
        train = lightgbm.Dataset(INPUTS[TRAIN], LABELS[TRAIN])
        test = lightgbm.Dataset(INPUTS[TEST], LABELS[TEST], reference=train)

        def stop(env):
            raise FailingError

        stop.order = 99
        booster = lightgbm.train(
            LEAVES, train, 3, [test], ["test"], callbacks=[stop] if fails else []
        )
        losses = [
            cross_entropies(booster.predict(INPUTS[TEST], raw_score=True, num_iteration=n))
            for n in (1, 2, 3)
        ]
        weights = np.frombuffer(booster.model_to_string().encode(), np.uint8)
        return AdapterTraining(ids=range(60), losses=losses, weights=[weights])


@pytest.fixture
def run(store, run_id):
    """The test's run, in which the block trains under autologging; a function that reads it."""
    with autologged(), mlflow.start_run(run_id=run_id):
        yield lambda: store.get_run(run_id)


# ---------------------------------------------------------------- XGBoost


def test_each_evaluation_set_has_a_record(run, history):
    sets = [(INPUTS[TRAIN], LABELS[TRAIN]), (INPUTS[TEST], LABELS[TEST])]
    classifier = xgboost.XGBClassifier(n_estimators=3, n_jobs=1)
    classifier.fit(INPUTS[TRAIN], LABELS[TRAIN], eval_set=sets, verbose=False)
    assert run().records == ("validation_0-probe", "validation_1-probe")
    for number, (inputs, labels) in enumerate(sets):
        name = f"validation_{number}-probe"
        found = history(run().run_id, name)
        assert run().tags[f"actiontrack.{name}.loss_check"] == "agrees"
        assert found.labels.tolist() == labels.tolist()
        chances = classifier.predict_proba(inputs)[np.arange(len(labels)), labels]
        np.testing.assert_allclose(found.losses[-1], -np.log(chances), rtol=1e-4)


def test_early_stopping_of_xgboost_ends_the_record(run, store):
    train, test = (xgboost.DMatrix(INPUTS[rows], LABELS[rows]) for rows in (TRAIN, TEST))
    never = [xgboost.callback.EarlyStopping(rounds=1, min_delta=100)]
    booster = xgboost.train(
        PARAMETERS, train, 20, evals=[(test, "held/out")], callbacks=never, verbose_eval=False
    )
    manifest = store.open_record(run().run_id, "held_out-probe").manifest
    assert (manifest.complete, manifest.n_steps) == (True, booster.num_boosted_rounds())
    assert manifest.n_steps < 20


TREES = {
    "xgboost": lambda: xgboost.train(PARAMETERS, xgboost.DMatrix(INPUTS, LABELS), 4).save_raw(),
    "xgboost dart": lambda: xgboost.train(
        PARAMETERS | {"booster": "dart", "rate_drop": 0.5}, xgboost.DMatrix(INPUTS, LABELS), 4
    ).save_raw(),
    "XGBClassifier": lambda: (
        xgboost.XGBClassifier(n_estimators=4, subsample=0.7, n_jobs=1)
        .fit(INPUTS, LABELS)
        .get_booster()
        .save_raw()
    ),
    "lightgbm dart": lambda: lightgbm.train(
        LEAVES | {"boosting": "dart", "drop_rate": 0.5}, lightgbm.Dataset(INPUTS, LABELS), 4
    ).model_to_string(),
}


@pytest.mark.parametrize("kind", TREES)
def test_a_look_at_the_training_set_changes_no_tree(kind, store, run_id):
    plain = TREES[kind]()
    with autologged(), mlflow.start_run(run_id=run_id):
        assert TREES[kind]() == plain
    assert store.get_run(run_id).records == ("train-probe",)


@pytest.mark.parametrize("library", [xgboost, lightgbm], ids=["xgboost", "lightgbm"])
def test_cross_validation_is_refused(run, caplog, library):
    if library is xgboost:
        xgboost.cv(PARAMETERS, xgboost.DMatrix(INPUTS, LABELS), 2, nfold=3)
    else:
        lightgbm.cv(LEAVES, lightgbm.Dataset(INPUTS, LABELS), 2, nfold=3)
    (text,) = warnings_of(caplog)
    refused = f"this training is not recorded: {library.__name__}.cv can't be recorded. "
    assert text == f"{refused}Train the folds one by one, each in its own run."
    assert run().records == ()


# ---------------------------------------------------------------- LightGBM


@pytest.mark.filterwarnings("ignore:The argument .eval_set. is deprecated")
def test_classes_of_a_classifier_keep_their_names(run, history):
    names = np.array(["nought", "one", "deux"])[LABELS]
    classifier = lightgbm.LGBMClassifier(n_estimators=3, num_threads=1, verbose=-1)
    classifier.fit(INPUTS[TRAIN], names[TRAIN], eval_set=[(INPUTS[TEST], names[TEST])])
    (name,) = run().records
    found = history(run().run_id, name)
    assert run().tags[f"actiontrack.{name}.loss_check"] == "agrees"
    assert [found.class_names[label] for label in found.labels] == names[TEST].tolist()


def test_early_stopping_of_lightgbm_ends_the_record(run, store):
    stop = lightgbm.early_stopping(1, verbose=False, min_delta=100)
    train = lightgbm.Dataset(INPUTS[TRAIN], LABELS[TRAIN])
    test = lightgbm.Dataset(INPUTS[TEST], LABELS[TEST], reference=train)
    lightgbm.train(LEAVES, train, 20, [test], callbacks=[stop])
    manifest = store.open_record(run().run_id, "valid_0-probe").manifest
    assert manifest.complete
    assert 0 < manifest.n_steps < 20


def test_a_regression_starts_from_its_scores(run, history):
    targets, start = LABELS.astype(float), np.linspace(-1, 1, len(LABELS))
    train = lightgbm.Dataset(INPUTS[TRAIN], targets[TRAIN], init_score=start[TRAIN])
    booster = lightgbm.train({"objective": "regression", "verbose": -1, "num_threads": 1}, train, 2)
    predicted = booster.predict(INPUTS[TRAIN]) + start[TRAIN]
    found = history(run().run_id, "train-probe")
    np.testing.assert_allclose(found.losses[-1], (predicted - targets[TRAIN]) ** 2, rtol=1e-5)


def test_raw_data_that_are_gone_are_a_warning(run, caplog):
    lightgbm.train(LEAVES, lightgbm.Dataset(INPUTS, LABELS).construct(), 2)
    (text,) = warnings_of(caplog)
    assert text.startswith("this training is not recorded: train_set: its raw data are gone")
    assert run().records == ()


def test_a_callback_of_the_users_is_left_alone(run):
    track = ActionTrackCallback(INPUTS[TEST], LABELS[TEST])
    lightgbm.train(LEAVES, lightgbm.Dataset(INPUTS, LABELS), 2, callbacks=[track])
    assert run().records == ("test-probe",)


@pytest.mark.parametrize("first", ["ours", "mlflow"])
def test_mlflow_logs_the_same_run(store, active_experiment, first):
    function, options = lightgbm.train, {"log_models": False, "log_datasets": False}
    try:
        if first == "mlflow":
            mlflow.lightgbm.autolog(**options)
        with autologged("lightgbm"):
            if first == "ours":
                mlflow.lightgbm.autolog(**options)
            lightgbm.train(LEAVES, lightgbm.Dataset(INPUTS, LABELS), 2)
            mlflow.lightgbm.autolog(disable=True)
    finally:
        mlflow.lightgbm.autolog(disable=True)
    (run,) = runs_of(store, active_experiment)
    assert (run.records, run.tags["mlflow.autologging"]) == (("train-probe",), "lightgbm")
    assert lightgbm.train is function
