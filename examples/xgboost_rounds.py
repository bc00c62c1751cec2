"""XGBoost: a boosting round is a step. Run: python examples/xgboost_rounds.py [rounds]."""
# ruff: noqa: INP001, T201

import sys

import mlflow
import xgboost
from sklearn.datasets import load_digits

from actiontrack import RunQuery, hardest, load_scores
from actiontrack.recorder.xgboost import ActionTrackCallback  # 1

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
inputs, labels = load_digits(return_X_y=True)
train = xgboost.DMatrix(inputs[:1200], labels[:1200])
test = xgboost.DMatrix(inputs[1200:], labels[1200:])
params = {"objective": "multi:softprob", "num_class": 10, "max_depth": 3, "seed": 0}

with mlflow.start_run() as run:
    track = ActionTrackCallback(test, class_names=range(10))  # 2
    xgboost.train(params, train, rounds, callbacks=[track])  # 3

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
