"""What a training of Ultralytics lets be recorded, and what it changes beside the training."""

import logging
import os
from typing import Any

from actiontrack.errors import ActionTrackError, RecordingError
from actiontrack.recorder.recorder import Recorder
from actiontrack.recorder.ultralytics_loss import check_criterion
from actiontrack.store import Store

__all__ = [
    "check_training",
    "first_unmixed",
    "note_limits",
    "plain_model",
    "warn_of_mlflow",
    "warn_of_resuming",
]

logger = logging.getLogger("actiontrack")

_TASKS = ("detect", "segment", "classify")
_MIXING = ("mosaic", "mixup", "cutmix", "copy_paste")
_BASE = "BaseModel"  # whose `loss` calls the criterion, and does no more
_EXPERIMENT = "/Shared/Ultralytics"  # where its runs go by default


def check_training(trainer: Any, mode: str) -> None:
    """Refuse a training whose losses are none of single images.

    Raises:
        RecordingError: names the task, the criterion or the augmentations.
    """
    model, task = plain_model(trainer.model), trainer.args.task
    if task not in _TASKS or hasattr(model, "student_model"):
        what = "a distillation" if hasattr(model, "student_model") else f"the task {task!r}"
        raise RecordingError(
            f"the losses of {what} can't be told apart by image. Recorded are those of "
            f"{', '.join(_TASKS)}."
        )
    owner = next((kind.__name__ for kind in type(model).__mro__ if "loss" in vars(kind)), _BASE)
    if owner != _BASE:
        raise RecordingError(
            f"{owner} has a loss of its own, which can't be told apart by image. Recorded are "
            "models of detection, segmentation and classification that have the common one."
        )
    check_criterion(model.init_criterion())
    if mode != "inline" or first_unmixed(trainer) < trainer.epochs:
        return
    raise RecordingError(
        f"mode inline: with {_named(trainer)} a training image is made of several, and its loss "
        "belongs to none of them. Pass close_mosaic to train, and the epochs after it are "
        "recorded; or 0 for each of these; or record an evaluation pass over the training images, "
        "ActionTrackCallback(data='train')."
    )


def first_unmixed(trainer: Any) -> int:
    """Number of the first epoch, from 0, in which no image is made of several."""
    if not _mixing(trainer):
        return 0
    n_closed = trainer.args.close_mosaic
    return max(0, trainer.epochs - n_closed) if n_closed else int(trainer.epochs)


def plain_model(model: Any) -> Any:
    """A model without what compiles it or wraps it for several processes."""
    while True:
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if inner is None:
            return model
        model = inner


def note_limits(trainer: Any, recorder: Recorder, mode: str, *, validates: bool) -> None:
    """Say which epochs there is nothing to record of."""
    if validates and not trainer.args.val:
        logger.warning(
            "record %s: with val=False Ultralytics validates the last epoch only, and that is all "
            "there is to record. Pass val=True, or ActionTrackCallback(data='val').",
            recorder.name,
        )
    first = first_unmixed(trainer)
    if mode == "inline" and first > trainer.start_epoch:
        text = f"epochs 1 to {first} mix images ({_named(trainer)}) and are left out"
        recorder.note("mixing", text)
        logger.warning("record %s: %s.", recorder.name, text)


def warn_of_resuming(trainer: Any, recorder: Recorder, *, resume: bool) -> None:
    """Say that a resumed training has a record of its own, where it continues none."""
    if trainer.start_epoch and not resume:
        logger.warning(
            "record %s: this training goes on after epoch %d, in a new record. To continue the "
            "earlier one, name its run: ActionTrackCallback(run_id=…, resume=True).",
            *(recorder.name, trainer.start_epoch),
        )


def warn_of_mlflow(trainer: Any) -> None:
    """Say what Ultralytics has changed for all of the process, beside a run of the user's own."""
    if not getattr(trainer, "_mlflow_active", False) or trainer._mlflow_started_run:  # noqa: SLF001
        return
    run_id = Store.active_run_id()
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or trainer.args.project or _EXPERIMENT
    try:
        before = Store().get_run(run_id).experiment if run_id else experiment
    except ActionTrackError:
        return  # a server that does not answer is told of elsewhere
    if before != experiment:
        logger.warning(
            "Ultralytics logs into your run of the experiment %r, but has made %r the experiment "
            "of this process's later runs and turned mlflow.autolog() on for all libraries. Call "
            "mlflow.set_experiment(…) again after the training, mlflow.autolog(disable=True) if "
            "you want none, or begin with `yolo settings mlflow=False`.",
            *(before, experiment),
        )


def _mixing(trainer: Any) -> dict[str, float]:
    """Augmentations that make one training image of several, with their strength."""
    if trainer.args.task == "classify":
        return {}
    strengths = {name: float(getattr(trainer.args, name, 0) or 0) for name in _MIXING}
    return {name: strength for name, strength in strengths.items() if strength > 0}


def _named(trainer: Any) -> str:
    return ", ".join(f"{name}={strength:g}" for name, strength in _mixing(trainer).items())
