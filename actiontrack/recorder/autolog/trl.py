"""TRL's SFTTrainer under `actiontrack.autolog`: its training documents, from its own passes."""

from collections.abc import Callable, Mapping
from typing import Any

from actiontrack.recorder.autolog.quiet import QuietTracking
from actiontrack.recorder.autolog.training import Training
from actiontrack.recorder.autolog.transformers import is_tracked
from actiontrack.recorder.causal_lm import LanguageModelCallback
from actiontrack.recorder.causal_lm_batches import Documents, NamesDocuments
from actiontrack.recorder.causal_lm_data import dataset_of
from actiontrack.recorder.causal_lm_watch import Watch, unwatch, watch
from actiontrack.recorder.trl import track_sft

__all__ = ["QuietCallback", "attach"]


class QuietCallback(
    QuietTracking,
    LanguageModelCallback,
    hooks=(
        *("on_train_begin", "on_epoch_begin", "on_step_end", "on_log", "on_epoch_end"),
        *("on_evaluate", "on_train_end"),
    ),
    agreeing=("on_epoch_end",),
):
    """Records the documents of one dataset of the trainer, and never raises."""


class _QuietNames(NamesDocuments):
    """Names the documents of a batch; what it can't name goes to the model all the same."""

    def __init__(
        self, training: Training, collate: Callable[[list[Any]], Any], *, with_labels: bool
    ) -> None:
        super().__init__(collate, with_labels=with_labels)
        self._training = training

    def _documents(
        self, ids: list[Any], rows: list[Mapping[str, Any]], batch: Mapping[str, Any]
    ) -> Documents:
        documents: Documents = self._training.quietly(super()._documents, ids, rows, batch)
        return documents


class _QuietWatch(Watch):
    """Sees the passes of a trainer, and never raises into them."""

    def __init__(self, trainer: Any, training: Training) -> None:
        self._training = training
        super().__init__(trainer)

    def _named(self, collate: Callable[[list[Any]], Any], *, with_labels: bool) -> NamesDocuments:
        return _QuietNames(self._training, collate, with_labels=with_labels)

    def _after(self, *arguments: Any) -> None:
        self._training.quietly(super()._after, *arguments)


def attach(training: Training) -> None:
    """Watch an SFTTrainer while it trains, unless a callback of ours is attached to it."""
    trainer = training.arguments["self"]
    if is_tracked(trainer):
        return
    options = dict(training.options)
    dataset = options.pop("dataset", "train")
    data = options.pop("data", None)
    data = dataset_of(trainer, dataset) if data is None else data
    watch(trainer, lambda owner: _QuietWatch(owner, training))
    training.afterwards(unwatch, trainer)
    callback = track_sft(trainer, data, dataset=dataset, kind=QuietCallback, **options)
    training.afterwards(trainer.remove_callback, callback)
    callback.chosen = f"documents of {dataset}_dataset"  # type: ignore[attr-defined]
    training.add(callback)
    training.function = _train


def _train(trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """Train by the trainer's own attribute, which the watch has set."""
    return trainer.train(*args, **kwargs)
