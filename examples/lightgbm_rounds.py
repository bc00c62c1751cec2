"""LightGBM: a boosting round is a step. Run: python examples/lightgbm_rounds.py [rounds]."""
# ruff: noqa: INP001, T201

import sys

import lightgbm
import mlflow
from sklearn.datasets import load_digits

from actiontrack import RunQuery, hardest, load_scores
from actiontrack.recorder.lightgbm import ActionTrackCallback  # 1

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
inputs, labels = load_digits(return_X_y=True)
train = lightgbm.Dataset(inputs[:1200], labels[:1200])
params = {"objective": "multiclass", "num_class": 10, "num_leaves": 7, "verbosity": -1}

with (
    mlflow.start_run() as run,
    ActionTrackCallback(inputs[1200:], labels[1200:], class_names=range(10)) as track,  # 2
):
    lightgbm.train(params, train, rounds, callbacks=[track])  # 3

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
