"""The Hugging Face Trainer under `actiontrack.autolog`: eval_dataset, or else train_dataset."""

from typing import Any

from actiontrack.errors import RecordingError
from actiontrack.recorder.autolog.quiet import QuietTracking
from actiontrack.recorder.autolog.training import Training
from actiontrack.recorder.causal_lm_data import returns_log_probs
from actiontrack.recorder.torch_sampling import unchanged_randomness
from actiontrack.recorder.transformers import ActionTrackCallback
from actiontrack.recorder.transformers_data import SAMPLE_ID
from actiontrack.recorder.transformers_tracking import TrainerTracking

__all__ = ["QuietCallback", "attach", "is_tracked"]


class QuietCallback(
    QuietTracking,
    ActionTrackCallback,
    hooks=("on_train_begin", "on_epoch_begin", "on_epoch_end", "on_evaluate", "on_train_end"),
    agreeing=("on_epoch_end",),
):
    """Evaluates a dataset of the Trainer after each epoch, and never raises."""


def attach(training: Training) -> None:
    """Add a callback for each evaluation dataset of a Trainer, unless it has one of ours."""
    trainer = training.arguments["self"]
    if is_tracked(trainer) or returns_log_probs(trainer):  # an SFTTrainer is recorded as such
        return
    options = dict(training.options)
    split = options.pop("split", None)
    for name, chosen, data in _datasets(trainer, options):
        callback = QuietCallback(data, split=split or name, **options)
        callback.chosen, callback.positions = chosen, not _have_ids(data)
        training.add(callback)
        trainer.add_callback(callback)
        training.afterwards(trainer.remove_callback, callback)


def is_tracked(trainer: Any) -> bool:
    """Whether a callback of ours is attached to a Trainer."""
    callbacks = trainer.callback_handler.callbacks
    return any(isinstance(callback, TrainerTracking) for callback in callbacks)


def _datasets(trainer: Any, options: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Name of the split, what is recorded, and the data."""
    if "data" in options:
        return [("test", "data", options.pop("data"))]
    datasets = trainer.eval_dataset
    if isinstance(datasets, dict):
        return [
            (f"validation_{name}", f"eval_dataset[{name!r}]", data)
            for name, data in datasets.items()
        ]
    if datasets is not None:
        return [("validation", "eval_dataset", datasets)]
    if trainer.train_dataset is None:
        raise RecordingError("the Trainer has neither an eval_dataset nor a train_dataset.")
    return [("train", "train_dataset", trainer.train_dataset)]


def _have_ids(data: Any) -> bool:
    """Whether the items of a map-style dataset name their samples."""
    columns = getattr(data, "column_names", None)
    if columns is not None:
        return SAMPLE_ID in columns
    if not len(data):
        return False
    with unchanged_randomness():  # items may be made at random
        return SAMPLE_ID in data[0]
