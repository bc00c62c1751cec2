"""Causal language models under a Hugging Face Trainer: the loss of each document.

The losses are those of the Trainer's own forward passes, read by hooks; its source and its class
stay as they are. The items of the dataset need a "sample_id"::

    trainer = Trainer(model, args, train_dataset=data, data_collator=…)
    track_causal_lm(trainer, data)                                              # 1
    trainer.train()

See `actiontrack.recorder.trl` for TRL's SFTTrainer.
"""

import itertools
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import MissingDependencyError, ParameterError, RecordingError, check_choice
from actiontrack.history import MODES
from actiontrack.record.manifest import TOKEN_LOSS
from actiontrack.recorder.epoch import first_ids
from actiontrack.recorder.loss_check import LossCheck
from actiontrack.recorder.recorder import Recorder

try:
    import torch
    from torch.utils.data import DataLoader

    from actiontrack.recorder.causal_lm_batches import Documents, TokenLosses
    from actiontrack.recorder.causal_lm_check import EvaluationMean, LoggedMean
    from actiontrack.recorder.causal_lm_data import (
        Columns,
        check_rows,
        check_trainer,
        dataset_of,
        ids_of,
        prepared_ids,
        returns_log_probs,
    )
    from actiontrack.recorder.causal_lm_tokens import TokensOfDocuments
    from actiontrack.recorder.causal_lm_watch import watch
    from actiontrack.recorder.torch import gather
    from actiontrack.recorder.torch_probe import evaluating, tried
    from actiontrack.recorder.transformers_data import (
        epochs_begun,
        evaluated_weights,
        is_inside,
        moved,
        precision_of,
    )
    from actiontrack.recorder.transformers_tracking import TrainerTracking
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.causal_lm needs Transformers: pip install 'actiontrack[transformers]'"
    ) from error

__all__ = ["LanguageModelCallback", "track_causal_lm"]

_REMEDY = (
    "The recorded losses come from other tokens or outputs than the Trainer's. If the training "
    "uses another loss than the cross-entropy of tokens, pass loss_check=False."
)
_ONE_PROCESS = (
    "losses of single tokens are recorded by one process: this record of several has none."
)
_LOSS = "cross_entropy"
_TRAIN = "train"


def track_causal_lm(
    trainer: Any,
    data: Any = None,
    *,
    dataset: str = "train",
    kind: "type[LanguageModelCallback] | None" = None,
    **options: Any,
) -> "LanguageModelCallback":
    """Record the loss of each document of a causal language model under a `transformers.Trainer`.

    Args:
        trainer: the trainer, before `train`. A callback is added to it; what else is needed is
            there while it trains, and gone afterwards.
        data: its dataset, for the ids: items are mappings with "input_ids" and a "sample_id",
            integer or text, each its own. Default: the dataset that the trainer has.
        dataset: which of the trainer's datasets is recorded: "train", "eval", or a name in a dict
            of evaluation datasets.
        kind: class of the callback, for one of your own. Default: `LanguageModelCallback`.
        options: those of `LanguageModelCallback`, and of `actiontrack.Recorder`.

    Returns:
        The callback; as a context manager it closes the record.

    Raises:
        ParameterError: if an argument breaks its rule, or ids are repeated.
        RecordingError: if documents have no ids, or the model is compiled or copied to several
            devices by one process.
    """
    check_trainer(trainer, "Trainer", "Pass the trainer, not its model, before train.")
    _check_hooks_see_outputs(trainer.args)
    if data is None:
        data = dataset_of(trainer, dataset)
    check_rows("data", data)
    ids = ids_of(data)
    callback = (kind or LanguageModelCallback)(trainer, ids, dataset=dataset, **options)
    watch(trainer).watchers.append(callback)
    trainer.add_callback(callback)
    return callback


class LanguageModelCallback(TrainerTracking):
    """Records what a `Watch` sees of one dataset; `track_causal_lm` makes and adds it.

    The loss of a document is the mean cross-entropy of its tokens that have a label; how many they
    are is the component "n_tokens". The score table has ``perplexity`` and ``n_tokens``.

    Args:
        trainer: the trainer.
        ids: (n_documents,) of the dataset, each its own.
        dataset: which of the trainer's datasets is recorded: "train", "eval", or a name in a dict
            of evaluation datasets.
        mode: "inline" for the training batches, dropout and all, at no cost; "probe" for losses in
            evaluation mode after each epoch: of an evaluation dataset those of the Trainer's own
            evaluation, where it evaluates every epoch, at no cost; else by a pass of our own, which
            leaves random states and training as they are, bit for bit.
        split: name of the recorded split. Default: that of `dataset`.
        tokens: of how many documents the loss of each token is added up over the epochs, for the
            page that colours them. Chosen by a hash of the id. Default: none.
        token_texts: whether the record also holds the text of these tokens.
        batch_size: of a pass of our own. Default: the Trainer's for evaluations.
        loss_check: whether to compare with the loss that the Trainer reports. Default: where it is
            the plain cross-entropy of one process.
        options: further arguments of `actiontrack.Recorder`.

    Attributes:
        sees_training: whether the training batches are recorded.
        sees_evaluation: whether the Trainer's own evaluation is.

    Raises:
        ParameterError: if an argument breaks its rule.
    """

    def __init__(
        self,
        trainer: Any,
        ids: npt.NDArray[Any],
        *,
        dataset: str = _TRAIN,
        mode: str = "inline",
        split: str | None = None,
        tokens: int = 0,
        token_texts: bool = False,
        batch_size: int | None = None,
        loss_check: bool | None = None,
        **options: Any,
    ) -> None:
        check_choice("mode", mode, MODES)
        if mode == "inline" and dataset != _TRAIN:
            rule = "must be 'train' in mode inline"
            raise ParameterError("dataset", rule, dataset, "Pass mode='probe' for an evaluation.")
        args = trainer.args
        self._trainer, self.ids, self._dataset, self._mode = trainer, ids, dataset, mode
        self._split = split or dataset
        self._batch_size = batch_size or args.per_device_eval_batch_size
        self._options = options
        every_epoch = str(getattr(args.eval_strategy, "value", args.eval_strategy)) == "epoch"
        self.sees_training = mode == "inline"
        self.sees_evaluation = mode == "probe" and dataset != _TRAIN and every_epoch
        wanted = _is_comparable(trainer) if loss_check is None else loss_check
        self._checks = wanted and args.world_size == 1
        tokenizer = _tokenizer_of(trainer, tokens) if token_texts else None
        self._tokens = TokensOfDocuments(ids.tolist(), tokens, tokenizer)
        self._reported = EvaluationMean()
        self._logged = LoggedMean(pooled=bool(trainer.model_accepts_loss_kwargs))
        self._unscored: set[Any] = set()  # documents without a loss that were met
        self._named: set[Any] = set()  # those of them that were named in a warning

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the record, and try the first batch of a pass of our own.

        Raises:
            RecordingError: if there is no active run and none is named, or the first batch can't
                be evaluated.
        """
        del control
        watch(self._trainer).hook(kwargs["model"])
        if not self._is_begun_anew(args):
            self._open(self._split, **{**self._defaults(args), **self._options})
        self._logged.forget()
        self._reported.forget()
        with self._closed_on_error():
            self._warn_of_missing()
            if self._makes_passes:
                with tried("data"):
                    self._evaluate(args, kwargs, n_batches=1)
                self._recorder().discard_epoch()
        self._mark(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note that the weights were updated."""
        del args, state, control, kwargs
        self._logged.end_update()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Compare the loss of training batches with what the Trainer logs."""
        del control
        if not (self._checks and self.sees_training) or "loss" not in (logs or {}):
            return
        mean, n_documents = self._logged.value(), self._logged.n_documents
        self._logged.forget()
        if math.isfinite(mean):  # the Trainer leaves NaN out of its mean
            precision = precision_of(args, kwargs["model"])
            self._compare(state, mean, float(logs["loss"]), n_documents, precision)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the epoch, after a pass of our own if there is one."""
        del control
        if self._makes_passes:
            self._evaluate(args, kwargs)
        if not self.sees_evaluation:
            is_partial = self.sees_training and self._is_partial(state)
            self._end_epoch(state, is_partial=is_partial)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Record the epoch that the Trainer has evaluated; other evaluations are dropped."""
        del control
        if not self.sees_evaluation or self.recorder is None or self.recorder.closed:
            return
        prefix = "eval" if self._dataset == "eval" else f"eval_{self._dataset}"
        mean, n_documents = self._reported.value(), self._reported.n_documents
        self._reported.forget()
        if f"{prefix}_runtime" not in (metrics or {}) or is_inside(state.epoch):
            self.recorder.discard_epoch()
            return
        self._end_epoch(state)
        if self._checks and f"{prefix}_loss" in metrics:
            reported = float(metrics[f"{prefix}_loss"])
            precision = precision_of(args, kwargs["model"])
            self._compare(state, mean, reported, n_documents, precision)

    def take(
        self, documents: Documents, losses: TokenLosses, input_ids: torch.Tensor | None
    ) -> None:
        """Keep one batch; a `Watch` calls it.

        Args:
            documents: those of the batch.
            losses: of its tokens.
            input_ids: its tokens.
        """
        means: Any = losses.means(documents)
        names, counts = list(documents.ids), np.array(documents.n_scored, dtype=np.float32)
        scored = np.flatnonzero(counts)
        if len(scored) < len(names):
            self._unscored |= {names[row] for row in np.flatnonzero(counts == 0)}
            means = means[torch.as_tensor(scored, device=means.device)]
            names, counts = [names[row] for row in scored], counts[scored]
        if names:
            self._recorder().update(names, means, components={"n_tokens": counts})
        if self._keeps_tokens:
            self._tokens.take(self._recorder(), documents, losses, input_ids)
        if self._checks:
            (self._logged if self.sees_training else self._reported).add(documents, losses)

    # How

    @property
    def _makes_passes(self) -> bool:
        return self._mode == "probe" and not self.sees_evaluation

    @property
    def _keeps_tokens(self) -> bool:
        return bool(self._tokens) and self._trainer.args.world_size == 1

    def _recorder(self) -> Recorder:
        assert self.recorder is not None  # noqa: S101 - opened when training began
        return self.recorder

    def _defaults(self, args: Any) -> dict[str, Any]:
        """Options of the recorder; losses may all be equal, as nothing here reduces a batch."""
        options: dict[str, Any] = {"mode": self._mode, "allow_uniform": True, "loss_name": _LOSS}
        if args.world_size > 1:
            options["gather"] = gather
        if self._keeps_tokens:
            options["pixel_loss_name"] = TOKEN_LOSS
        elif self._tokens:
            warnings.warn(_ONE_PROCESS, stacklevel=2)
        return options

    def _evaluate(self, args: Any, kwargs: Mapping[str, Any], n_batches: int | None = None) -> None:
        """Evaluate this process's share of the dataset, as the Trainer prepared it."""
        model, trainer = kwargs["model"], self._trainer
        extra = {"fused_lm_head": True} if returns_log_probs(trainer) else {}
        with (
            evaluating(model),
            evaluated_weights(kwargs.get("optimizer")),
            watch(trainer).own_pass(self),
        ):
            for batch in itertools.islice(self._batches(args), n_batches):
                inputs = {name: moved(value, args.device) for name, value in batch.items()}
                model(**inputs, **extra)
        self._reported.forget()

    def _batches(self, args: Any) -> Iterator[Mapping[str, Any]]:
        trainer = self._trainer
        rows = dataset_of(trainer, self._dataset)
        used = trainer._signature_columns  # noqa: SLF001 - see `Watch`
        columns = frozenset(used) if args.remove_unused_columns else None
        share = range(args.process_index, len(rows), args.world_size)
        return iter(
            DataLoader(
                Columns(rows, columns),
                self._batch_size,
                sampler=share,
                collate_fn=trainer.data_collator,
            )
        )

    def _end_epoch(self, state: Any, *, is_partial: bool = False) -> None:
        self._recorder().end_epoch(
            epochs_begun(state.epoch),
            delta=self._delta(state.global_step),
            partial=True if is_partial else None,
            n_samples=len(self.ids) if is_partial else None,
        )
        self._mark(state.global_step)
        self._tokens.log_texts(self._recorder())
        self._warn_of_unscored()

    def _compare(
        self, state: Any, mean: float, reported: float, n_documents: int, precision: str
    ) -> None:
        source = "the training" if self.sees_training else "the Trainer's evaluation"
        check = LossCheck(self._recorder(), source=source, remedy=_REMEDY)
        step = epochs_begun(state.epoch)
        check.compare(step, mean, reported, n_documents, precision=precision)

    def _warn_of_missing(self) -> None:
        """Name the documents that are not in the dataset that the trainer has prepared."""
        left = set(prepared_ids(dataset_of(self._trainer, self._dataset)))
        missing = [name for name in self.ids.tolist() if name not in left]
        self._warn_of(missing, "the trainer has dropped: no token with a label is left of them")

    def _warn_of_unscored(self) -> None:
        self._warn_of(sorted(self._unscored - self._named), "have no token with a loss")
        self._named |= self._unscored

    def _warn_of(self, names: list[Any], what: str) -> None:
        if not names:
            return
        text = f"{len(names)} of {len(self.ids)} documents {what}"
        warnings.warn(
            f"record {self._recorder().name}: {text}, as where max_length cuts off all that is "
            f"trained on. They are not in it: {first_ids(np.array(names))}.",
            stacklevel=2,
        )
        self._recorder().note("documents", f"{text}.")


def _check_hooks_see_outputs(args: Any) -> None:
    for what, is_so in (("torch_compile", args.torch_compile), ("DataParallel", args.n_gpu > 1)):
        if is_so:
            raise RecordingError(
                f"{what} can't be recorded: hooks on a compiled model do not see its outputs, and "
                "those on copies of a model are not told which batch they see. Train with "
                "torch_compile=False, and with one process per device (torchrun)."
            )


def _tokenizer_of(trainer: Any, tokens: int) -> Any:
    """What makes the texts of the tokens that are asked for."""
    tokenizer = getattr(trainer, "processing_class", None)
    if not tokens or tokenizer is None:
        raise ParameterError(
            "token_texts",
            "must be False without tokens, or without a tokenizer",
            f"tokens={tokens}, processing_class={type(tokenizer).__name__}",
            "Pass tokens=…, and give the trainer its tokenizer as processing_class.",
        )
    return tokenizer


def _is_comparable(trainer: Any) -> bool:
    """Whether the loss of the trainer is the plain cross-entropy of tokens."""
    args = trainer.args
    plain = trainer.compute_loss_func is None and not args.label_smoothing_factor
    other = getattr(trainer, "aux_loss_enabled", False) or getattr(args, "loss_type", "") == "dft"
    # For some models the Trainer divides by tokens that are never predicted, too.
    return plain and not other and getattr(trainer, "_loss_shifts_labels", True)
