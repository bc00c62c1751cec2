"""What docs/surprises.md says of CatBoost, with the one that is installed; see test_surprises."""

import numpy as np
from catboost import CatBoostClassifier
from sklearn.datasets import load_breast_cancer


def test_training_data_are_measured_with_other_statistics_of_categories():
    random = np.random.default_rng(0)
    table = random.integers(40, size=(200, 1)).astype(str).tolist()
    in_training, model = metrics(table, random.integers(2, size=200), cat_features=[0])
    assert in_training > model + 0.001 or in_training < model - 0.001


def test_the_log_loss_of_training_data_is_rough():
    inputs, labels = load_breast_cancer(return_X_y=True)
    in_training, model = metrics(inputs[:300], labels[:300])
    assert 1e-4 < abs(in_training - model) / model < 1e-2


def metrics(inputs, labels, **params):
    """The log loss of the training data as CatBoost reports it, and as an evaluation set."""
    settings = {"iterations": 100, "verbose": False, "allow_writing_files": False}
    model = CatBoostClassifier(**settings, use_best_model=False, thread_count=1, **params)
    results = model.fit(inputs, labels, eval_set=(inputs, labels)).get_evals_result()
    return results["learn"]["Logloss"][-1], results["validation"]["Logloss"][-1]
