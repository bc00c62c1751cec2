"""XGBoost and LightGBM: a boosting round is a step."""
# ruff: noqa: ARG002, RUF012 - the signatures are the libraries', the tables are constants

import lightgbm
import mlflow
import numpy as np
import pytest
import xgboost
from helpers import message
from sklearn.datasets import load_diabetes

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder import lightgbm as lightgbm_adapter
from actiontrack.recorder import xgboost as xgboost_adapter

ROUNDS, N = 4, 40


class XGBoost:
    binary, classes = {"objective": "binary:logistic"}, {"objective": "multi:softprob"}
    regression, absolute = {"objective": "reg:squarederror"}, {"objective": "reg:absoluteerror"}
    other = {"objective": "reg:gamma"}
    early = {"early_stopping_rounds": 1}

    @staticmethod
    def track(inputs, labels, **options):
        return xgboost_adapter.ActionTrackCallback(inputs, labels, **options)

    @staticmethod
    def train(params, inputs, labels, *callbacks, rounds=ROUNDS, model=None, **options):
        data = xgboost.DMatrix(inputs, labels)
        params = params | {"nthread": 1, "max_depth": 3}
        if options:
            options["evals"] = [(xgboost.DMatrix(inputs, labels[::-1]), "wrong")]
            options["verbose_eval"] = False
        return xgboost.train(
            params, data, rounds, callbacks=list(callbacks), xgb_model=model, **options
        )

    @staticmethod
    def raw(model, inputs, rounds):
        data = xgboost.DMatrix(inputs)
        return model.predict(data, output_margin=True, iteration_range=(0, rounds))

    @staticmethod
    def failing(round_):
        class Failing(xgboost.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                if epoch == round_:
                    raise ZeroDivisionError
                return False

        return Failing()


class LightGBM:
    binary, classes = {"objective": "binary"}, {"application": "softmax"}
    regression, absolute = {"objective": "mse"}, {"objective": "mae"}
    other = {"objective": "gamma"}
    early = {"callbacks": [lightgbm.early_stopping(1, verbose=False)]}

    @staticmethod
    def track(inputs, labels, **options):
        return lightgbm_adapter.ActionTrackCallback(inputs, labels, **options)

    @staticmethod
    def train(params, inputs, labels, *callbacks, rounds=ROUNDS, model=None, **options):
        params = params | {"num_threads": 1, "verbosity": -1, "min_data_in_leaf": 2}
        data = lightgbm.Dataset(inputs, labels)
        if options:
            callbacks = (*callbacks, *options.pop("callbacks"))
            options["valid_sets"] = [lightgbm.Dataset(inputs, labels[::-1], reference=data)]
        return lightgbm.train(
            params, data, rounds, callbacks=list(callbacks), init_model=model, **options
        )

    @staticmethod
    def raw(model, inputs, rounds):
        return model.predict(inputs, raw_score=True, num_iteration=rounds)

    @staticmethod
    def failing(round_):
        def fail(env):
            if env.iteration == round_:
                raise ZeroDivisionError

        return fail


@pytest.fixture(params=[XGBoost, LightGBM], ids=["xgboost", "lightgbm"])
def library(request):
    return request.param


@pytest.fixture
def diabetes():
    inputs, targets = load_diabetes(return_X_y=True)
    return inputs[:200], targets[:200] / 100


@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_round_is_recorded_by_its_cross_entropy(
    library, digits, history, complete, run_id, cross_entropy, n_classes
):
    inputs, labels = digits
    labels = labels % n_classes
    params = library.binary if n_classes == 2 else library.classes | {"num_class": 3}
    with mlflow.start_run(run_id=run_id):
        model = library.train(params, inputs, labels, library.track(inputs[:N], labels[:N]))
    recorded = history(run_id)
    raw = [library.raw(model, inputs[:N], each + 1) for each in range(ROUNDS)]
    logits = [np.stack([0 * each, each], axis=1) if each.ndim == 1 else each for each in raw]
    expected = [cross_entropy(each, labels[:N]) for each in logits]
    np.testing.assert_allclose(recorded.losses, expected, rtol=1e-4, atol=1e-6)
    assert recorded.steps.tolist() == [1, 2, 3, 4]
    assert recorded.loss_name == "cross_entropy"
    assert complete(run_id)


@pytest.mark.parametrize("name", ["squared_error", "absolute_error"])
def test_a_regression_is_recorded_by_the_error_that_it_minimises(
    library, diabetes, history, run_id, name
):
    inputs, targets = diabetes
    params = library.regression if name == "squared_error" else library.absolute
    track = library.track(inputs[:N], targets[:N], run_id=run_id)
    model = library.train(params, inputs, targets, track)
    error = np.square if name == "squared_error" else np.abs
    raw = [library.raw(model, inputs[:N], each + 1) for each in range(ROUNDS)]
    expected = [error(each - targets[:N]) for each in raw]
    recorded = history(run_id)
    np.testing.assert_allclose(recorded.losses, expected, rtol=1e-3, atol=1e-5)
    assert (recorded.loss_name, recorded.labels) == (name, None)


def test_the_training_is_the_same_with_a_probe(library, digits, run_id):
    inputs, labels = digits
    params = library.binary | {"subsample": 0.5, "bagging_freq": 1, "seed": 1}
    track = library.track(inputs[:N], labels[:N] % 2, run_id=run_id)
    if library is XGBoost:
        params.pop("bagging_freq")
    models = [library.train(params, inputs, labels % 2, *each) for each in ((), (track,))]
    plain, tracked = (library.raw(each, inputs, ROUNDS) for each in models)
    np.testing.assert_array_equal(plain, tracked)


def test_another_objective_needs_a_loss(library, diabetes, run_id):
    inputs, targets = diabetes
    track = library.track(inputs[:N], targets[:N], run_id=run_id)
    text = r"^loss: must be given for this objective, got '(reg:)?gamma'\. Pass a function"
    with pytest.raises(ParameterError, match=text):
        library.train(library.other, inputs, targets, track)


def test_a_loss_of_ones_own_gets_labels_and_raw_scores(library, diabetes, history, run_id):
    inputs, targets = diabetes

    def deviance(labels, raw):
        return labels / np.exp(raw) + raw

    track = library.track(inputs[:N], targets[:N], run_id=run_id, loss=deviance)
    model = library.train(library.other, inputs, targets, track)
    expected = deviance(targets[:N], library.raw(model, inputs[:N], ROUNDS))
    np.testing.assert_allclose(history(run_id).losses[-1], expected, rtol=1e-4)


def test_early_stopping_keeps_and_finishes_the_rounds(library, digits, history, complete, run_id):
    inputs, labels = digits
    with library.track(inputs[:N], labels[:N] % 2, run_id=run_id) as track:
        library.train(library.binary, inputs, labels % 2, track, rounds=50, **library.early)
    assert 1 <= history(run_id).n_steps < 50
    assert complete(run_id)


def test_an_error_in_training_keeps_the_rounds_before(library, digits, history, complete, run_id):
    inputs, labels = digits
    track = library.track(inputs[:N], labels[:N] % 2, run_id=run_id)
    with pytest.raises(ZeroDivisionError), track:
        library.train(library.binary, inputs, labels % 2, track, library.failing(2))
    assert history(run_id).n_steps in {2, 3}
    assert not complete(run_id)
    assert track.recorder.synced


def test_training_that_goes_on_continues_the_record(library, digits, history, run_id):
    inputs, labels = digits
    labels = labels % 2
    track = library.track(inputs[:N], labels[:N], run_id=run_id)
    model = library.train(library.binary, inputs, labels, track)
    again = library.track(inputs[:N], labels[:N], run_id=run_id, resume=True)
    library.train(library.binary, inputs, labels, again, rounds=2, model=model)
    assert history(run_id).steps.tolist() == [1, 2, 3, 4, 5, 6]


def test_without_a_run_training_does_not_begin(library, digits):
    inputs, labels = digits
    text = "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
    with pytest.raises(RecordingError, match=message(text)):
        library.train(library.binary, inputs, labels % 2, library.track(inputs, labels % 2))


def test_cross_validation_is_refused(digits, run_id):
    inputs, labels = digits[0], digits[1] % 2
    text = "{}.cv can't be recorded. Train the folds one by one, each in its own run."
    data = xgboost.DMatrix(inputs, labels)
    tracks = [each.track(inputs[:N], labels[:N], run_id=run_id) for each in (XGBoost, LightGBM)]
    with pytest.raises(RecordingError, match=message(text.format("xgboost"))):
        xgboost.cv(XGBoost.binary, data, 2, nfold=2, callbacks=tracks[:1])
    data = lightgbm.Dataset(inputs, labels, params={"verbosity": -1})
    with pytest.raises(RecordingError, match=message(text.format("lightgbm"))):
        lightgbm.cv(LightGBM.binary | {"verbosity": -1}, data, 2, callbacks=tracks[1:])


def test_a_matrix_brings_its_labels(digits, history, run_id):
    inputs, labels = digits
    data = xgboost.DMatrix(inputs[:N], labels[:N] % 2)
    track = xgboost_adapter.ActionTrackCallback(data, run_id=run_id, ids=np.arange(N) + 7)
    XGBoost.train(XGBoost.binary, inputs, labels % 2, track)
    recorded = history(run_id)
    assert recorded.labels.tolist() == (labels[:N] % 2).tolist()
    assert recorded.sample_ids.tolist() == list(range(7, N + 7))


def test_an_array_without_labels_is_refused(digits):
    text = "labels: must be given with an array, got None. Pass labels."
    with pytest.raises(ParameterError, match=message(text)):
        xgboost_adapter.ActionTrackCallback(digits[0])


def test_the_classes_in_the_manner_of_scikit_learn_take_the_callbacks(digits, history, new_run):
    inputs, labels = digits
    runs = [new_run(), new_run()]
    track = xgboost_adapter.ActionTrackCallback(inputs[:N], labels[:N], run_id=runs[0])
    xgboost.XGBClassifier(n_estimators=2, n_jobs=1, callbacks=[track]).fit(inputs, labels)
    track = lightgbm_adapter.ActionTrackCallback(inputs[:N], labels[:N], run_id=runs[1])
    model = lightgbm.LGBMClassifier(n_estimators=2, n_jobs=1, verbosity=-1)
    model.fit(inputs, labels, callbacks=[track])
    assert [history(each).n_steps for each in runs] == [2, 2]
