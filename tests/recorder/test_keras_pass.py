"""Recording leaves a Keras training as it was, bit for bit, on every backend that is installed."""

import json

import keras
import numpy as np
import pytest

from actiontrack.recorder.keras_pass import averaged_weights, averages, untouched

#: Trains the same model twice, once recorded, and prints what is not the same bit for bit.
TRAINING = """
import json
import random
import sys
import warnings

warnings.simplefilter("ignore", DeprecationWarning)  # Keras converts tensors in an old manner

import keras
import mlflow
import numpy as np
from sklearn.datasets import load_digits

from actiontrack.recorder.keras import ActionTrackCallback

inputs, labels = load_digits(return_X_y=True)
inputs = (inputs[:200] / 16).astype("float32")
labels = labels[:200]


class Counting(keras.layers.Layer):
    "Counts its calls and draws random numbers, in inference mode too."

    def __init__(self):
        super().__init__()
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, inputs):
        self.count.assign(self.count + 1)
        noise = keras.random.normal(keras.ops.shape(inputs), stddev=1e-3, seed=self.seeds)
        return inputs + noise * self.count


def numbers(variables):
    values = [variable.value for variable in variables]
    return [(v.detach() if hasattr(v, "detach") else np.array(v)).tolist() for v in values]


def generators():
    states = [str(random.getstate()), str(np.random.get_state())]
    if keras.backend.backend() == "torch":
        import torch
        states.append(str(torch.get_rng_state().tolist()))
    return states


def train(callbacks):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input((64,)), Counting(), layers.Dense(16), layers.Dropout(0.3),
                              layers.BatchNormalization(), layers.Dense(10, activation="softmax")])
    optimizer = keras.optimizers.Adam(use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(inputs[:160], labels[:160], epochs=3, batch_size=32, verbose=0,
                        validation_data=(inputs[160:], labels[160:]), callbacks=callbacks)
    return {
        "weights": numbers(model.variables),
        "optimizer": numbers(model.optimizer.variables),
        "metrics": history.history,
        "generators": generators(),
    }


mlflow.set_tracking_uri(sys.argv[1])
track = ActionTrackCallback(inputs[160:], labels[160:], run_id=sys.argv[2])
plain, recorded = train([]), train([track])
print(json.dumps([name for name in plain if plain[name] != recorded[name]]))
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_recorded_training_is_the_same_bit_for_bit(
    in_warm_process, tracking_uri, run_id, backend
):
    settings = {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    output = in_warm_process(TRAINING, tracking_uri, run_id, **settings).stdout
    assert json.loads(output.splitlines()[-1]) == []


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), "mse")
    inputs = np.arange(16, dtype=np.float32).reshape(8, 2) / 16
    model.fit(inputs, inputs[:, 0], epochs=1, batch_size=4, verbose=0)
    model.optimizer._trainable_variables[0].assign(np.float32([[1], [2]]))
    model.optimizer._model_variables_moving_average[0].assign(np.float32([[3], [4]]))
    return model


def test_the_averaged_weights_are_in_the_model_only_for_the_pass(model):
    kernel = model.layers[0].kernel
    with averaged_weights(model):
        assert keras.ops.convert_to_numpy(kernel).tolist() == [[3], [4]]
    assert keras.ops.convert_to_numpy(kernel).tolist() == [[1], [2]]


def test_an_error_in_the_pass_puts_the_raw_weights_back(model):
    with pytest.raises(ZeroDivisionError), averaged_weights(model):
        raise ZeroDivisionError
    assert keras.ops.convert_to_numpy(model.layers[0].kernel).tolist() == [[1], [2]]


def test_draws_from_every_generator_are_taken_back(model):
    def draw():
        legacy = np.random.random()  # noqa: NPY002 - the generator that Keras shuffles with
        return legacy, float(keras.random.uniform(()))

    keras.utils.set_random_seed(1)
    expected = draw()
    keras.utils.set_random_seed(1)
    with untouched(model):
        draw()
    assert draw() == expected


@pytest.mark.parametrize(("use_ema", "n_averages"), [(True, 1), (False, 0)])
def test_averages_are_found_in_an_optimizer_that_scales_losses(use_ema, n_averages):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    inner = keras.optimizers.Adam(use_ema=use_ema)
    model.compile(keras.optimizers.LossScaleOptimizer(inner), "mse")
    assert len(averages(model)) == n_averages
