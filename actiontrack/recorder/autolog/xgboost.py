"""XGBoost under `actiontrack.autolog`: the evaluation sets, or else the training set."""

import re
from typing import Any

import xgboost
from xgboost import collective

from actiontrack.errors import RecordingError
from actiontrack.recorder.autolog.quiet import QuietTracking
from actiontrack.recorder.autolog.training import Training
from actiontrack.recorder.probe import not_tracked
from actiontrack.recorder.xgboost import ActionTrackCallback

__all__ = ["QuietCallback", "attach"]


class QuietCallback(
    QuietTracking,
    ActionTrackCallback,
    hooks=("before_training", "before_iteration", "after_iteration", "after_training"),
    passing=("before_training", "after_training"),
):
    """Records the margins of a matrix of the training, and never raises."""


def attach(training: Training) -> None:
    """Add a callback for each evaluation set, unless one of ours is among the callbacks."""
    arguments = training.arguments
    callbacks = list(arguments.get("callbacks") or ())
    if any(isinstance(other, ActionTrackCallback) for other in callbacks):
        return
    if "folds" in arguments or "nfold" in arguments or training.function.__name__ == "cv":
        raise not_tracked("xgboost.cv", "Train the folds one by one, each in its own run.")
    if collective.get_world_size() > 1:
        raise RecordingError("each process of a distributed training sees its own rows only.")
    options = dict(training.options)
    split = options.pop("split", None)
    added = []
    for number, (name, matrix, chosen) in enumerate(_matrices(arguments)):
        named = split if number == 0 else split and f"{split}_{number + 1}"
        callback = QuietCallback(matrix, split=named or name, **options)
        callback.chosen, callback.positions = chosen, "ids" not in options
        training.add(callback)
        added.append(callback)
    # First: of the callbacks of a round those after one that stops the training are not called.
    arguments["callbacks"] = [*added, *callbacks]


def _matrices(arguments: Any) -> list[tuple[str, xgboost.DMatrix, str]]:
    """Name of the split, the matrix, and what is recorded."""
    sets = [
        (re.sub(r"[^A-Za-z0-9._]", "_", str(name)), matrix, f"evaluation set {name}")
        for matrix, name in arguments.get("evals") or ()
    ]
    return sets or [("train", arguments["dtrain"], "dtrain")]
