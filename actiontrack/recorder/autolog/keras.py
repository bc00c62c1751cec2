"""Keras under `actiontrack.autolog`: validation data, or else the training data of `fit`."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.array_slicing import train_validation_split

from actiontrack.errors import RecordingError
from actiontrack.recorder.autolog.quiet import QuietTracking
from actiontrack.recorder.autolog.training import Training
from actiontrack.recorder.keras import ActionTrackCallback

__all__ = ["QuietCallback", "attach"]


class QuietCallback(
    QuietTracking, ActionTrackCallback, hooks=("on_train_begin", "on_epoch_end", "on_train_end")
):
    """Evaluates arrays that `fit` was given after each epoch, and never raises."""


def attach(training: Training) -> None:
    """Add the callback to the arguments of `fit`, unless one of ours is among them."""
    arguments = training.arguments
    callbacks = arguments.get("callbacks")
    if isinstance(callbacks, keras.callbacks.CallbackList):
        present = list(callbacks.callbacks)
    else:
        present = [other for other in keras.tree.flatten(callbacks) if other is not None]
    if any(isinstance(other, ActionTrackCallback) for other in present):
        return
    if isinstance(callbacks, keras.callbacks.CallbackList):
        raise RecordingError("callbacks: a CallbackList is full. Pass a list of callbacks.")
    split, chosen, inputs, labels, first = _chosen(arguments)
    _check_arrays(chosen, inputs, labels)
    ids = first + np.arange(len(labels))
    defaults = {"split": split, "ids": ids}
    callback = QuietCallback(inputs, labels, **{**defaults, **training.options})
    callback.chosen, callback.positions = chosen, "ids" not in training.options
    training.add(callback)
    arguments["callbacks"] = [*present, callback]


def _chosen(arguments: Mapping[str, Any]) -> tuple[str, str, Any, Any, int]:
    """Split, what is recorded, its inputs and labels, and where they begin."""
    data, share = arguments.get("validation_data"), arguments.get("validation_split")
    if data is not None:
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        return "validation", "validation_data", inputs, labels, 0
    inputs, labels = arguments.get("x"), arguments.get("y")
    if not share:
        return "train", "x, y", inputs, labels, 0
    _check_arrays("x, y", inputs, labels)
    _, (inputs, labels) = train_validation_split((inputs, labels), validation_split=share)
    first = len(arguments["y"]) - len(labels)
    return "validation", "x, y by validation_split", inputs, labels, first


def _check_arrays(chosen: str, inputs: Any, labels: Any) -> None:
    """Refuse what has no order of its own, such as a generator.

    Raises:
        RecordingError: names it.
    """
    parts = keras.tree.flatten((inputs, labels))
    if labels is None or not all(hasattr(part, "shape") for part in parts):
        kind = type(inputs).__name__
        raise RecordingError(
            f"{chosen}: recorded are arrays with labels, got {kind}. What makes batches itself has "
            "no order that would name its samples: attach an ActionTrackCallback to arrays."
        )
