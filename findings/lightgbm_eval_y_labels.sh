#!/bin/sh
# LightGBM 4.7.0, scikit-learn interface. Tried on 2026-11-30 with Python 3.11.
#
# `LGBMClassifier.fit` has deprecated `eval_set` and advises `eval_X` and `eval_y`. The labels of `eval_set` are
# encoded as 0 ... K-1 like those of `y`; the labels of `eval_y` are not. With integer classes other than
# 0 ... K-1 the validation metric is that of the wrong classes, without an error or a warning. Early stopping
# and `best_iteration_` go by this metric. The trained model itself is right. Text labels end in a ValueError.
#
# The documentation describes `eval_y` as the labels that belong to `eval_X` and names no difference in how they
# are encoded. Upstream has the report https://github.com/lightgbm-org/LightGBM/issues/7400, open on that day.
#
# Iris with its classes called 1, 2, 3; three rounds; validated on the training data.
# Output seen:
#   eval_set         0.6971
#   eval_X, eval_y   12.4301
#   by hand          0.6971
#
# Exits with 0 if the library behaves like this, with 1 if it does not.
set -eu
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lightgbm==4.7.0 scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import lightgbm
from sklearn.datasets import load_iris
from sklearn.metrics import log_loss

warnings.filterwarnings("ignore")  # that eval_set is deprecated
x, y = load_iris(return_X_y=True)
y = y + 1


def last_metric(**validation):
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(x, y, **validation)
    (metrics,) = model.evals_result_.values()
    return metrics["multi_logloss"][-1], log_loss(y, model.predict_proba(x))


old, by_hand = last_metric(eval_set=[(x, y)])
new, by_hand_too = last_metric(eval_X=x, eval_y=y)
print(f"eval_set         {old:.4f}\neval_X, eval_y   {new:.4f}\nby hand          {by_hand:.4f}")
as_seen = by_hand == by_hand_too and abs(old - by_hand) < 1e-6 and abs(new - 12.4301) < 1e-3
sys.exit(0 if as_seen else 1)
PYTHON
