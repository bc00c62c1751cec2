"""What recording CatBoost costs: `python -m benchmarks.boosting`.

Scikit-learn's digits, repeated so that a pass takes a while. Ratios of processor time, each of two
ways in turns: the recorded stages against the same staged predictions, given to a recorder by hand;
against the staged predictions alone, which CatBoost makes faster than anybody writes them down; and
a training with the record of its samples against the same training without.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from catboost import CatBoostClassifier, Pool
from sklearn.datasets import load_digits

from actiontrack.recorder import Recorder
from actiontrack.recorder.catboost import record_stages
from actiontrack.store import Store
from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    given = options(__doc__, argv, samples=20_000, trees=50, turns=5)
    inputs, labels = load_digits(return_X_y=True)
    rows = np.arange(given.samples) % len(labels)
    data, labels = Pool(inputs[rows], labels[rows]), labels[rows]
    settings = {"iterations": given.trees, "verbose": False, "allow_writing_files": False}

    def fit() -> CatBoostClassifier:
        return CatBoostClassifier(**settings, thread_count=1).fit(data)

    model = fit()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'mlflow.db'}")

        def run(record: Callable[..., object], recorded: CatBoostClassifier) -> None:
            with store.run(name="benchmark") as started:
                spool = Path(folder) / "spool"
                record(recorded, data, run_id=started.run_id, store=store, spool=spool)

        ways = {
            "recorded pass": lambda: run(record_stages, model),
            "pass, recorded by hand": lambda: run(partial(record_by_hand, labels), model),
            "pass": lambda: list(stages(model, data)),
            "recorded training": lambda: run(record_stages, fit()),
            "training": fit,
        }
        seconds = in_turns(ways, turns=given.turns, clock=time.process_time)
    size = f"{given.samples:,} samples, {given.trees} trees"
    name = f"CatBoost's stages, {size}"
    ours = "recorded pass"
    by_hand = ratios(seconds, ours, "pass, recorded by hand")
    keep(
        Figure(
            name=name,
            against="the same stages, recorded by hand",
            value=by_hand,
            target="<= 1.02",
            details={way: f"{Spread.of(taken)} s" for way, taken in seconds.items()},
        ),
        Figure(name=name, against="the stages alone", value=ratios(seconds, ours, "pass")),
        Figure(
            name=f"CatBoost trained and recorded, {size}",
            against="the training",
            value=ratios(seconds, "recorded training", "training"),
        ),
    )
    return 0


def stages(model: CatBoostClassifier, data: Pool) -> Iterator[np.ndarray]:
    """What the model says of all samples after each round."""
    yield from model.staged_predict(data, prediction_type="RawFormulaVal", thread_count=1)


def record_by_hand(
    labels: np.ndarray, model: CatBoostClassifier, data: Pool, **options: Any
) -> None:
    """Three lines in place of the adapter."""
    with Recorder("test", class_names=range(10), **options) as recorder:
        for raw in stages(model, data):
            recorder.update(range(len(labels)), logits=raw, labels=labels)
            recorder.end_epoch()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
