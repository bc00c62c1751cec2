#!/bin/sh
# Keras 3.15.1 with JAX 0.10.2. Tried on 2026-11-30 with Python 3.11.
#
# `get_config` of three losses leaves out an argument that changes the value of the loss: `delta` of Huber, `axis`
# of CosineSimilarity and `axis` of SparseCategoricalCrossentropy. What is made from the configuration has the
# default again. So a model that is compiled with `Huber(delta=0.3)`, saved and loaded evaluates, and trains on,
# another loss, without an error or a warning. (All losses leave out `dtype` too, and the metric CosineSimilarity
# its `axis`. The other losses of `keras.losses` keep their arguments, among them Tversky, Dice and
# CategoricalFocalCrossentropy.)
#
# The documentation of `save` says that models "can be reinstantiated in the exact same state". Upstream has merged
# https://github.com/keras-team/keras/pull/23286; 3.15.1, the latest release on that day, does not have it.
#
# Targets 0, predictions 5: Huber is .3 * 5 - .3 * .3 / 2 = 1.455 with delta .3, and 4.5 with delta 1.
# Output seen:
#   evaluate before saving   1.455
#   evaluate after loading   4.500
#   CosineSimilarity(axis=1) of (2, 2, 3) numbers, from its configuration: axis -1
#   SparseCategoricalCrossentropy(axis=1), from its configuration: axis -1
#
# Exits with 0 if the library behaves like this, with 1 if it does not.
set -eu
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax JAX_PLATFORMS=cpu MODEL="$folder/model.keras" "$folder/venv/bin/python" - <<'PYTHON'
import os
import sys

import keras
import numpy as np

x, y = np.zeros((4, 2), "float32"), np.zeros((4, 1), "float32")
output = keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(5.0))
model = keras.Sequential([keras.Input((2,)), output])
model.compile(optimizer="sgd", loss=keras.losses.Huber(delta=0.3))
before = model.evaluate(x, y, verbose=0)
model.save(os.environ["MODEL"])
after = keras.models.load_model(os.environ["MODEL"]).evaluate(x, y, verbose=0)
print(f"evaluate before saving   {before:.3f}\nevaluate after loading   {after:.3f}")
as_seen = abs(before - 1.455) < 1e-5 and abs(after - 4.5) < 1e-5

random = np.random.default_rng(0)
predictions = random.uniform(0.1, 1, (2, 2, 3)).astype("float32")
predictions /= predictions.sum(1, keepdims=True)
classes = random.integers(0, 2, (2, 3))
directions = random.normal(size=(2, 2, 3)).astype("float32")
for loss, targets, note in (
    (keras.losses.CosineSimilarity(axis=1), directions, " of (2, 2, 3) numbers"),
    (keras.losses.SparseCategoricalCrossentropy(axis=1), classes, ""),
):
    name = type(loss).__name__
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    axis = again.get_config().get("axis", again._fn_kwargs["axis"])
    print(f"{name}(axis=1){note}, from its configuration: axis {axis}")
    as_seen &= axis == -1
    if name == "CosineSimilarity":
        as_seen &= abs(float(loss(targets, predictions)) - float(again(targets, predictions))) > 1e-3
sys.exit(0 if as_seen else 1)
PYTHON
