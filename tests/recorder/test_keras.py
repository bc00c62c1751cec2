# ruff: noqa: ARG002 - the libraries' own signatures
import keras
import mlflow
import numpy as np
import pytest
from helpers import message
from sklearn.datasets import load_diabetes

from actiontrack.errors import RecordingError
from actiontrack.recorder.keras import ActionTrackCallback

N = 40


class Predictions(keras.callbacks.Callback):
    """Keeps what the model says at the end of each epoch."""

    def __init__(self, inputs):
        super().__init__()
        self.inputs, self.outputs = inputs, []

    def on_epoch_end(self, epoch, logs=None):
        self.outputs.append(self.model.predict(self.inputs, verbose=0))


@pytest.fixture
def train(digits, run_id):
    """Train for two epochs in the active run. Returns the probe's outputs after each."""
    inputs, labels = digits

    def fit(*callbacks, units=10, activation="softmax", loss=None, labels=labels, **options):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dropout(0.3), keras.layers.Dense(units, activation=activation)]
        model = keras.Sequential([keras.Input((64,)), *layers])
        model.compile("adam", loss or "sparse_categorical_crossentropy")
        outputs = Predictions(inputs[:N])
        settings = {"epochs": 2, "batch_size": 16, "verbose": 0} | options
        if not mlflow.active_run():
            mlflow.start_run(run_id=run_id)
        model.fit(inputs, labels, callbacks=[*callbacks, outputs], **settings)
        return np.stack(outputs.outputs)

    return fit


@pytest.mark.parametrize("form", ["indices", "column", "one-hot"])
def test_the_model_is_recorded_after_each_epoch(train, digits, history, complete, run_id, form):
    inputs, labels = digits[0][:N], digits[1][:N]
    given = {"indices": labels, "column": labels[:, None], "one-hot": np.eye(10)[labels]}[form]
    outputs = train(ActionTrackCallback(inputs, given))
    found = history(run_id)
    expected = -np.log(outputs[:, np.arange(N), labels])
    np.testing.assert_allclose(found.losses, expected, rtol=1e-4, atol=1e-6)
    assert found.labels.tolist() == labels.tolist()
    assert complete(run_id)


def test_logits_are_taken_as_such(train, digits, history, run_id, cross_entropy):
    inputs, labels = digits[0][:N], digits[1][:N]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    track = ActionTrackCallback(inputs, labels, from_logits=True)
    outputs = train(track, activation=None, loss=loss)
    expected = [cross_entropy(each, labels) for each in outputs]
    np.testing.assert_allclose(history(run_id).losses, expected, rtol=1e-4, atol=1e-6)


def test_one_sigmoid_unit_is_a_classifier_of_two_classes(train, digits, history, run_id):
    inputs, labels = digits[0], digits[1] % 2
    track = ActionTrackCallback(inputs[:N], labels[:N])
    outputs = train(
        track, units=1, activation="sigmoid", loss="binary_crossentropy", labels=labels
    )[..., 0]
    expected = -np.log(np.where(labels[:N] == 1, outputs, 1 - outputs))
    np.testing.assert_allclose(history(run_id).losses, expected, rtol=1e-4, atol=1e-6)


def test_a_regression_names_its_loss(history, run_id):
    inputs, targets = load_diabetes(return_X_y=True)
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    track = ActionTrackCallback(inputs[:N], targets[:N], loss="squared_error", run_id=run_id)
    model.fit(inputs, targets, epochs=1, verbose=0, callbacks=[track])
    expected = (model.predict(inputs[:N], verbose=0)[:, 0] - targets[:N]) ** 2
    np.testing.assert_allclose(history(run_id).losses[0], expected, rtol=1e-4)


@pytest.mark.parametrize(("kind", "deltas"), [("epoch", [1, 1]), ("batch", [8, 8])])
def test_a_step_weighs_an_epoch_or_its_updates(train, digits, history, run_id, kind, deltas):
    train(ActionTrackCallback(digits[0][:N], digits[1][:N], delta_kind=kind))
    assert history(run_id).deltas.tolist() == deltas


def test_an_error_in_training_keeps_the_epochs_before(train, digits, history, complete, run_id):
    class Failing(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise ZeroDivisionError

    track = ActionTrackCallback(digits[0][:N], digits[1][:N])
    with pytest.raises(ZeroDivisionError), track:
        train(track, Failing())
    assert history(run_id).steps.tolist() == [1]
    assert not complete(run_id)


def test_training_that_goes_on_continues_the_record(train, digits, history, run_id):
    probe = digits[0][:N], digits[1][:N]
    train(ActionTrackCallback(*probe))
    train(ActionTrackCallback(*probe, resume=True), initial_epoch=2, epochs=3)
    assert history(run_id).steps.tolist() == [1, 2, 3]


def test_without_a_run_training_does_not_begin(digits):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    text = "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
    with pytest.raises(RecordingError, match=message(text)):
        model.fit(*digits, verbose=0, callbacks=[ActionTrackCallback(*digits)])


JAX = """
import sys
import keras
import numpy as np
from sklearn.datasets import load_digits
import mlflow
from actiontrack.recorder.keras import ActionTrackCallback

inputs, labels = load_digits(return_X_y=True)
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
mlflow.set_tracking_uri(sys.argv[1])
track = ActionTrackCallback(inputs[:40] / 16, labels[:40], run_id=sys.argv[2])
model.fit(inputs / 16, labels, epochs=2, verbose=0, callbacks=[track])
np.save(sys.argv[3], model.predict(inputs[:40] / 16, verbose=0))
"""


def test_the_backend_may_be_jax(in_subprocess, digits, history, tracking_uri, run_id, tmp_path):
    path = tmp_path / "p.npy"
    in_subprocess(JAX, tracking_uri, run_id, path, KERAS_BACKEND="jax", OMP_NUM_THREADS="1")
    expected = -np.log(np.load(path)[np.arange(N), digits[1][:N]])
    np.testing.assert_allclose(history(run_id).losses[-1], expected, rtol=1e-4, atol=1e-6)
