#!/bin/sh
# CatBoost 1.2.10. Tried on 2026-12-01 with Python 3.11 on a CPU (Linux, x86-64).
#
# The Logloss that CatBoost reports for the training data ("learn") is not that of its model. The same samples,
# passed as an evaluation set as well, have another one; so has the model by `predict`, which agrees with the
# evaluation set to all digits. The difference is up to 7e-5, which is 0.1 % of a small loss. All features are
# numbers, so that no statistics of categories are involved. MultiClass has no such difference, nor has Logloss
# with boosting_type="Ordered".
#
# The documentation gives one formula of Logloss for both and names no difference.
#
# Breast cancer, 300 samples, 500 rounds. Output seen:
#   learn         0.01591073
#   validation    0.01592242
#   by hand       0.01592242
#
# Exits with 0 if the library behaves like this, with 1 if it does not.
set -eu
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet catboost==1.2.10 scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from catboost import CatBoostClassifier
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss

x, y = (part[:300] for part in load_breast_cancer(return_X_y=True))
model = CatBoostClassifier(
    iterations=500, use_best_model=False, boosting_type="Plain", thread_count=1, verbose=False,
    allow_writing_files=False,
)
model.fit(x, y, eval_set=(x, y))
learn, validation = (model.get_evals_result()[name]["Logloss"][-1] for name in ("learn", "validation"))
by_hand = log_loss(y, model.predict_proba(x))
print(f"learn         {learn:.8f}\nvalidation    {validation:.8f}\nby hand       {by_hand:.8f}")
as_seen = abs(validation - by_hand) < 1e-9 and 3e-4 < abs(learn - validation) / validation < 3e-3
sys.exit(0 if as_seen else 1)
PYTHON
