import logging

import mlflow
import numpy as np
import pytest
from helpers import message
from sklearn.datasets import load_diabetes
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.metrics import log_loss
from sklearn.multiclass import OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.sklearn import (
    ProbeRecorder,
    record_partial_fit,
    record_stages,
    record_warm_start,
)

TEXTS = np.array([f"digit {each}" for each in range(10)])


@pytest.fixture
def probe(digits, run_id):
    """A function that makes a probe on the first 40 digits of the test's run."""
    inputs, labels = digits

    def make(labels=labels[:40], **options):
        return ProbeRecorder(inputs[:40], labels, **{"run_id": run_id} | options)

    return make


def each_log_loss(probabilities, labels, classes):
    p = np.asarray(probabilities, float)  # float32 rows don't sum to one as log_loss would have it
    rows = zip(labels, p / p.sum(axis=1, keepdims=True), strict=True)
    return [log_loss([label], [row], labels=classes) for label, row in rows]


def test_losses_are_those_of_scikit_learn(digits, probe, history, complete, run_id):
    inputs, labels = digits
    estimator = SGDClassifier(loss="log_loss", random_state=0)
    expected = []
    with probe() as track:
        for _ in range(3):
            estimator.partial_fit(inputs, labels, np.arange(10))
            track.after_step(estimator)
            p = estimator.predict_proba(inputs[:40])
            expected.append(each_log_loss(p, labels[:40], np.arange(10)))
    recorded = history(run_id)
    np.testing.assert_allclose(recorded.losses, expected, rtol=1e-4, atol=1e-6)
    assert recorded.class_names == tuple("0123456789")
    assert recorded.loss_name == "cross_entropy"
    assert complete(run_id)


def test_labels_may_be_text(digits, probe, history, run_id):
    inputs, labels = digits
    with probe(TEXTS[labels[:40]]) as track:
        track.after_step(SGDClassifier(loss="log_loss").fit(inputs, TEXTS[labels]))
    recorded = history(run_id)
    assert recorded.labels.tolist() == labels[:40].tolist()
    assert recorded.class_names == tuple(TEXTS)


def test_a_label_that_is_no_class_is_refused(digits, probe):
    inputs, labels = digits
    few = labels < 5
    text = (
        "labels: must be classes of the estimator, got [5, 6, 7]. "
        "Name all classes in the first partial_fit."
    )
    with pytest.raises(ParameterError, match=message(text)):
        probe().after_step(SGDClassifier(loss="log_loss").fit(inputs[few], labels[few]))


@pytest.mark.parametrize("n_classes", [2, 10])
def test_without_probabilities_the_decision_function_gives_the_logits(
    digits, probe, history, run_id, cross_entropy, n_classes
):
    inputs, labels = digits
    labels = labels % n_classes
    estimator = SGDClassifier(loss="hinge", random_state=0).fit(inputs, labels)
    with probe(labels[:40]) as track:
        track.after_step(estimator)
    scores = estimator.decision_function(inputs[:40])
    logits = np.stack([0 * scores, scores], axis=1) if n_classes == 2 else scores
    np.testing.assert_allclose(
        history(run_id).losses[0], cross_entropy(logits, labels[:40]), rtol=1e-4, atol=1e-6
    )


def test_a_regression_is_recorded_by_its_squared_error(history, run_id):
    inputs, targets = load_diabetes(return_X_y=True)
    estimator = SGDRegressor(random_state=0)
    with ProbeRecorder(inputs[:30], targets[:30], run_id=run_id) as track:
        estimator.partial_fit(inputs, targets)
        track.after_step(estimator)
    recorded = history(run_id)
    expected = (estimator.predict(inputs[:30]) - targets[:30]) ** 2
    np.testing.assert_allclose(recorded.losses[0], expected, rtol=1e-5)
    assert (recorded.loss_name, recorded.labels) == ("squared_error", None)


def test_a_loss_of_ones_own_gets_predictions(digits, probe, history, run_id):
    inputs, labels = digits
    estimator = SGDClassifier(random_state=0).fit(inputs, labels)
    with probe(loss=lambda labels, recorded: (labels != recorded) + labels / 100) as track:
        track.after_step(estimator)
    wrong = estimator.predict(inputs[:40]) != labels[:40]
    np.testing.assert_allclose(history(run_id).losses[0], wrong + labels[:40] / 100, rtol=1e-6)


def test_several_outputs_are_refused(digits, probe):
    inputs, labels = digits
    estimator = MultiOutputClassifier(SGDClassifier(loss="log_loss"))
    estimator.fit(inputs, np.stack([labels, labels], axis=1))
    text = (
        "estimator: must predict one label per sample, or as many labels of 0 and 1 as are given, "
        "got '2 outputs'. Pass a function as the loss."
    )
    with pytest.raises(ParameterError, match=message(text)):
        probe().after_step(estimator)


def test_partial_fit_visits_every_sample_of_each_epoch(digits, probe, history, run_id):
    inputs, labels = digits

    seen = []

    class Spy(SGDClassifier):
        def partial_fit(self, inputs, labels, classes=None):
            seen.append(inputs)
            return super().partial_fit(inputs, labels, classes)

    record_partial_fit(
        Spy(loss="log_loss"), inputs, labels, probe(), epochs=2, batch_size=50, seed=1
    )
    assert [len(each) for each in seen] == [50, 50, 20] * 2
    first = np.concatenate(seen[:3])
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(inputs, axis=0))
    assert not np.array_equal(first, np.concatenate(seen[3:]))
    assert history(run_id).n_steps == 2


def test_partial_fit_of_a_regression_takes_no_classes(history, run_id):
    inputs, targets = load_diabetes(return_X_y=True)
    track = ProbeRecorder(inputs[:30], targets[:30], run_id=run_id)
    record_partial_fit(SGDRegressor(), inputs, targets, track, epochs=2)
    assert history(run_id).n_steps == 2


@pytest.mark.parametrize("kind", [GradientBoostingClassifier, AdaBoostClassifier])
def test_every_stage_of_a_fitted_ensemble_is_a_step(digits, probe, history, run_id, kind):
    inputs, labels = digits
    estimator = kind(n_estimators=4, random_state=0).fit(inputs, labels)
    record_stages(estimator, probe())
    recorded = history(run_id)
    assert recorded.n_steps == len(list(estimator.staged_predict_proba(inputs)))
    expected = each_log_loss(estimator.predict_proba(inputs[:40]), labels[:40], np.arange(10))
    np.testing.assert_allclose(recorded.losses[-1], expected, rtol=1e-4, atol=1e-6)


def test_stages_of_a_regression_are_squared_errors(history, run_id):
    inputs, targets = load_diabetes(return_X_y=True)
    estimator = GradientBoostingRegressor(n_estimators=3).fit(inputs, targets)
    record_stages(estimator, ProbeRecorder(inputs[:30], targets[:30], run_id=run_id))
    expected = [(each - targets[:30]) ** 2 for each in estimator.staged_predict(inputs[:30])]
    np.testing.assert_allclose(history(run_id).losses, expected, rtol=1e-5)


def test_an_estimator_without_stages_is_refused(probe):
    text = (
        "estimator: must have staged_predict_proba or staged_predict, got 'SGDClassifier'. "
        "Use record_warm_start, or call after_step in a loop."
    )
    with pytest.raises(ParameterError, match=message(text)):
        record_stages(SGDClassifier(), probe())


def test_a_warm_start_is_recorded_after_each_fit(digits, probe, history, run_id):
    inputs, labels = digits
    forest = RandomForestClassifier(random_state=0)
    record_warm_start(
        forest, inputs, labels, probe(), parameter="n_estimators", values=range(2, 8, 2)
    )
    recorded = history(run_id)
    assert (recorded.n_steps, len(forest.estimators_)) == (3, 6)
    expected = each_log_loss(forest.predict_proba(inputs[:40]), labels[:40], np.arange(10))
    np.testing.assert_allclose(recorded.losses[-1], expected, rtol=1e-4, atol=1e-6)


def test_an_error_in_training_keeps_the_steps_before(digits, probe, history, complete, run_id):
    inputs, labels = digits
    forest = RandomForestClassifier(random_state=0)
    with pytest.raises(ValueError, match="n_estimators"):
        record_warm_start(
            forest, inputs, labels, probe(), parameter="n_estimators", values=[2, 4, -1]
        )
    assert history(run_id).steps.tolist() == [1, 2]
    assert not complete(run_id)


def test_the_active_run_is_followed_and_none_is_started(digits, probe, history, run_id):
    inputs, labels = digits
    estimator = SGDClassifier(loss="log_loss").fit(inputs, labels)
    text = "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
    with pytest.raises(RecordingError, match=message(text)):
        probe(run_id=None).after_step(estimator)
    with mlflow.start_run(run_id=run_id), probe(run_id=None) as track:
        track.after_step(estimator)
    assert history(run_id).n_steps == 1


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier((4,), max_iter=3, random_state=0),
        RandomForestClassifier(3, random_state=0),
        OneVsRestClassifier(SGDClassifier(loss="log_loss", random_state=0)),
        MultiOutputClassifier(SGDClassifier(loss="log_loss", random_state=0)),
        ClassifierChain(SGDClassifier(loss="log_loss", random_state=0)),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_several_labels_are_yes_no_questions(digits, history, run_id, estimator):
    inputs, labels = digits
    rows = np.eye(3, dtype=int)[labels % 3]  # one-hot, and no softmax for all that
    estimator.fit(inputs, rows)
    with ProbeRecorder(inputs[:40], rows[:40], run_id=run_id) as track:
        track.after_step(estimator)
    p = estimator.predict_proba(inputs[:40])
    p = np.stack([each[:, 1] for each in p], axis=1) if isinstance(p, list) else p
    means = [
        log_loss(rows[:40, label], p[:, label].astype(float), labels=[0, 1]) for label in range(3)
    ]
    recorded = history(run_id)
    np.testing.assert_allclose(recorded.losses[0].mean(), np.mean(means), rtol=1e-4)
    assert recorded.loss_name == "binary_cross_entropy"


@pytest.mark.parametrize("n_classes", [3, 10])
def test_decision_values_of_pairs_become_those_of_classes(digits, probe, store, run_id, n_classes):
    inputs, labels = digits
    labels = labels % n_classes
    estimator = SVC(decision_function_shape="ovo").fit(inputs, labels)
    with probe(labels[:40]) as track:
        summary = track.after_step(estimator)
    assert summary.accuracy == pytest.approx(estimator.score(inputs[:40], labels[:40]), abs=0.03)
    assert estimator.decision_function_shape == "ovo"


def test_decision_values_of_pairs_inside_another_estimator_are_refused(digits, probe):
    inputs, labels = digits
    estimator = make_pipeline(SVC(decision_function_shape="ovo")).fit(inputs, labels % 3)
    text = (
        "svc__decision_function_shape: must be 'ovr' to be recorded, got 'ovo'. "
        "Pass a function as the loss."
    )
    with pytest.raises(ParameterError, match=message(text)):
        probe(labels[:40] % 3).after_step(estimator)


def test_an_estimator_that_says_nothing_of_its_classes_is_refused(digits, probe):
    inputs, labels = digits
    estimator = OutputCodeClassifier(SGDClassifier(), random_state=0).fit(inputs, labels)
    text = (
        "estimator: must have predict_proba or decision_function, got 'OutputCodeClassifier'. "
        "Pass a function as the loss."
    )
    with pytest.raises(ParameterError, match=message(text)):
        probe().after_step(estimator)


def test_an_estimator_that_knows_one_class_is_refused(digits, probe):
    inputs = digits[0]
    estimator = RandomForestClassifier(2).fit(inputs, np.zeros(len(inputs), int))
    text = (
        "estimator: must be a regressor, or a classifier that knows 2 classes or more, got 1. "
        "Pass a function as the loss."
    )
    with pytest.raises(ParameterError, match=message(text)):
        probe(np.zeros(40, int)).after_step(estimator)


def test_stages_with_a_loss_of_ones_own_are_predictions(digits, probe, history, run_id):
    inputs, labels = digits
    estimator = GradientBoostingClassifier(n_estimators=2, random_state=0).fit(inputs, labels)
    record_stages(estimator, probe(loss=lambda labels, recorded: 1.0 * (labels != recorded)))
    wrong = [stage != labels[:40] for stage in estimator.staged_predict(inputs[:40])]
    np.testing.assert_array_equal(history(run_id).losses, wrong)


@pytest.mark.parametrize("n_classes", [2, 10])
def test_gradient_boosting_is_compared_with_its_training_score(digits, store, run_id, n_classes):
    inputs, labels = digits[0], digits[1] % n_classes
    record_warm_start(
        GradientBoostingClassifier(random_state=0),
        inputs,
        labels,
        ProbeRecorder(inputs, labels, run_id=run_id),
        parameter="n_estimators",
        values=[1, 2],
    )
    assert store.open_record(run_id, "test-probe").manifest.notes == {"loss_check": "agrees"}


@pytest.mark.filterwarnings("ignore:Maximum number of iteration", "ignore:Stochastic Optimizer")
@pytest.mark.parametrize(
    ("estimator", "values", "warned"),
    [
        (SGDClassifier(loss="log_loss"), [1, 2], True),
        (SGDClassifier(loss="log_loss"), [2, 2], False),
        (HistGradientBoostingClassifier(), [1, 2], False),
    ],
)
def test_iterations_that_add_up_are_warned_of(digits, probe, caplog, estimator, values, warned):
    inputs, labels = digits
    with caplog.at_level(logging.WARNING, "actiontrack"):
        record_warm_start(estimator, inputs, labels, probe(), parameter="max_iter", values=values)
    assert ("growing values add up" in caplog.text) is warned
