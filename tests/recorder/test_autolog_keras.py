"""Keras under autologging."""

import keras
import mlflow
import numpy as np
import pytest
from autologging import AutologTests, FailingError, autologged, runs_of, warnings_of
from scipy.special import log_softmax
from sklearn.datasets import load_digits

from actiontrack.recorder.keras import ActionTrackCallback
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


def fit(**options):
    keras.utils.set_random_seed(0)
    trained = model()
    trained.fit(**{"x": INPUTS[:40], "y": LABELS[:40], "epochs": 2, "verbose": 0} | options)
    return trained


@pytest.fixture
def recorded(store, run_id):
    """A function that trains under autologging in the test's run, and returns the run."""

    def train(**options):
        with autologged("keras"), mlflow.start_run(run_id=run_id):
            recorded.model = fit(**options)
        return store.get_run(run_id)

    return train


def test_without_validation_data_the_training_data_are_recorded(recorded, history):
    run = recorded()
    assert run.records == ("train-probe",)
    assert run.tags["actiontrack.train-probe.autolog"] == "keras: x, y"
    assert history(run.run_id, "train-probe").sample_ids.tolist() == list(range(40))


def test_of_a_split_the_positions_are_those_in_the_whole(recorded, history):
    run = recorded(validation_split=0.3)
    assert run.tags["actiontrack.validation-probe.autolog"] == "keras: x, y by validation_split"
    assert run.tags["actiontrack.validation-probe.loss_check"] == "agrees"
    found = history(run.run_id, "validation-probe")
    assert found.sample_ids.tolist() == list(range(28, 40))
    assert found.labels.tolist() == LABELS[28:40].tolist()


def test_a_single_callback_is_kept(recorded):
    weights = Weights()
    assert recorded(callbacks=weights).records == ("train-probe",)
    assert len(weights.epochs) == 2


def test_a_callback_of_the_users_is_left_alone(recorded):
    track = ActionTrackCallback(INPUTS[40:60], LABELS[40:60])
    assert recorded(callbacks=[track]).records == ("test-probe",)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        rows = slice(20 * index, 20 * index + 20)
        return INPUTS[rows], LABELS[rows]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"x": Batches(), "y": None}, "x, y: recorded are arrays with labels, got Batches."),
        ({"validation_data": Batches()}, "validation_data: recorded are arrays with labels"),
    ],
    ids=["x", "validation"],
)
def test_what_is_refused_is_a_warning(recorded, caplog, options, text):
    assert recorded(**options).records == ()
    (line,) = warnings_of(caplog)
    assert line.startswith(f"this training is not recorded: {text}")


@pytest.mark.parametrize("first", ["ours", "mlflow"])
def test_mlflow_logs_the_same_run_and_both_end(store, active_experiment, first):
    function, options = keras.Model.fit, {"log_models": False, "log_datasets": False}
    try:
        if first == "mlflow":
            mlflow.keras.autolog(**options)
        with autologged("keras"):
            if first == "ours":
                mlflow.keras.autolog(**options)
            fit()
            mlflow.keras.autolog(disable=True)
            fit()
    finally:
        mlflow.keras.autolog(disable=True)
    fit()
    later, earlier = runs_of(store, active_experiment)
    assert earlier.records == later.records == ("train-probe",)
    assert earlier.tags["mlflow.autologging"] == "keras"
    assert "mlflow.autologging" not in later.tags
    assert keras.Model.fit is function
