"""CatBoost: a tree is a step, and the mean of each is CatBoost's own metric of these samples."""

import logging

import catboost
import mlflow
import numpy as np
import pandas as pd
import pytest
from catboost import CatBoost, CatBoostClassifier, CatBoostRegressor, Pool
from helpers import message
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.catboost import record_stages
from actiontrack.store import Store
from actiontrack.testing import AdapterTests, AdapterTraining

TREES, N = 6, 200
PARAMS = {"verbose": False, "allow_writing_files": False, "thread_count": 1, "depth": 3}
PARAMS |= {"iterations": TREES, "random_seed": 1}
WEIGHTS = np.linspace(0.1, 2, 2 * N)


@pytest.fixture(scope="session")
def cancer():
    return [part[: 2 * N] for part in load_breast_cancer(return_X_y=True)]


@pytest.fixture(scope="session")
def digits():
    return [part[: 2 * N] for part in load_digits(return_X_y=True)]


@pytest.fixture
def recorded(store, run_id):
    """A function that reads the history, and what the record says of the comparison."""

    def read():
        record = store.open_record(run_id, "test-probe")
        return record.history(), (record.manifest.notes or {}).get("loss_check")

    return read


def fitted(kind, inputs, labels, *, weight=None, **params):
    """A model trained on one half and evaluated on the other, and the Pool of that."""
    fit = {name: params.pop(name) for name in ("init_model",) if name in params}
    weights = (None, None) if weight is None else (weight[:N], weight[N:])
    train, test = (
        Pool(inputs[half], labels[half], weight=each)
        for half, each in zip((slice(N), slice(N, None)), weights, strict=True)
    )
    return kind(**PARAMS | params).fit(train, eval_set=test, **fit), test


def metrics(model, name, evaluation="validation"):
    return model.get_evals_result()[evaluation][name]


@pytest.mark.parametrize(
    "params", [{}, {"class_weights": [1, 4]}, {"auto_class_weights": "Balanced"}]
)
@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("metric", ["Logloss", "MultiClass"])
def test_the_mean_is_the_metric_of_each_round(
    cancer, digits, recorded, run_id, metric, weight, params
):
    inputs, labels = cancer if metric == "Logloss" else digits
    n_classes = labels.max() + 1
    if "class_weights" in params:
        params = {"class_weights": np.linspace(1, 4, n_classes).tolist()}
    model, test = fitted(CatBoostClassifier, inputs, labels, weight=weight, **params)
    record_stages(model, test, evaluation="validation", run_id=run_id)
    history, check = recorded()
    of_class = model.get_all_params().get("class_weights", np.ones(n_classes))
    of_sample = np.ones(2 * N) if weight is None else weight
    weights = of_sample[N:] * np.asarray(of_class)[labels[N:]]
    means = np.average(history.losses, axis=1, weights=weights)
    np.testing.assert_allclose(means, metrics(model, metric), rtol=1e-5)
    assert history.steps.tolist() == list(range(1, TREES + 1))
    assert (check, history.loss_name) == ("agrees", "cross_entropy")


@pytest.mark.parametrize(("metric", "power"), [("RMSE", 2), ("MAE", 1)])
def test_a_regression_is_recorded_by_the_error_that_it_minimises(recorded, run_id, metric, power):
    inputs, targets = (part[: 2 * N] for part in load_diabetes(return_X_y=True))
    model, test = fitted(CatBoostRegressor, inputs, targets, weight=WEIGHTS, loss_function=metric)
    record_stages(model, test, evaluation="validation", run_id=run_id)
    history, check = recorded()
    means = np.average(history.losses, axis=1, weights=WEIGHTS[N:])
    reported = np.power(metrics(model, metric)[: model.tree_count_], power)
    np.testing.assert_allclose(means, reported, rtol=1e-5)
    assert (check, history.labels) == ("agrees", None)


def test_yes_no_labels_are_averaged(cancer, recorded, run_id):
    inputs = cancer[0]
    labels = np.stack([cancer[1], inputs[:, 0] > 15], axis=1).astype(int)
    model, test = fitted(CatBoostClassifier, inputs, labels, loss_function="MultiLogloss")
    record_stages(model, test, evaluation="validation", run_id=run_id)
    history, check = recorded()
    means = history.losses.mean(axis=1)
    np.testing.assert_allclose(means, metrics(model, "MultiLogloss"), rtol=1e-5)
    assert (check, history.loss_name) == ("agrees", "binary_cross_entropy")


@pytest.mark.parametrize("codes", [[1, 2, 3], [-1, 0, 7], ["cat", "dog", "eel"]])
@pytest.mark.parametrize("as_pool", [True, False])
def test_the_classes_of_the_model_decide_what_a_label_means(digits, store, run_id, codes, as_pool):
    inputs, labels = digits[0], np.array(codes)[digits[1] % 3]
    model, test = fitted(CatBoostClassifier, inputs, labels)
    arguments = (test,) if as_pool else (inputs[N:], labels[N:])
    record_stages(model, *arguments, evaluation="validation", run_id=run_id)
    record = store.open_record(run_id, "test-probe")
    means = record.history().losses.mean(axis=1)
    np.testing.assert_allclose(means, metrics(model, "MultiClass"), rtol=1e-5)
    assert record.manifest.class_names == tuple(str(code) for code in codes)
    assert record.manifest.notes == {"loss_check": "agrees"}


def test_ids_are_those_that_are_given(cancer, recorded, run_id):
    model, test = fitted(CatBoostClassifier, *cancer)
    ids = [f"patient {N - row:03}" for row in range(N)]
    assert record_stages(model, test, ids=ids, run_id=run_id)
    history, check = recorded()
    assert history.sample_ids.tolist() == ids[::-1]
    assert history.labels.tolist() == cancer[1][N:][::-1].tolist()
    assert check is None  # as no evaluation was named


def test_a_model_cut_to_its_best_is_recorded_up_to_there(cancer, recorded, run_id):
    model, test = fitted(
        CatBoostClassifier, *cancer, iterations=80, learning_rate=0.9, early_stopping_rounds=9
    )
    record_stages(model, test, evaluation="validation", run_id=run_id)
    history, check = recorded()
    reported = metrics(model, "Logloss")
    assert history.n_steps == model.tree_count_ < len(reported) < 80
    assert history.losses[-1].mean() == pytest.approx(min(reported), rel=1e-5)
    assert check == "agrees"


@pytest.mark.parametrize("best", [True, False])
def test_a_training_that_goes_on_counts_its_trees_from_the_first(cancer, recorded, run_id, best):
    first, _ = fitted(CatBoostClassifier, *cancer)
    model, test = fitted(CatBoostClassifier, *cancer, init_model=first, use_best_model=best)
    record_stages(model, test, evaluation="validation", run_id=run_id)
    history, check = recorded()
    assert history.steps.tolist() == list(range(1, model.tree_count_ + 1))
    means, later = history.losses.mean(axis=1)[TREES:], metrics(model, "Logloss")
    np.testing.assert_allclose(means, later[: len(means)], rtol=1e-5)
    np.testing.assert_allclose(
        history.losses.mean(axis=1)[:TREES], metrics(first, "Logloss"), rtol=1e-5
    )
    assert check == "agrees"


def test_categories_are_read_as_in_training(cancer, recorded, run_id):
    table = pd.DataFrame(cancer[0][:, :4]).round().astype(int).astype(str)
    model = CatBoostClassifier(**PARAMS, cat_features=list(table.columns))
    model.fit(table[:N], cancer[1][:N], eval_set=(table[N:], cancer[1][N:]))
    record_stages(model, table[N:], cancer[1][N:], evaluation="validation", run_id=run_id)
    history, check = recorded()
    means = history.losses.mean(axis=1)
    np.testing.assert_allclose(means, metrics(model, "Logloss")[: len(means)], rtol=1e-5)
    assert check == "agrees"


def test_a_baseline_is_part_of_the_raw_values(cancer, recorded, run_id):
    inputs, labels = cancer
    start = np.where(inputs[:, 0] > 15, -2.0, 2.0)
    train, test = (
        Pool(inputs[half], labels[half], baseline=start[half].reshape(-1, 1))
        for half in (slice(N), slice(N, None))
    )
    model = CatBoostClassifier(**PARAMS).fit(train, eval_set=test)
    arguments = {"baseline": start[N:], "evaluation": "validation", "run_id": run_id}
    record_stages(model, inputs[N:], labels[N:], **arguments)
    history, check = recorded()
    means = history.losses.mean(axis=1)
    np.testing.assert_allclose(means, metrics(model, "Logloss"), rtol=1e-5)
    assert check == "agrees"
    text = (
        "baseline: must not be that of a Pool, which CatBoost's staged predictions can't take, "
        "got 'a Pool'. Pass an array as inputs, and baseline=."
    )
    with pytest.raises(ParameterError, match=message(text)):
        record_stages(model, test, run_id=run_id)
    text = "baseline: must have 200 rows, one per sample, got (3,). Pass one value per sample."
    with pytest.raises(ParameterError, match=message(text)):
        record_stages(model, inputs[N:], labels[N:], baseline=np.zeros(3), run_id=run_id)


def test_other_samples_than_those_evaluated_are_found(cancer, recorded, run_id, caplog):
    inputs, labels = cancer
    model, _ = fitted(CatBoostClassifier, inputs, labels)
    with caplog.at_level(logging.WARNING, "actiontrack"):
        record_stages(model, inputs[:N], labels[:N], evaluation="validation", run_id=run_id)
    history, check = recorded()
    text = (
        f"step 1: the mean of the recorded losses is {history.losses[0].mean():.6g}, CatBoost's "
        f"Logloss of 'validation' reports {metrics(model, 'Logloss')[0]:.6g} for the same 200 "
        "samples"
    )
    assert check == f"differs at {text}"
    assert text in caplog.text


def test_rounds_without_a_metric_are_not_compared(cancer, recorded, run_id):
    model, test = fitted(CatBoostClassifier, *cancer, metric_period=2)
    record_stages(model, test, evaluation="validation", run_id=run_id)
    assert recorded()[1] is None


def test_an_evaluation_that_there_was_not_is_refused(cancer, run_id):
    model, test = fitted(CatBoostClassifier, *cancer)
    text = (
        "evaluation: must be an evaluation set of the training: validation, got 'learn'. "
        "Name the set of these samples."
    )
    with pytest.raises(ParameterError, match=message(text)):
        record_stages(model, test, evaluation="learn", run_id=run_id)


def test_another_objective_needs_a_loss(cancer, recorded, run_id):
    inputs = cancer[0]
    model = CatBoostRegressor(**PARAMS, loss_function="Quantile:alpha=0.3")
    model.fit(inputs[:N], inputs[:N, 0])
    text = (
        "loss: must be given for this objective, got 'Quantile:alpha=0.3'. Pass a function of "
        "(labels, raw values) that returns a loss per sample."
    )
    with pytest.raises(ParameterError, match=message(text)):
        record_stages(model, inputs[N:], inputs[N:, 0], run_id=run_id)

    def pinball(targets, raw):
        return np.maximum(0.3 * (targets - raw), 0.7 * (raw - targets))

    record_stages(model, inputs[N:], inputs[N:, 0], loss=pinball, run_id=run_id)
    expected = pinball(inputs[N:, 0], model.predict(inputs[N:]))
    np.testing.assert_allclose(recorded()[0].losses[-1], expected, rtol=1e-4)


@pytest.mark.parametrize("shrinking", [{"model_shrink_rate": 0.1}, {"langevin": True}])
def test_a_model_that_shrinks_is_refused(cancer, run_id, shrinking):
    model, test = fitted(CatBoostClassifier, *cancer, **shrinking)
    with pytest.raises(ParameterError, match=r"^model: must have model_shrink_rate=0, as its sta"):
        record_stages(model, test, run_id=run_id)


def test_a_sum_of_models_has_no_rounds(cancer, run_id):
    model, test = fitted(CatBoostClassifier, *cancer)
    text = (
        "model: must be one that was trained as a whole; a sum of models has no rounds, got "
        "'CatBoost'. Record its parts."
    )
    with pytest.raises(ParameterError, match=message(text)):
        record_stages(catboost.sum_models([model, model]), test, run_id=run_id)


def test_labels_that_do_not_fit_are_refused(cancer, run_id):
    inputs, labels = cancer
    model, test = fitted(CatBoostClassifier, inputs, labels)
    for arguments, text in (
        ((inputs,), "labels: must be given with an array, got None. Pass labels."),
        (
            (Pool(inputs),),
            "labels: must be those of the Pool, which has none, got None. Set it.",
        ),
        (
            (test, [1, 0]),
            "labels: must not be given beside those of a Pool, got 'list'. Leave them out.",
        ),
        (
            (inputs, labels + 1),
            "labels: must be classes of the estimator, got [2]. Leave these samples out.",
        ),
    ):
        with pytest.raises(ParameterError, match=message(text)):
            record_stages(model, *arguments, run_id=run_id)


def test_without_a_run_nothing_is_recorded(cancer):
    model, test = fitted(CatBoostClassifier, *cancer)
    text = "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
    with pytest.raises(RecordingError, match=message(text)):
        record_stages(model, test)


class TestStages(AdapterTests):
    """Ten digits of CatBoost's own class, each an evaluation set of its own."""

    rtol = 1e-5

    def make_store(self, folder):
        del folder
        return Store(mlflow.get_tracking_uri())

    def train(self, options):
        return self._train(CatBoost, options)

    def train_until_error(self, options):
        self._train(FailsInSecondStage, options)

    @staticmethod
    def _train(kind, options):
        inputs, labels = (part[:120] for part in load_digits(return_X_y=True))
        params = {"loss_function": "MultiClass", "use_best_model": False}
        one_by_one = [Pool(inputs[[row]], labels[[row]]) for row in range(10)]
        model = kind(PARAMS | params).fit(inputs, labels, eval_set=one_by_one)
        ids = [f"digit {row}" for row in range(10)]
        if options is not None:
            record_stages(model, inputs[:10], labels[:10], ids=ids, **options)
        losses = [metrics(model, "MultiClass", f"validation_{row}") for row in range(10)]
        losses = np.transpose(losses)
        return AdapterTraining(ids=ids, losses=losses, weights=[model.get_leaf_values()])


class FailsInSecondStage(CatBoost):
    def staged_predict(self, *arguments, **options):
        for step, raw in enumerate(super().staged_predict(*arguments, **options)):
            if step == 1:
                raise MemoryError
            yield raw
