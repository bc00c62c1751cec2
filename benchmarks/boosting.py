"""What recording CatBoost costs: `python -m benchmarks.boosting`.

Scikit-learn's digits, repeated so that a pass takes a while. Two ratios of processor time, each of
two ways in turns:

* the recorded stages against the same staged predictions alone, from which the cross-entropy of
  each sample is taken: an evaluation pass after each round;
* a training with its record against the same training without.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from catboost import CatBoostClassifier, Pool
from scipy import special
from sklearn.datasets import load_digits

from actiontrack.recorder.catboost import record_stages
from actiontrack.store import Store
from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    given = options(__doc__, argv, samples=20_000, trees=100, turns=5)
    inputs, labels = load_digits(return_X_y=True)
    rows = np.arange(given.samples) % len(labels)
    train, test = Pool(inputs, labels), Pool(inputs[rows], labels[rows])
    settings = {"iterations": given.trees, "verbose": False, "allow_writing_files": False}

    def fit() -> CatBoostClassifier:
        return CatBoostClassifier(**settings, thread_count=1).fit(train)

    model = fit()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'mlflow.db'}")

        def record(recorded: CatBoostClassifier) -> None:
            with store.run(name="benchmark") as run:
                options = {"run_id": run.run_id, "store": store, "spool": Path(folder) / "spool"}
                record_stages(recorded, test, **options)

        ways = {
            "recorded pass": lambda: record(model),
            "bare pass": lambda: evaluate(model, test, labels[rows]),
            "recorded training": lambda: record(fit()),
            "training": fit,
        }
        seconds = in_turns(ways, turns=given.turns, clock=time.process_time)
    size = f"{given.samples:,} samples, {given.trees} trees"
    keep(
        Figure(
            name=f"CatBoost's stages, {size}",
            against="the same evaluation pass after each round",
            value=ratios(seconds, "recorded pass", "bare pass"),
            target="<= 1.1",
            details={name: f"{Spread.of(taken)} s" for name, taken in seconds.items()},
        ),
        Figure(
            name=f"CatBoost trained and recorded, {size}",
            against=f"the training, on {len(labels):,} samples",
            value=ratios(seconds, "recorded training", "training"),
        ),
    )
    return 0


def evaluate(model: CatBoostClassifier, test: Pool, labels: np.ndarray) -> None:
    """The losses of all samples after each round, as one would compute them by hand."""
    for raw in model.staged_predict(test, prediction_type="RawFormulaVal", thread_count=1):
        -special.log_softmax(raw, axis=1)[np.arange(len(labels)), labels]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
