"""`mlflow run . -e label_noise`: which score finds wrong labels (section 4.4, Fig. 12)?

The paper shows the distributions of the action of noisy, clean and validation samples. Here every
score of the same loss record is measured by how well it finds the wrong labels, beside cleanlab's
scores from cross-validation with the same model, epochs and noise; on one noise or on several.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from actiontrack import analysis
from actiontrack.history import wrong_labels
from actiontrack.scores import LOW_IS_HARD
from actiontrack.store import RunInfo, RunQuery, Store, StoredRecord
from projects.cross_validation import (
    LABEL_QUALITY,
    OutOfFold,
    check_cleanlab,
    cross_validate,
    label_fixes,
    label_quality,
)
from projects.experiments.experiment import Experiment, experiment, training_identity
from projects.experiments.label_noise_params import LabelNoiseParams
from projects.experiments.label_noise_report import (
    K,
    NoiseResults,
    correction_table,
    noise_finding,
    noise_report,
    noise_table,
)
from projects.params.fields import NOISE_KINDS
from projects.params.reading import parse, run_main
from projects.params.training import TrainParams
from projects.run_log import lasting

__all__ = ["main"]

_LOW_IS_HARD = LOW_IS_HARD | {f"cleanlab_{method}" for method in LABEL_QUALITY}
_FOLDER, _FILE = "cross_validation", "probabilities.parquet"


def main(argv: Sequence[str]) -> None:
    """Train on wrong labels, measure every score, and report."""
    params = parse(LabelNoiseParams, argv)
    by_noise = [params.trainings(noise) for noise in params.noise]
    if params.cleanlab == "true":
        check_cleanlab()
    with experiment("label_noise", params, Store()) as current:
        trainings = [training for of_noise in by_noise for training in of_noise]
        runs = current.train(trainings)
        validated = _cross_validate(current, params, trainings)
        results, start = [], 0
        for noise, of_noise in zip(params.noise, by_noise, strict=True):
            part = slice(start, start := start + len(of_noise))
            results.append(
                _measure(
                    current.store,
                    of_noise,
                    runs[part],
                    validated[part],
                    noise=params.noise_titles[noise],
                    drawn=noise in NOISE_KINDS,
                )
            )
        table = noise_table(results, params)
        print(f"\n{table.to_string(index=False)}")
        print(f"\n{correction_table(results).to_string(index=False)}")
        current.finish(noise_report(results, table, params), noise_finding(results, params))


def _measure(
    store: Store,
    trainings: Sequence[TrainParams],
    runs: Sequence[RunInfo],
    validated: Sequence[RunInfo | None],
    *,
    noise: str,
    drawn: bool,
) -> NoiseResults:
    """Measure every score on one noise.

    Args:
        store: that holds the runs.
        trainings: on the labels with this noise.
        runs: of the trainings.
        validated: the run with the out-of-fold probabilities of each, None where there is none.
        noise: its short name.
        drawn: whether it is drawn by chance.
    """
    ids = tuple(run.run_id for run in runs)
    train, test = (
        analysis.load_records(RunQuery(run_ids=ids, record=f"{split}-probe"), store=store)
        for split in ("train", "test")
    )
    out_of_fold = {
        run.run_id: _out_of_fold(store, folds)
        for run, folds in zip(runs, validated, strict=True)
        if folds is not None
    }
    quality = {run_id: _quality(predicted) for run_id, predicted in out_of_fold.items()}
    fixes = {run_id: _fixes(predicted) for run_id, predicted in out_of_fold.items()}
    detected = analysis.noise_detection(
        train, ks=_ks(train), further=quality, low_is_hard=_LOW_IS_HARD
    )
    seconds: dict[str, tuple[float, float]] = {}
    for model in dict.fromkeys(training.model for training in trainings):
        positions = [row for row, training in enumerate(trainings) if training.model == model]
        folds_of_model = [run for row in positions if (run := validated[row]) is not None]
        seconds[model] = _seconds([runs[row] for row in positions]), _seconds(folds_of_model)
    return NoiseResults(
        noise=noise,
        drawn=drawn,
        train=train,
        test=test,
        detected=detected,
        corrected=analysis.correction_quality(train, further=fixes),
        seconds=seconds,
    )


def _cross_validate(
    current: Experiment, params: LabelNoiseParams, trainings: Sequence[TrainParams]
) -> list[RunInfo | None]:
    """A run with out-of-fold probabilities for each training of the first seeds."""
    if not params.with_cleanlab:
        if params.cleanlab == "auto":
            print("\n== no cleanlab, no comparison with it: pip install 'actiontrack[cleanlab]'")
        return [None] * len(trainings)
    return [
        _validate(current, training, params.folds)
        if training.seed < params.cleanlab_seeds
        else None
        for training in trainings
    ]


def _validate(current: Experiment, training: TrainParams, folds: int) -> RunInfo:
    def work(run: RunInfo) -> None:
        current.store.log_params(run.run_id, lasting(training) | {"folds": folds})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _FILE
            cross_validate(training, folds).save(path)
            current.store.upload(run.run_id, path, _FOLDER)

    kind = f"cross-validation {training.model} seed {training.seed}"
    identity = {"training": training_identity(training), "folds": str(folds)}
    return current.step(kind, identity, work)


def _out_of_fold(store: Store, run: RunInfo) -> OutOfFold:
    """The probabilities that a run holds."""
    with tempfile.TemporaryDirectory() as folder:
        return OutOfFold.load(store.download(run, f"{_FOLDER}/{_FILE}", Path(folder)))


def _quality(predicted: OutOfFold) -> pd.DataFrame:
    """Cleanlab's scores: sample_id and a column each."""
    quality = label_quality(predicted.labels, predicted.probabilities)
    return pd.DataFrame({"sample_id": predicted.sample_ids} | quality)


def _fixes(predicted: OutOfFold) -> pd.DataFrame:
    """What cleanlab takes to be wrong and right, for `analysis.correction_quality`."""
    fixes = label_fixes(predicted.labels, predicted.probabilities)
    return pd.DataFrame({"sample_id": predicted.sample_ids, "method": "cleanlab"} | fixes)


def _ks(records: Sequence[StoredRecord]) -> list[int]:
    """The number of wrong labels, which is the same in all runs, and 100."""
    samples: Any = records[0].samples  # of a training with noise: both labels are there
    n_wrong = int(wrong_labels(samples.labels, samples.true_labels).sum())
    return list(dict.fromkeys([n_wrong, min(K, len(samples.sample_ids))]))


def _seconds(runs: Sequence[RunInfo]) -> float:
    """Mean wall time of runs, NaN of none."""
    times = [(run.end_time - run.start_time) / 1000 for run in runs]
    return float(np.mean(times)) if times else float("nan")


if __name__ == "__main__":
    sys.exit(run_main(main))
