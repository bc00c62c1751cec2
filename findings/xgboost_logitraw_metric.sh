#!/bin/sh
# XGBoost 3.2.0. Tried on 2026-11-30 with Python 3.11.
#
# `binary:logitraw` trains logistic regression, and its default metric is `logloss`. The metric is given the raw
# scores (log odds) in the place of probabilities: it is -mean(y log max(s, 1e-16) + (1 - y) log max(1 - s, 1e-16))
# of scores s from minus to plus infinity. That is no log loss: it goes up while the log loss falls, and below 0.
# Early stopping on it stops at an arbitrary round. `binary:logistic` reports the right value.
#
# The documentation says of the objective that it gives the score before the logistic transformation, and of
# `logloss` that it is the negative log-likelihood. It does not say that the two do not go together; that the
# metric became the default of this objective suggests that they do. Upstream was asked whether the
# metric makes sense here (https://github.com/dmlc/xgboost/issues/12117, closed; we could not read an answer), and
# agreed to deprecate the objective (https://github.com/dmlc/xgboost/issues/12473).
#
# 200 points of two classes; evaluated on the training data.
# Output seen:
#   rounds   reported   log loss of the scores   the formula above
#        3     0.8475                   0.3455              0.8475
#       30    -0.6407                   0.1280             -0.6407
#
# Exits with 0 if the library behaves like this, with 1 if it does not.
set -eu
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# Without its dependency nccl, which is for several GPUs.
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 scipy
"$folder/venv/bin/pip" install --quiet --no-deps xgboost==3.2.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import xgboost

random = np.random.default_rng(0)
x = random.normal(size=(200, 3))
y = (x[:, 0] + 0.3 * random.normal(size=200) > 0).astype(int)
data = xgboost.DMatrix(x, y)
as_seen = True
print("rounds   reported   log loss of the scores   the formula above")
for rounds, seen in ((3, 0.8475), (30, -0.6407)):
    log = {}
    model = xgboost.train(
        {"objective": "binary:logitraw", "max_depth": 2, "nthread": 1},
        data,
        rounds,
        evals=[(data, "data")],
        evals_result=log,
        verbose_eval=False,
    )
    reported = log["data"]["logloss"][-1]
    scores = model.predict(data, output_margin=True).astype(float)
    log_loss = np.logaddexp(0, np.where(y == 1, -scores, scores)).mean()
    positive, negative = np.log(np.maximum(scores, 1e-16)), np.log(np.maximum(1 - scores, 1e-16))
    formula = -np.where(y == 1, positive, negative).mean()
    print(f"{rounds:6}{reported:11.4f}{log_loss:25.4f}{formula:20.4f}")
    as_seen &= abs(reported - formula) < 1e-4 and abs(reported - seen) < 1e-2
sys.exit(0 if as_seen else 1)
PYTHON
