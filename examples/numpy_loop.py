"""Softmax regression in NumPy, no framework. Run: python examples/numpy_loop.py [epochs]."""
# ruff: noqa: INP001, T201

import sys

import mlflow
import numpy as np
from scipy.special import softmax
from sklearn.datasets import load_digits

from actiontrack import Recorder, RunQuery, hardest, load_scores

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
inputs, labels = load_digits(return_X_y=True)
inputs = inputs / 16
one_hot = np.eye(10)[labels]
weights = np.zeros((64, 10))
rng = np.random.default_rng(0)
ids = np.arange(1200, 1797)

with mlflow.start_run() as run, Recorder("test", class_names=range(10)) as recorder:  # 1
    for _ in range(epochs):
        for batch in np.split(rng.permutation(1200), 20):
            error = softmax(inputs[batch] @ weights, axis=1) - one_hot[batch]
            weights -= 0.5 * inputs[batch].T @ error / len(batch)
        recorder.update(ids, logits=inputs[ids] @ weights, labels=labels[ids])  # 2
        recorder.end_epoch()  # 3

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
