"""scikit-learn, three ways of training. Run: python examples/sklearn_partial_fit.py [epochs]."""
# ruff: noqa: INP001, T201

import sys

import mlflow
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import SGDClassifier

from actiontrack import RunQuery, hardest, load_scores
from actiontrack.recorder.sklearn import ProbeRecorder, record_stages, record_warm_start  # 1

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
inputs, labels = load_digits(return_X_y=True)
train, test = slice(0, 1200), slice(1200, None)
rng = np.random.default_rng(0)

with mlflow.start_run(run_name="partial_fit") as run:
    classifier = SGDClassifier(loss="log_loss", random_state=0)
    with ProbeRecorder(inputs[test], labels[test]) as probe:  # 2
        for _ in range(epochs):
            order = rng.permutation(1200)
            classifier.partial_fit(inputs[order], labels[order], classes=np.arange(10))
            probe.after_step(classifier)  # 3

with mlflow.start_run(run_name="boosting"):  # after the fact: one step per stage
    boosted = GradientBoostingClassifier(n_estimators=epochs).fit(inputs[train], labels[train])
    record_stages(boosted, ProbeRecorder(inputs[test], labels[test]))

with mlflow.start_run(run_name="warm start"):  # a forest that grows
    record_warm_start(
        RandomForestClassifier(random_state=0),
        inputs[train],
        labels[train],
        ProbeRecorder(inputs[test], labels[test]),
        parameter="n_estimators",
        values=range(10, 10 * epochs + 1, 10),
    )

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
