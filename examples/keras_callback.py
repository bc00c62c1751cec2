"""A Keras model on any backend. Run: KERAS_BACKEND=jax python examples/keras_callback.py [epochs].

Without KERAS_BACKEND this example takes PyTorch.
"""
# ruff: noqa: INP001, T201

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import mlflow
from sklearn.datasets import load_digits

from actiontrack import RunQuery, hardest, load_scores
from actiontrack.recorder.keras import ActionTrackCallback  # 1

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
keras.utils.set_random_seed(0)
inputs, labels = load_digits(return_X_y=True)
inputs = inputs / 16

model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy")

with mlflow.start_run() as run:
    track = ActionTrackCallback(inputs[1200:], labels[1200:], class_names=range(10))  # 2
    model.fit(inputs[:1200], labels[:1200], epochs=epochs, verbose=0, callbacks=[track])  # 3

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
