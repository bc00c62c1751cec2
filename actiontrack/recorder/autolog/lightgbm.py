"""LightGBM under `actiontrack.autolog`: the validation sets, or else the training set."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from actiontrack.errors import RecordingError
from actiontrack.recorder.autolog.quiet import QuietTracking
from actiontrack.recorder.autolog.training import Training
from actiontrack.recorder.lightgbm import ActionTrackCallback, classes_in_training
from actiontrack.recorder.probe import not_tracked

__all__ = ["QuietCallback", "attach"]

_NUMBER_OF_MACHINES = ("num_machines", "num_machine")


class QuietCallback(QuietTracking, ActionTrackCallback, hooks=("__call__",)):
    """Records the raw scores of a Dataset of the training, and never raises."""


def attach(training: Training) -> None:
    """Add a callback for each validation set, unless one of ours is among the callbacks."""
    arguments = training.arguments
    callbacks = list(arguments.get("callbacks") or ())
    if any(isinstance(other, ActionTrackCallback) for other in callbacks):
        return
    if training.function.__name__ == "cv":
        raise not_tracked("lightgbm.cv", "Train the folds one by one, each in its own run.")
    parameters = arguments.get("params") or {}
    if any(int(parameters.get(name) or 1) > 1 for name in _NUMBER_OF_MACHINES):
        raise RecordingError("each machine of a distributed training sees its own rows only.")
    options = dict(training.options)
    split = options.pop("split", None)
    for number, (name, dataset, chosen) in enumerate(_datasets(arguments)):
        named = split if number == 0 else split and f"{split}_{number + 1}"
        callback = QuietCallback(
            _inputs(chosen, dataset),
            _labels(dataset),
            split=named or name,
            **_scores(arguments, dataset) | options,
        )
        callback.chosen, callback.positions = chosen, "ids" not in options
        training.add(callback)
        callbacks.append(callback)
    arguments["callbacks"] = callbacks


def _datasets(arguments: Mapping[str, Any]) -> list[tuple[str, lightgbm.Dataset, str]]:
    """Name of the split, the Dataset, and what is recorded."""
    train, sets = arguments["train_set"], arguments.get("valid_sets") or ()
    sets = [sets] if isinstance(sets, lightgbm.Dataset) else list(sets)
    names = arguments.get("valid_names") or ()
    names = [names] if isinstance(names, str) else list(names)
    chosen = []
    for number, dataset in enumerate(sets):
        default = "training" if dataset is train else f"valid_{number}"
        name = names[number] if number < len(names) else default
        plain = re.sub(r"[^A-Za-z0-9._]", "_", str(name))
        chosen.append((plain, dataset, f"validation set {name}"))
    return chosen or [("train", train, "train_set")]


def _inputs(chosen: str, dataset: lightgbm.Dataset) -> Any:
    """The raw data of a Dataset, which LightGBM predicts from.

    Raises:
        RecordingError: if there are none in memory.
    """
    if dataset.data is None:
        raise RecordingError(
            f"{chosen}: its raw data are gone, or it is a part of another Dataset. Make it with "
            "free_raw_data=False, of arrays."
        )
    if isinstance(dataset.data, str | Path | lightgbm.Sequence | list):
        kind = type(dataset.data).__name__
        raise RecordingError(f"{chosen}: recorded are arrays and frames, got {kind}.")
    return dataset.data


def _labels(dataset: lightgbm.Dataset) -> Any:
    """Labels as the user knows them: an LGBMClassifier has numbered its classes."""
    labels = np.asarray(dataset.get_label())
    classes = classes_in_training()
    return labels if classes is None else classes[labels.astype(np.intp)]


def _scores(arguments: Mapping[str, Any], dataset: lightgbm.Dataset) -> dict[str, Any]:
    """Where the scores of the samples start; a training that goes on starts from its trees."""
    start = dataset.init_score if arguments.get("init_model") is None else None
    return {} if start is None else {"init_score": start}
