"""XGBoost and LightGBM under autologging."""

import json

import lightgbm
import numpy as np
import pytest
import xgboost
from autologging import AutologTests, FailingError
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from xgboost.callback import TrainingCallback

from actiontrack.testing import AdapterTraining

INPUTS, LABELS = load_digits(n_class=3, return_X_y=True)
TRAIN, TEST = slice(120), slice(120, 180)
PARAMETERS = {"objective": "multi:softprob", "num_class": 3, "subsample": 0.7, "seed": 1, "nthread": 1}
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
        booster = lightgbm.train(LEAVES, train, 3, [test], ["test"], callbacks=[stop] if fails else [])
        losses = [
            cross_entropies(booster.predict(INPUTS[TEST], raw_score=True, num_iteration=n))
            for n in (1, 2, 3)
        ]
        weights = np.frombuffer(booster.model_to_string().encode(), np.uint8)
        return AdapterTraining(ids=range(60), losses=losses, weights=[weights])
