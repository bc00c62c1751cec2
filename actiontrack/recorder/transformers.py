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

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from actiontrack.errors import MissingDependencyError, ParameterError, RecordingError
from actiontrack.recorder.arrays import check_classes
from actiontrack.recorder.criterion import full_precision
from actiontrack.recorder.images import images_in
from actiontrack.recorder.loss_check import LossCheck
from actiontrack.recorder.recorder import EpochSummary
from actiontrack.recorder.torch import gather
from actiontrack.recorder.torch_probe import evaluating, first_batch, indexed_loader, tried
from actiontrack.recorder.torch_sampling import unchanged_randomness
from actiontrack.recorder.whole_epoch import number_of_samples

try:
    import torch
    from torch import nn

    from actiontrack.recorder.transformers_data import (
        SAMPLE_ID,
        KeepsIds,
        ProbeCollator,
        epochs_begun,
        evaluated_weights,
        moved,
        precision_of,
        same_rows,
        used_columns,
    )
    from actiontrack.recorder.transformers_tracking import TrainerTracking
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

_REMEDY = (
    "The recorded losses come from other inputs, weights or outputs than the Trainer's: compare "
    "them on one batch. If the training uses another loss, such as compute_loss_func, pass "
    "loss_check=False."
)
_NO_IDS = (
    "compute_loss: the batch has no 'sample_id'. Every item of the training dataset needs an "
    "integer 'sample_id', also after the Trainer has prepared it: packing drops it, and so may a "
    "data collator of a stream."
)


class ActionTrackCallback(TrainerTracking):
    """Records the per-sample losses of the model after each epoch of training.

    The record belongs to the run of ``report_to="mlflow"``, else to the active run; no run is
    started. The Trainer has no hook for errors: `ActionTrackTrainerMixin` closes the record when
    training fails, as does ``with track:`` around it.

    The loss is the plain cross-entropy of the logits, whatever the training smooths or weighs.
    Where the Trainer evaluates the same samples at the same time (``eval_strategy="epoch"``), or
    trains on the recorded batches, its mean loss is compared with that of the record, see
    `actiontrack.recorder.loss_check`.

    Args:
        data: for mode "probe", a map-style dataset of dicts as the Trainer takes them; "sample_id"
            is the id of an item, without it the position is. Evaluated after each epoch as the
            Trainer evaluates: in evaluation mode of model and optimiser, without the columns that
            it removes, with its data collator. The training stays the same, bit for bit. The first
            batch is tried before training.
        split: name of the recorded split.
        mode: "probe", or "inline" with `ActionTrackTrainerMixin`.
        extract: function of (inputs, outputs) that returns a mapping with "losses", or "logits"
            and "labels". Default: ``outputs["logits"]`` and ``inputs["labels"]`` of a sequence
            or image classifier; see `token_losses` for token classifiers and language models.
        batch_size: of the evaluation. Default: the Trainer's.
        loss_check: whether to compare with the loss that the Trainer reports. Default: where the
            losses are the cross-entropy of logits, and the Trainer's are without label smoothing.
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
        loss_check: bool | None = None,
        **options: Any,
    ) -> None:
        if (data is None) != (mode == "inline"):
            rule = "must be given in mode probe and left out in mode inline"
            raise ParameterError("data", rule, type(data).__name__, "See the two modes.")
        if data is not None:
            indexed_loader(data)  # refuses what has no ids before training begins
        self._data, self._split, self._mode, self._options = data, split, mode, options
        self._extract, self._batch_size = extract or _extract, batch_size
        self._loss_check = loss_check
        self._loader: Any = None
        self._summaries: dict[int, EpochSummary | None] = {}
        self._reported: dict[int, float] = {}
        self._trained: list[tuple[Any, int]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the record and try the first batch.

        Raises:
            RecordingError: if there is no active run and none is named, or if the first batch
                can't be evaluated.
        """
        del control
        options: dict[str, Any] = {"mode": self._mode, "images": images_in(self._data)}
        if args.world_size > 1:
            options["gather"] = gather
        if not self._is_begun_anew(args):
            self._open(self._split, **{**options, **self._options})
        self._summaries, self._reported, self._trained = {}, {}, []
        if self._data is not None:
            with self._closed_on_error():
                self._prepare(args, kwargs)
        self._mark(state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate, if that is asked for, and record the epoch."""
        del control
        assert self.recorder is not None  # noqa: S101 - opened when training began
        if self._data is not None:
            self._evaluate(args, kwargs)
        is_partial = self.inline and self._is_partial(state)
        summary = self.recorder.end_epoch(
            epochs_begun(state.epoch),
            delta=self._delta(state.global_step),
            partial=True if is_partial else None,
            n_samples=number_of_samples(kwargs["train_dataloader"]) if is_partial else None,
        )
        self._mark(state.global_step)
        self._summaries = {state.global_step: summary}
        if self._trained:
            losses, sizes = zip(*self._trained, strict=True)
            mean = float(torch.stack(losses).double().cpu() @ torch.tensor(sizes).double())
            self._reported, self._trained = {state.global_step: mean / sum(sizes)}, []
        self._compare(args, state.global_step, kwargs["model"])

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Keep the loss that the Trainer reports of the recorded samples."""
        del control
        prefixes = [name.removesuffix("_runtime") for name in metrics or () if "_runtime" in name]
        name = f"{prefixes[0]}_loss" if prefixes else "eval_loss"
        loader = kwargs.get("eval_dataloader")
        if self._data is None or name not in (metrics or {}) or not self._loss_check:
            return
        if same_rows(self._data, getattr(loader, "dataset", None)):
            self._reported = {state.global_step: float(metrics[name])}
            self._compare(args, state.global_step, kwargs["model"])

    def batch(self, ids: Any, inputs: Mapping[str, Any], outputs: Any, *, loss: Any = None) -> None:
        """Keep one training batch; `ActionTrackTrainerMixin` calls it.

        Args:
            ids: (batch,) or None where the batch has none.
            inputs: of the model, labels included.
            outputs: of the model.
            loss: the mean loss of the batch that training uses, to be compared.

        Raises:
            RecordingError: if there are no ids.
        """
        if ids is None:
            raise RecordingError(_NO_IDS)
        self._update(ids, inputs, outputs)
        if loss is not None:
            self._trained.append((loss.detach().mean(), len(ids)))

    @property
    def inline(self) -> bool:
        """Whether the losses of training batches are recorded."""
        return self._mode == "inline"

    def _update(self, ids: Any, inputs: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
        assert self.recorder is not None  # noqa: S101 - opened when training began
        values = dict(self._extract(inputs, outputs))
        if self._loss_check is None:
            self._loss_check = "losses" not in values
        self.recorder.update(ids, **values)
        return values

    def _prepare(self, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Make the loader of the evaluation, and try its first batch: training has not begun."""
        assert self.recorder is not None  # noqa: S101 - just opened
        columns = used_columns(kwargs["model"], args)
        self._loader = indexed_loader(
            self._data,
            batch_size=self._batch_size or args.per_device_eval_batch_size,
            collate=ProbeCollator(kwargs["train_dataloader"].collate_fn, columns),
            world_size=args.world_size,
            rank=args.process_index,
        )
        with tried("data"), self._evaluating(kwargs) as weights:
            first = first_batch(self._loader)
            if first is not None:
                check_classes(self._batch(args, kwargs["model"], *first))
        self.recorder.discard_epoch()
        if weights:
            self.recorder.note("weights", f"averaged by {weights}, as in evaluation")

    @contextlib.contextmanager
    def _evaluating(self, kwargs: Mapping[str, Any]) -> Iterator[str]:
        with evaluating(kwargs["model"]), evaluated_weights(kwargs.get("optimizer")) as weights:
            yield weights

    def _evaluate(self, args: Any, kwargs: Mapping[str, Any]) -> None:
        with self._evaluating(kwargs):
            for positions, (ids, batch) in self._loader:
                self._batch(args, kwargs["model"], positions, (ids, batch))

    def _batch(
        self, args: Any, model: nn.Module, positions: Any, batch: tuple[Any, Mapping[str, Any]]
    ) -> dict[str, Any]:
        ids, columns = batch
        inputs = {name: moved(value, args.device) for name, value in columns.items()}
        return self._update(ids or positions, inputs, model(**inputs))

    def _compare(self, args: Any, updates: int, model: nn.Module) -> None:
        """Compare what was recorded and reported after as many updates."""
        wanted = self._loss_check and not args.label_smoothing_factor
        if not wanted or updates not in self._summaries or updates not in self._reported:
            return
        assert self.recorder is not None  # noqa: S101 - has recorded an epoch
        source = "the training" if self.inline else "the Trainer's evaluation"
        LossCheck(self.recorder, source=source, remedy=_REMEDY).compare_summary(
            self._summaries[updates], self._reported[updates], precision=precision_of(args, model)
        )


class ActionTrackTrainerMixin(_Base):
    """Hands the training batches of a Trainer to its `ActionTrackCallback`.

    A data collator that drops "sample_id", such as that of TRL's `SFTTrainer`, is wrapped in one
    that keeps it.

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
        """As `Trainer.train`; an error closes the record.

        Raises:
            RecordingError: if training batches are recorded and the dataset has no "sample_id".
        """
        try:
            if any(track.inline for track in self._tracks()):
                self._keep_ids()
            return super().train(*args, **kwargs)
        except BaseException:
            for track in self._tracks():
                track.close()
            raise

    def _keep_ids(self) -> None:
        """See that the batches have the ids of the items, whatever the data collator keeps."""
        dataset: Any = self.train_dataset
        if not hasattr(dataset, "__getitem__") or not len(dataset):
            return  # of a stream the first batch tells
        with unchanged_randomness():
            item = dataset[0]
            if SAMPLE_ID not in item:
                raise RecordingError(_NO_IDS)
            batch = self.data_collator([item])
        if SAMPLE_ID not in batch:
            self.data_collator = KeepsIds(self.data_collator)

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
            reported = loss if self._reports_mean() else None
            for track in self._tracks():
                if track.inline:
                    track.batch(inputs.get(SAMPLE_ID), kept, outputs, loss=reported)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.prediction_step`, without "sample_id" in what the model gets."""
        kept = {name: value for name, value in inputs.items() if name != SAMPLE_ID}
        return super().prediction_step(model, kept, *args, **kwargs)

    def _reports_mean(self) -> bool:
        """Whether the loss of a batch is the plain mean over its samples, and of all of them."""
        args = self.args
        alone = args.world_size == 1 and args.n_gpu <= 1 and args.gradient_accumulation_steps == 1
        return alone and self.compute_loss_func is None

    def _tracks(self) -> list[ActionTrackCallback]:
        callbacks = self.callback_handler.callbacks
        return [track for track in callbacks if isinstance(track, ActionTrackCallback)]


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
    with full_precision(logits.device):
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(),
            labels.flatten(),
            ignore_index=ignore_index,
            reduction="none",
        )
    counted = (labels != ignore_index).sum(dim=1)
    return losses.view_as(labels).sum(dim=1) / counted


def _extract(inputs: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
    logits, labels = outputs["logits"], inputs.get("labels")
    if labels is None or getattr(labels, "ndim", 0) != 1 or logits.ndim != 2:
        raise RecordingError(
            "outputs: not those of a classifier of whole samples with 'labels'. Pass extract, a "
            "function of (inputs, outputs) that returns {'losses': …}; see token_losses."
        )
    if logits.shape[1] == 1:
        raise RecordingError(
            "outputs: a single one per sample is a regression in Transformers. Pass extract, a "
            "function of (inputs, outputs) that returns {'losses': …}, or for a binary classifier "
            "{'logits': outputs['logits'], 'labels': inputs['labels']}."
        )
    return {"logits": logits, "labels": labels}
