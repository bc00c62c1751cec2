"""The forward passes of a Trainer, seen by hooks while it trains and at no other time."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from actiontrack.errors import RecordingError
from actiontrack.recorder.causal_lm_batches import (
    DOCUMENTS,
    Documents,
    NamesDocuments,
    TokenLosses,
    token_losses_of,
)
from actiontrack.recorder.causal_lm_data import returns_log_probs
from actiontrack.recorder.transformers_data import SAMPLE_ID

__all__ = ["Watch", "Watcher", "unwatch", "watch"]

_NO_IDS = (
    "the batch has no 'sample_id'. Every item of the training dataset needs an integer or text "
    "'sample_id', also after the trainer has prepared it."
)

_ATTRIBUTE = "_actiontrack_watch"  # of a trainer


class Watcher(Protocol):
    """What wants to see the losses of a trainer.

    Attributes:
        sees_training: whether those of its training batches.
        sees_evaluation: whether those of its evaluations.
    """

    sees_training: bool
    sees_evaluation: bool

    def take(
        self, documents: Documents, losses: TokenLosses, input_ids: torch.Tensor | None
    ) -> None:
        """Keep the losses of one batch."""

    def close(self) -> bool:
        """Stop recording."""


def watch(trainer: Any, make: "Callable[[Any], Watch] | None" = None) -> "Watch":
    """The watch of a trainer; the first call sees to it that its `train` is watched.

    Args:
        trainer: a `transformers.Trainer`.
        make: makes the watch of a trainer that has none. Default: `Watch`.
    """
    if not hasattr(trainer, _ATTRIBUTE):
        setattr(trainer, _ATTRIBUTE, (make or Watch)(trainer))
    of_trainer: Watch = getattr(trainer, _ATTRIBUTE)
    return of_trainer


def unwatch(trainer: Any) -> None:
    """Let a trainer train unwatched, as before the first call of `watch`."""
    vars(trainer).pop(_ATTRIBUTE, None)
    vars(trainer).pop("train", None)


class Watch:
    """Tells watchers what the model of one trainer says of each token.

    While `train` runs, the data collator names the documents of a batch and hooks on the model take
    the names out and read the losses. Afterwards everything is as before.

    Args:
        trainer: a `transformers.Trainer`.
    """

    def __init__(self, trainer: Any) -> None:
        self.watchers: list[Watcher] = []
        self._own_pass: Watcher | None = None
        # Outputs without them are those of further passes, such as for label smoothing.
        self._needs_log_probs = returns_log_probs(trainer)
        self._documents: Documents | None = None
        self._hooks = ExitStack()
        inner = functools.partial(type(trainer).train, trainer)
        train = vars(trainer).get("train", inner)

        @functools.wraps(type(trainer).train)
        def watched_train(*args: Any, **kwargs: Any) -> Any:
            with self._closed_on_error(), self._named_documents(trainer), self._hooks:
                return train(*args, **kwargs)

        trainer.train = watched_train

    def hook(self, model: nn.Module) -> None:
        """See every call of the model until training ends; training has begun."""
        self._hooks.close()  # of an attempt with larger batches
        for handle in (
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True),
        ):
            self._hooks.callback(handle.remove)

    @contextmanager
    def own_pass(self, watcher: Watcher) -> Iterator[None]:
        """What the model says meanwhile is for one watcher alone."""
        self._own_pass = watcher
        try:
            yield
        finally:
            self._own_pass = None

    def __deepcopy__(self, memo: Any) -> "Watch":
        """Itself: a copy of the model belongs to the same trainer."""
        return self

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for watcher in self.watchers:
                watcher.close()
            raise

    @contextmanager
    def _named_documents(self, trainer: Any) -> Iterator[None]:
        """Batches say which documents they hold: the Trainer keeps the column of their ids."""
        trainer._set_signature_columns_if_needed()  # noqa: SLF001 - the Trainer has no other way
        columns, collate = trainer._signature_columns, trainer.data_collator  # noqa: SLF001
        # Both take the labels away before they call the model.
        own_loss = trainer.label_smoother is not None or trainer.compute_loss_func is not None
        trainer._signature_columns = [*columns, SAMPLE_ID]  # noqa: SLF001
        trainer.data_collator = self._named(collate, with_labels=own_loss)
        try:
            yield
        finally:
            trainer._signature_columns, trainer.data_collator = columns, collate  # noqa: SLF001
            vars(trainer).get("_eval_dataloaders", {}).clear()  # kept for the next evaluation

    def _named(self, collate: Callable[[list[Any]], Any], *, with_labels: bool) -> NamesDocuments:
        return NamesDocuments(collate, with_labels=with_labels)

    def _before(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        del module
        self._documents = kwargs.pop(DOCUMENTS, None)
        return args, kwargs

    def _after(self, module: nn.Module, args: Any, kwargs: dict[str, Any], outputs: Any) -> None:
        del args
        watchers = self._watchers_of(module)
        documents, self._documents = self._documents, None
        if documents is None:
            if "labels" in kwargs and any(watcher.sees_training for watcher in watchers):
                raise RecordingError(_NO_IDS)
            return
        if not watchers or (self._needs_log_probs and not hasattr(outputs, "log_probs")):
            return
        labels = kwargs.get("labels", documents.labels)
        losses = None if labels is None else token_losses_of(outputs, labels)
        if losses is not None:
            for watcher in watchers:
                watcher.take(documents, losses, kwargs.get("input_ids"))

    def _watchers_of(self, module: nn.Module) -> list[Watcher]:
        if self._own_pass is not None:
            return [self._own_pass]
        if module.training:
            return [watcher for watcher in self.watchers if watcher.sees_training]
        return [watcher for watcher in self.watchers if watcher.sees_evaluation]
