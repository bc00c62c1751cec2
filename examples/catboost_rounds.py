"""CatBoost: a boosting round is a step. Run: python examples/catboost_rounds.py [rounds]."""
# ruff: noqa: INP001, T201

import sys

import mlflow
from catboost import CatBoostClassifier, Pool
from sklearn.datasets import load_digits

from actiontrack import RunQuery, hardest, load_scores
from actiontrack.recorder.catboost import record_stages  # 1

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
inputs, labels = load_digits(return_X_y=True)
train, test = Pool(inputs[:1200], labels[:1200]), Pool(inputs[1200:], labels[1200:])
model = CatBoostClassifier(iterations=rounds, verbose=False, allow_writing_files=False)

with mlflow.start_run() as run:
    model.fit(train, eval_set=test)
    record_stages(model, test, evaluation="validation")  # 2

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
