"""What an adapter has to pass: by hand, and under autologging."""

import contextlib

import numpy as np
from actiontrack_looplet.recording import ActionTrackCallback
from looplet import Model
from scipy.special import log_softmax
from sklearn.datasets import load_digits

import actiontrack
from actiontrack.testing import AdapterTests, AdapterTraining

INPUTS, LABELS = load_digits(return_X_y=True)
TRAIN, TEST = (INPUTS[:100] / 16, LABELS[:100]), (INPUTS[100:130] / 16, LABELS[100:130])


class Keeps:
    """Keeps the weights of each epoch, and fails in the second if it is told to."""

    def __init__(self, fails):
        self.weights, self.fails = [], fails

    def after_epoch(self, model, epoch):
        if self.fails and epoch == 2:
            raise RuntimeError("the power went")
        self.weights.append(model.weights.copy())


class TestByHand(AdapterTests):
    def train(self, options):
        return self.fit(options)

    def train_until_error(self, options):
        self.fit(options, fails=True)

    def fit(self, options, fails=False):
        keeps = Keeps(fails)
        with self.recording(options) as callbacks:
            model = Model(64, 10).fit(*TRAIN, validation=TEST, callbacks=[keeps, *callbacks])
        losses = [
            -log_softmax(TEST[0] @ weights, axis=1)[np.arange(30), TEST[1]]
            for weights in keeps.weights
        ]
        return AdapterTraining(ids=range(30), losses=losses, weights=[model.weights])

    @contextlib.contextmanager
    def recording(self, options):
        if options is None:
            yield []
        else:
            with ActionTrackCallback(*TEST, **options) as track:
                yield [track]


class TestUnderAutologging(TestByHand):
    @contextlib.contextmanager
    def recording(self, options):
        if options is not None:
            actiontrack.autolog("looplet", **options)
        try:
            yield []
        finally:
            actiontrack.autolog(disable=True)
