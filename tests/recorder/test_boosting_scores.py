"""XGBoost and LightGBM: recorded means are those of the library's own metric, however it boosts."""

import logging

import lightgbm
import numpy as np
import pytest
import xgboost
from helpers import message
from sklearn.datasets import load_breast_cancer

from actiontrack.errors import ParameterError
from actiontrack.recorder.lightgbm import ActionTrackCallback as LightGBMTrack
from actiontrack.recorder.xgboost import ActionTrackCallback as XGBoostTrack

ROUNDS = 3
FOREST = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}


@pytest.fixture(scope="session")
def cancer():
    """Inputs, labels and initial scores of 100 samples to train on and 80 to record."""
    inputs, labels = load_breast_cancer(return_X_y=True)
    start = np.where(inputs[:, 0] > 15, -2.0, 2.0)
    return [(inputs[rows], labels[rows], start[rows]) for rows in (slice(100), slice(100, 180))]


@pytest.fixture
def recorded(store, run_id):
    """A function that reads the mean of each step, and what the record says of the comparison."""

    def read():
        record = store.open_record(run_id, "test-probe")
        return record.history().losses.mean(axis=1), record.manifest.notes.get("loss_check")

    return read


def train_xgboost(track, params, train, test, **options):
    """Train; returns what XGBoost reports of `test` after each round."""
    reported = {}
    settings = {"objective": "binary:logistic", "nthread": 1, "verbosity": 0} | params
    with track:
        xgboost.train(
            settings,
            train,
            ROUNDS,
            evals=[(test, "v")],
            evals_result=reported,
            verbose_eval=False,
            callbacks=[track],
            **options,
        )
    return next(iter(reported["v"].values()))


def train_lightgbm(track, params, train, test, *, start=(None, None), weight=None, **options):
    """Train; returns what LightGBM reports of `test` after each round."""
    reported = {}
    settings = {"objective": "binary", "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5}
    data = lightgbm.Dataset(train[0], train[1], init_score=start[0])
    valid = lightgbm.Dataset(test[0], test[1], init_score=start[1], weight=weight, reference=data)
    with track:
        lightgbm.train(
            settings | params,
            data,
            ROUNDS,
            valid_sets=[valid],
            valid_names=["v"],
            callbacks=[track, lightgbm.record_evaluation(reported)],
            **options,
        )
    return next(iter(reported["v"].values()))


@pytest.mark.parametrize("margin", ["given", "of the evaluation set", "of the matrix"])
@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
def test_base_margins_are_part_of_the_margins(cancer, recorded, run_id, booster, margin):
    (x, y, start), (probe, labels, probe_start) = cancer
    train = xgboost.DMatrix(x, y, base_margin=start)
    test = xgboost.DMatrix(probe, labels, base_margin=probe_start)
    arguments = {"base_margin": probe_start} if margin == "given" else {}
    inputs = (test,) if margin == "of the matrix" else (probe, labels)
    track = XGBoostTrack(*inputs, run_id=run_id, **arguments)
    reported = train_xgboost(track, {"booster": booster}, train, test)
    means, check = recorded()
    np.testing.assert_allclose(means, reported, rtol=1e-5)
    assert check == "agrees"


def test_base_margins_of_a_quantile_matrix_are_found(cancer, recorded, run_id):
    (x, y, start), (probe, labels, probe_start) = cancer
    track = XGBoostTrack(probe, labels, run_id=run_id)
    model = xgboost.XGBClassifier(n_estimators=ROUNDS, n_jobs=1, max_bin=16, callbacks=[track])
    model.fit(
        x,
        y,
        base_margin=start,
        eval_set=[(probe, labels)],
        base_margin_eval_set=[probe_start],
        verbose=False,
    )
    means, check = recorded()
    np.testing.assert_allclose(means, model.evals_result()["validation_0"]["logloss"], rtol=1e-5)
    assert check == "agrees"


@pytest.mark.parametrize("form", [np.asarray, xgboost.DMatrix])
def test_base_margins_that_the_probe_lacks_are_asked_for(cancer, run_id, form):
    (x, y, start), (probe, labels, _) = cancer
    inputs = (probe, labels) if form is np.asarray else (xgboost.DMatrix(probe, labels),)
    train = xgboost.DMatrix(x, y, base_margin=start)
    track = XGBoostTrack(*inputs, run_id=run_id)
    text = (
        "base_margin: must be given, as the training starts from base margins, got None. Pass "
        "base_margin= with an array, or set it on the DMatrix; zeros if the samples of the probe "
        "have none."
    )
    with pytest.raises(ParameterError, match=message(text)):
        train_xgboost(track, {}, train, train)
    assert track.recorder is None


def test_missing_values_of_the_probe_are_those_of_the_training(cancer, recorded, run_id):
    (x, y, _), (probe, labels, _) = cancer
    x, probe = np.where(x > 100, -999, x), np.where(probe > 100, -999, probe)
    track = XGBoostTrack(probe, labels, run_id=run_id)
    train, test = (xgboost.DMatrix(*pair, missing=-999) for pair in ((x, y), (probe, labels)))
    reported = train_xgboost(track, {}, train, test)
    means, check = recorded()
    np.testing.assert_allclose(means, reported, rtol=1e-5)
    assert check == "agrees"


def test_a_custom_objective_asks_for_a_loss(cancer, run_id):
    (x, y, _), (probe, labels, _) = cancer

    def squares(predictions, data):
        return predictions - data.get_label(), np.ones_like(predictions)

    track = XGBoostTrack(probe, labels, run_id=run_id)
    train = xgboost.DMatrix(x, y)
    with pytest.raises(ParameterError, match=r"^loss: must be given for this objective, got 'a f"):
        train_xgboost(track, {"objective": "reg:squarederror"}, train, train, obj=squares)


def test_several_targets_of_a_logistic_objective_are_yes_no_labels(cancer, recorded, run_id):
    (x, y, _), (probe, labels, _) = cancer
    train, test = (np.stack([t, 1 - t], axis=1) for t in (y, labels))  # every row is one-hot
    track = XGBoostTrack(probe, test, run_id=run_id)
    reported = train_xgboost(track, {}, xgboost.DMatrix(x, train), xgboost.DMatrix(probe, test))
    means, check = recorded()
    np.testing.assert_allclose(means, reported, rtol=1e-5)
    assert check == "agrees"


def test_weights_of_the_evaluation_set_weigh_in_the_comparison(cancer, recorded, run_id):
    (x, y, _), (probe, labels, _) = cancer
    test = xgboost.DMatrix(probe, labels, weight=np.linspace(0, 1, len(labels)))
    reported = train_xgboost(XGBoostTrack(test, run_id=run_id), {}, xgboost.DMatrix(x, y), test)
    means, check = recorded()
    assert abs(means[0] - reported[0]) > 1e-4
    assert check == "agrees"


def test_losses_beyond_the_limit_of_the_library_agree(cancer, recorded, run_id):
    (x, y, _), (probe, labels, _) = cancer
    params = {"eta": 30, "lambda": 0, "min_child_weight": 0}
    test = xgboost.DMatrix(probe, 1 - labels)
    reported = train_xgboost(XGBoostTrack(test, run_id=run_id), params, xgboost.DMatrix(x, y), test)
    means, check = recorded()
    assert means[-1] > reported[-1] + 1
    assert check == "agrees"


def test_a_difference_is_told_and_the_training_goes_on(cancer, recorded, run_id, caplog):
    (x, y, _), (probe, labels, start) = cancer
    test = xgboost.DMatrix(probe, labels, base_margin=start)
    track = XGBoostTrack(probe, labels, base_margin=np.zeros(len(labels)), run_id=run_id)
    with caplog.at_level(logging.WARNING, "actiontrack"):
        reported = train_xgboost(track, {}, xgboost.DMatrix(x, y), test)
    means, check = recorded()
    assert len(means) == ROUNDS
    text = (
        f"step 1: the mean of the recorded losses is {means[0]:.6g}, XGBoost's logloss of 'v' "
        f"reports {reported[0]:.6g} for the same 80 samples"
    )
    assert check == f"differs at {text}"
    assert text in caplog.text


@pytest.mark.parametrize("given", [True, False], ids=["given", "of the validation set"])
@pytest.mark.parametrize(
    "params", [{}, {"boosting": "dart", "drop_rate": 0.9}], ids=["gbdt", "dart"]
)
def test_initial_scores_are_part_of_the_scores(cancer, recorded, run_id, params, given):
    train, test = cancer
    track = LightGBMTrack(*test[:2], init_score=test[2] if given else None, run_id=run_id)
    reported = train_lightgbm(track, params, train, test, start=(train[2], test[2]))
    means, check = recorded()
    np.testing.assert_allclose(means, reported, rtol=1e-5)
    assert check == "agrees"


@pytest.mark.parametrize("flat", [True, False])
def test_initial_scores_of_classes_come_by_sample_or_by_class(digits, recorded, run_id, flat):
    inputs, labels = digits
    start = np.random.default_rng(0).normal(size=(len(labels), 10))
    given = start.T.ravel() if flat else start
    track = LightGBMTrack(inputs, labels, init_score=given, run_id=run_id)
    params = {"objective": "multiclass", "num_class": 10}
    data = inputs, labels
    reported = train_lightgbm(track, params, data, data, start=(start, start))
    means, check = recorded()
    np.testing.assert_allclose(means, reported, rtol=1e-5)
    assert check == "agrees"


def test_initial_scores_that_the_probe_lacks_are_asked_for(cancer, run_id):
    train, test = cancer
    track = LightGBMTrack(test[0], test[1], run_id=run_id)
    text = (
        "init_score: must be given, as the training starts from initial scores, got None. Pass "
        "init_score=; zeros if the samples of the probe have none."
    )
    with pytest.raises(ParameterError, match=message(text)):
        train_lightgbm(track, {}, train, train, start=(train[2], train[2]))


def test_initial_scores_of_another_length_are_refused(cancer, run_id):
    train, test = cancer
    track = LightGBMTrack(*test[:2], init_score=np.zeros(7), run_id=run_id)
    text = "init_score: must have 80 rows, one per sample, got (7,). Pass one score per sample."
    with pytest.raises(ParameterError, match=message(text)):
        train_lightgbm(track, {}, train, test)


def test_a_training_that_goes_on_has_no_initial_scores(cancer, recorded, run_id):
    train, test = cancer
    model = lightgbm.train(
        {"objective": "binary", "verbosity": -1}, lightgbm.Dataset(*train[:2]), 2
    )
    track = LightGBMTrack(*test[:2], run_id=run_id)
    reported = train_lightgbm(track, {}, train, test, init_model=model)
    means, check = recorded()
    np.testing.assert_allclose(means, reported, rtol=1e-5)
    assert check == "agrees"
    track = LightGBMTrack(*test[:2], init_score=test[2], split="other", run_id=run_id)
    with pytest.raises(ParameterError, match=r"^init_score: must not be given with an init_model"):
        train_lightgbm(track, {}, train, test, init_model=model)


@pytest.mark.parametrize("objective", ["binary", "regression"])
def test_a_forest_is_the_mean_of_its_trees(cancer, recorded, run_id, objective):
    train, test = cancer
    track = LightGBMTrack(*test[:2], run_id=run_id)
    reported = train_lightgbm(track, FOREST | {"objective": objective}, train, test)
    means, check = recorded()
    np.testing.assert_allclose(means, reported, rtol=1e-5)
    assert check == "agrees"


def test_weights_of_the_validation_set_weigh_in_the_comparison(cancer, recorded, run_id):
    train, test = cancer
    track = LightGBMTrack(*test[:2], run_id=run_id)
    reported = train_lightgbm(track, {}, train, test, weight=np.linspace(0.1, 1, 80))
    means, check = recorded()
    assert abs(means[0] - reported[0]) > 1e-4
    assert check == "agrees"


# LightGBM 4.7 encodes the labels of `eval_set` alone, not those of `eval_y`.
@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
@pytest.mark.parametrize("codes", [[1, 2, 3], [-1, 0, 7], ["cat", "dog", "eel"]])
def test_the_classes_of_the_classifier_decide(digits, store, run_id, codes):
    inputs, labels = digits
    labels = np.array(codes)[labels % 3]
    some = np.flatnonzero(labels != codes[0])  # the probe never sees the first class
    track = LightGBMTrack(inputs[some], labels[some], run_id=run_id)
    model = lightgbm.LGBMClassifier(n_estimators=ROUNDS, n_jobs=1, verbose=-1)
    model.fit(inputs, labels, eval_set=[(inputs[some], labels[some])], callbacks=[track])
    record = store.open_record(run_id, "test-probe")
    reported = model.evals_result_["valid_0"]["multi_logloss"]
    np.testing.assert_allclose(record.history().losses.mean(axis=1), reported, rtol=1e-5)
    assert record.manifest.class_names == tuple(str(code) for code in codes)
    assert record.manifest.notes == {"loss_check": "agrees"}


def test_a_label_that_is_no_class_of_the_classifier_is_refused(digits, run_id):
    inputs, labels = digits
    track = LightGBMTrack(inputs, labels + 1, run_id=run_id)
    model = lightgbm.LGBMClassifier(n_estimators=ROUNDS, n_jobs=1, verbose=-1)
    text = "labels: must be classes of the estimator, got [10]. Leave these samples out."
    with pytest.raises(ParameterError, match=message(text)):
        model.fit(inputs, labels, callbacks=[track])


def test_a_label_beyond_the_classes_ends_no_training_half_way(digits, run_id):
    inputs, labels = digits
    track = XGBoostTrack(inputs, labels + 1, run_id=run_id)
    train = xgboost.DMatrix(inputs, labels)
    text = (
        "labels: must be class indices 0 to 9, got [10]. "
        "Encode them as 0, 1, …, in the order of the classes in training."
    )
    with pytest.raises(ParameterError, match=message(text)):
        train_xgboost(track, {"objective": "multi:softprob", "num_class": 10}, train, train)
    assert track.recorder is None


@pytest.mark.parametrize(
    ("arguments", "name"), [({"labels": [1, 0]}, "labels"), ({"base_margin": [0]}, "base_margin")]
)
def test_a_matrix_has_its_own_labels_and_margins(cancer, arguments, name):
    matrix = xgboost.DMatrix(*cancer[1][:2])
    with pytest.raises(ParameterError, match=rf"^{name}: must not be given beside those of a DMat"):
        XGBoostTrack(matrix, **arguments)
