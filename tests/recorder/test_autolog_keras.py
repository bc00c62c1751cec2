"""Keras under autologging."""

import keras
import numpy as np
from autologging import AutologTests, FailingError
from scipy.special import log_softmax
from sklearn.datasets import load_digits

from actiontrack.testing import AdapterTraining

INPUTS, LABELS = load_digits(return_X_y=True)
INPUTS = (INPUTS[:120] / 16).astype(np.float32)
LABELS = LABELS[:120]


def model():
    layers = [keras.layers.Dropout(0.3), keras.layers.Dense(10)]
    made = keras.Sequential([keras.Input((64,)), *layers])
    made.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


class Weights(keras.callbacks.Callback):
    """Keeps the weights at the end of each epoch."""

    def __init__(self, *, fails=False):
        super().__init__()
        self.epochs, self.fails = [], fails

    def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002 - Keras's signature
        if self.fails and epoch:
            raise FailingError

    def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
        self.epochs.append([np.array(part) for part in self.model.get_weights()])


def losses_of(weights, inputs, labels):
    kernel, bias = weights
    logits = inputs.astype(float) @ kernel + bias
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]


class TestKeras(AutologTests):
    framework = "keras"
    rtol = 1e-4

    def train_as_always(self, *, fails=False):
        keras.utils.set_random_seed(0)
        weights = Weights(fails=fails)
        trained, test = model(), (INPUTS[80:], LABELS[80:])
        trained.fit(
            *(INPUTS[:80], LABELS[:80], 16, 2, 0), callbacks=[weights], validation_data=test
        )
        losses = [losses_of(epoch, *test) for epoch in weights.epochs]
        return AdapterTraining(ids=range(40), losses=losses, weights=trained.get_weights())
