"""Hugging Face Trainer: per-sample losses of every epoch.

An evaluation pass over fixed data needs the callback alone::

    track = ActionTrackCallback(test_dataset)                   # 1
    Trainer(…, callbacks=[track]).train()                       # 2

The losses of the training batches, at no cost, need the mixin as well, and datasets whose items
have an integer "sample_id"::

    class TrackedTrainer(ActionTrackTrainerMixin, Trainer): ...                 # 1
    track = ActionTrackCallback(split="train", mode="inline")                   # 2
    TrackedTrainer(…, args=TrainingArguments(…, remove_unused_columns=False),
                   callbacks=[track]).train()                                   # 3
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from actiontrack.errors import MissingDependencyError, ParameterError, RecordingError
from actiontrack.recorder.probe import Tracking
from actiontrack.recorder.torch import gather
from actiontrack.recorder.torch_probe import evaluating, indexed_loader
from actiontrack.recorder.whole_epoch import number_of_samples
from actiontrack.store import Store

try:
    from torch import nn
    from transformers import TrainerCallback
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.transformers needs Transformers: "
        "pip install 'actiontrack[transformers]'"
    ) from error

if TYPE_CHECKING:
    from transformers import Trainer

    _Base = Trainer
else:
    _Base = object

__all__ = ["ActionTrackCallback", "ActionTrackTrainerMixin", "token_losses"]

#: (inputs, outputs) -> "logits" or "losses", and "labels" where there are class indices.
Extract = Callable[[Mapping[str, Any], Any], Mapping[str, Any]]

SAMPLE_ID = "sample_id"
_ROUNDING = 1e-6  # by which a number of whole epochs may miss an integer


class ActionTrackCallback(Tracking, TrainerCallback):
    """Records the per-sample losses of the model after each epoch of training.

    The record belongs to the run of ``report_to="mlflow"``, else to the active run; no run is
    started. The Trainer has no hook for errors: `ActionTrackTrainerMixin` closes the record when
    training fails, as does ``with track:`` around it.

    The loss is the plain cross-entropy of the logits, whatever the training smooths or weighs.

    Args:
        data: for mode "probe", a map-style dataset of dicts as the Trainer takes them; "sample_id"
            is the id of an item, without it the position is. Evaluated after each epoch in
            evaluation mode, with the Trainer's data collator; the training stays the same.
        split: name of the recorded split.
        mode: "probe", or "inline" with `ActionTrackTrainerMixin`.
        extract: function of (inputs, outputs) that returns a mapping with "losses", or "logits"
            and "labels". Default: ``outputs["logits"]`` and ``inputs["labels"]`` of a sequence
            or image classifier; see `token_losses` for token classifiers and language models.
        batch_size: of the evaluation. Default: the Trainer's.
        options: further arguments of `actiontrack.Recorder`.

    Raises:
        ParameterError: if `data` does not fit the mode.
    """

    def __init__(
        self,
        data: Any = None,
        *,
        split: str = "test",
        mode: str = "probe",
        extract: Extract | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        if (data is None) != (mode == "inline"):
            rule = "must be given in mode probe and left out in mode inline"
            raise ParameterError("data", rule, type(data).__name__, "See the two modes.")
        if data is not None:
            indexed_loader(data)  # refuses what has no ids before training begins
        self._data, self._split, self._mode, self._options = data, split, mode, options
        self._extract, self._batch_size = extract or _extract, batch_size
        self._last_updates, self._clock = 0, 0.0
        self._began_inside = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the record.

        Raises:
            RecordingError: if there is no active run and none is named.
        """
        del control, kwargs
        options: dict[str, Any] = {"mode": self._mode}
        if args.world_size > 1:
            options["gather"] = gather
        run_id = self._options.get("run_id") or Store.active_run_id()
        if args.auto_find_batch_size and self._is_open(run_id):
            # Out of memory: the same training once more, with smaller batches.
            self.recorder.discard_epoch()  # type: ignore[union-attr]
        else:
            self._open(self._split, **{**options, **self._options})
        self._last_updates, self._clock = state.global_step, time.monotonic()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find whether training goes on inside an epoch."""
        del args, control, kwargs
        self._began_inside = _is_inside(state.epoch)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate, if that is asked for, and record the epoch."""
        del control
        assert self.recorder is not None  # noqa: S101 - opened when training began
        if self._data is not None:
            self._evaluate(args, kwargs["model"], kwargs["train_dataloader"])
        is_partial = self.inline and (self._began_inside or _is_inside(state.epoch))
        self.recorder.end_epoch(
            math.ceil(state.epoch - _ROUNDING),
            delta=self._delta(state.global_step),
            partial=True if is_partial else None,
            n_samples=number_of_samples(kwargs["train_dataloader"]),
        )
        self._last_updates, self._clock = state.global_step, time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Finish the record."""
        del args, state, control, kwargs
        self.finish()

    def batch(self, ids: Any, inputs: Mapping[str, Any], outputs: Any) -> None:
        """Keep one training batch; `ActionTrackTrainerMixin` calls it.

        Args:
            ids: (batch,) or None where the batch has none.
            inputs: of the model, labels included.
            outputs: of the model.

        Raises:
            RecordingError: if there are no ids.
        """
        if ids is None:
            raise RecordingError(
                "compute_loss: the batch has no 'sample_id'. Add an integer 'sample_id' to every "
                "item of the training dataset."
            )
        assert self.recorder is not None  # noqa: S101 - opened when training began
        self.recorder.update(ids, **self._extract(inputs, outputs))

    @property
    def inline(self) -> bool:
        """Whether the losses of training batches are recorded."""
        return self._mode == "inline"

    def _evaluate(self, args: Any, model: nn.Module, train_loader: Any) -> None:
        loader = indexed_loader(
            self._data,
            batch_size=self._batch_size or args.per_device_eval_batch_size,
            collate=_WithIds(train_loader.collate_fn),
            world_size=args.world_size,
            rank=args.process_index,
        )
        with evaluating(model):
            for positions, (ids, batch) in loader:
                inputs = {name: _moved(value, args.device) for name, value in batch.items()}
                found = self._extract(inputs, model(**inputs))
                self.recorder.update(ids or positions, **found)  # type: ignore[union-attr]

    def _delta(self, updates: int) -> float:
        kind = self._options.get("delta_kind", "epoch")
        if kind == "batch":
            return float(updates - self._last_updates)
        return time.monotonic() - self._clock if kind == "wall_time" else 1.0


class ActionTrackTrainerMixin(_Base):
    """Hands the training batches of a Trainer to its `ActionTrackCallback`.

    Raises:
        ParameterError: if the arguments let the Trainer remove "sample_id" from the batches.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.remove_unused_columns:
            raise ParameterError(
                "remove_unused_columns",
                "must be False, or the Trainer removes 'sample_id' from the batches",
                True,  # noqa: FBT003 - the value that was given
                "Pass TrainingArguments(remove_unused_columns=False).",
            )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`; an error closes the record."""
        try:
            return super().train(*args, **kwargs)
        except BaseException:
            for each in self._tracks():
                each.close()
            raise

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the Trainer's own signature
        num_items_in_batch: Any = None,
    ) -> Any:
        """As `Trainer.compute_loss`, without "sample_id" in what the model gets."""
        kept = {name: value for name, value in inputs.items() if name != SAMPLE_ID}
        loss, outputs = super().compute_loss(
            model, dict(kept), return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if model.training:
            for each in self._tracks():
                if each.inline:
                    each.batch(inputs.get(SAMPLE_ID), kept, outputs)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.prediction_step`, without "sample_id" in what the model gets."""
        kept = {name: value for name, value in inputs.items() if name != SAMPLE_ID}
        return super().prediction_step(model, kept, *args, **kwargs)

    def _tracks(self) -> list[ActionTrackCallback]:
        callbacks = self.callback_handler.callbacks
        return [each for each in callbacks if isinstance(each, ActionTrackCallback)]


def token_losses(logits: Any, labels: Any, *, shift: bool, ignore_index: int = -100) -> Any:
    """Mean cross-entropy over the tokens of each sequence that count.

    Args:
        logits: (batch, n_tokens, n_classes).
        labels: (batch, n_tokens) integer.
        shift: whether the logits at a token predict the next one, as in a causal language model.
        ignore_index: label of tokens that don't count.

    Returns:
        (batch,) losses; NaN for a sequence of which no token counts.

    ::

        ActionTrackCallback(data, extract=lambda inputs, outputs: {
            "losses": token_losses(outputs["logits"], inputs["labels"], shift=True)})
    """
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=ignore_index, reduction="none"
    )
    counted = (labels != ignore_index).sum(dim=1)
    return losses.view_as(labels).sum(dim=1) / counted


def _is_inside(epoch: float | None) -> bool:
    """Whether a number of epochs is none of whole ones."""
    return epoch is not None and abs(epoch - round(epoch)) > _ROUNDING


class _WithIds:
    """Collation that keeps ids, also text, away from the Trainer's data collator."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Mapping[str, Any]]) -> tuple[list[Any], Any]:
        ids = [item[SAMPLE_ID] for item in items if SAMPLE_ID in item]
        rest = [{name: item[name] for name in item if name != SAMPLE_ID} for item in items]
        return ids, self.collate(rest)


def _moved(value: Any, device: Any) -> Any:
    return value.to(device) if hasattr(value, "to") else value


def _extract(inputs: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
    logits, labels = outputs["logits"], inputs.get("labels")
    if labels is None or getattr(labels, "ndim", 0) != 1 or logits.ndim != 2:
        raise RecordingError(
            "outputs: not those of a classifier of whole samples with 'labels'. Pass extract, a "
            "function of (inputs, outputs) that returns {'losses': …}; see token_losses."
        )
    return {"logits": logits, "labels": labels}
