"""Keras 3, with any backend: per-sample losses of a fixed set after every epoch.

::

    track = ActionTrackCallback(test_inputs, test_labels)       # 1
    model.fit(inputs, labels, callbacks=[track])                # 2
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.recorder.probe import (
    ArrayProbe,
    Loss,
    call_in_progress,
    check_labels,
    class_indices,
    default_options,
    losses_of,
    nearest_mean,
)
from actiontrack.recorder.recorder import EpochSummary

try:
    import keras

    from actiontrack.recorder.keras_loss import (
        ONE_HOT,
        SMALLEST,
        PerSample,
        compiled_loss,
        kind_of_outputs,
    )
    from actiontrack.recorder.keras_pass import averaged_weights, averages, untouched
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.keras needs Keras 3 and a backend, see KERAS_BACKEND: "
        "pip install 'actiontrack[keras]'"
    ) from error

__all__ = ["ActionTrackCallback"]

_FEW = 32  # samples of the pass before training that shows what the outputs look like


class ActionTrackCallback(ArrayProbe, keras.callbacks.Callback):  # type: ignore[misc]
    """Evaluates the model on the same samples after each epoch, in inference mode.

    Epoch e of Keras, counted from 0, is step e + 1. Keras has no hook for errors: to have an
    aborted record closed, train inside ``with track:``. The evaluation leaves weights, states of
    layers and random generators as they were: the training is the same with and without it.

    The compiled loss decides what the outputs mean: softmax or sigmoid, logits or probabilities,
    labels that exclude each other or not. Cross-entropy and the errors of a regression are
    recorded plain; label smoothing is not in the loss, but in the component ``training_loss``. Any
    other loss is recorded as Keras computes it, without its reduction.

    An optimizer with `use_ema` averages the weights, and `fit` leaves the averages in the model.
    These are what is scored, and the remark ``weights`` of the record says so; `val_loss` is of
    the raw weights unless `keras.callbacks.SwapEMAWeights` is used.

    Where the validation data are the samples of the probe, every step is compared with `val_loss`,
    see `actiontrack.recorder.loss_check`.

    Args:
        inputs: of `Model.predict`: an array, or a list or dict of arrays.
        labels: (n_samples,) or (n_samples, 1) class indices, (n_samples, n_classes) one-hot rows,
            (n_samples, n_labels) rows of 0 and 1, or targets.
        ids: (n_samples,) stable ids. Default: 0 to n_samples - 1.
        split: name of the recorded split.
        from_logits: whether the model returns logits or softmax or sigmoid probabilities, which
            are clipped from below at 2.2e-16, a loss of 36.04. Default: as the compiled loss says.
        loss: see `actiontrack.recorder.probe.losses_of`, such as "squared_error", or a function of
            (labels, outputs) that returns (n_samples,) losses. Default: the compiled loss.
        batch_size: samples per step of the evaluation.
        options: further arguments of `actiontrack.Recorder`. Δn of ``delta_kind="batch"`` is the
            number of optimiser updates in the epoch.
    """

    def __init__(
        self,
        inputs: Any,
        labels: Any,
        *,
        ids: Any = None,
        split: str = "test",
        from_logits: bool | None = None,
        loss: Loss | None = None,
        batch_size: int = 256,
        **options: Any,
    ) -> None:
        ArrayProbe.__init__(self, labels, ids=ids, split=split, **options)
        keras.callbacks.Callback.__init__(self)
        self._inputs, self._batch_size = inputs, batch_size
        self._loss, self._from_logits = loss, from_logits
        self._kind: Loss = "probabilities"
        self._training_loss: PerSample | None = None
        self._swap: Any = None
        self._is_validated = False
        self._n_outputs = 1

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Open the record.

        Raises:
            ParameterError: if nothing says what the outputs mean, the labels do not fit them, or
                the model has several outputs.
            RecordingError: if there is no active run and none is named.
        """
        self._settle_loss()
        call = call_in_progress(keras.Model.fit) or {}
        callbacks = getattr(call.get("callbacks"), "callbacks", ())
        swap = keras.callbacks.SwapEMAWeights
        self._swap = next((other for other in callbacks if isinstance(other, swap)), None)
        self._is_validated = self._validates(call)
        recorder = self.begin(**self._options_of_loss())
        if averages(self.model):
            recorder.note("weights", "averaged")
        self._mark(self._updates())

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Evaluate and record the epoch."""
        outputs = self._evaluate(self._inputs, averaged=bool(averages(self.model)))
        self._n_outputs = outputs.shape[-1] if outputs.ndim > 1 else 1
        components = None
        if self._training_loss is not None and self._training_loss.smoothing:
            training = self._training_loss(self._labels_as_trained(), outputs)
            components = {"training_loss": training}
        delta = self._delta(self._updates())
        self._mark(self._updates())
        summary = self.record(
            outputs, self._kind, step=epoch + 1, delta=delta, components=components
        )
        reported = (logs or {}).get("val_loss")
        if self._is_validated and reported is not None:
            self._compare(summary, outputs, components, float(reported))

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Finish the record."""
        self.finish()

    def _settle_loss(self) -> None:
        """Find out what the outputs mean, from those of a few samples."""
        few = self._evaluate(_first(self._inputs))
        labels = self._labels[: len(few)]
        self._training_loss = compiled_loss(self.model) if self._loss is None else None
        self._kind = self._loss or kind_of_outputs(
            self._training_loss, self.model, self._labels, few, from_logits=self._from_logits
        )
        if isinstance(self._kind, str):
            single = few.ndim == 1 or few.shape[-1] == 1
            check_labels(self._kind, self._labels, 2 if single else few.shape[-1])
        if str(self._kind).endswith("probabilities") and (few.min() < 0 or few.max() > 1.001):
            rule = "must be probabilities between 0 and 1, as the loss takes them"
            remedy = "Compile the loss with from_logits=True, or end with a softmax or sigmoid."
            raise ParameterError("outputs", rule, f"{few.min():.3g} to {few.max():.3g}", remedy)
        if isinstance(self._kind, str | PerSample):
            losses_of(self._kind, few, labels)

    def _options_of_loss(self) -> dict[str, Any]:
        if isinstance(self._kind, PerSample):
            return {"loss_name": self._kind.name, "allow_uniform": True}
        return default_options(self._kind)

    def _evaluate(self, inputs: Any, *, averaged: bool = False) -> npt.NDArray[Any]:
        """The outputs, (n, …), at least float32; of the averaged weights where asked for."""
        swapped = getattr(self._swap, "_ema_weights_in_model", False)
        with untouched(self.model), ExitStack() as stack:
            if averaged and not swapped:
                stack.enter_context(averaged_weights(self.model))
            outputs = self.model.predict(inputs, batch_size=self._batch_size, verbose=0)
        parts = keras.tree.flatten(outputs)
        if len(parts) != 1:
            rule = "must have one output"
            remedy = "Record the losses of each output with Recorder.update in a callback."
            raise ParameterError("model", rule, f"{len(parts)} outputs", remedy)
        values = np.asarray(parts[0])
        return values if values.dtype == np.float64 else values.astype(np.float32)

    def _labels_as_trained(self) -> npt.NDArray[Any]:
        """Labels as the compiled cross-entropy takes them: indices, or a column per class."""
        if self._training_loss is None or self._training_loss.name not in ONE_HOT:
            return self._labels
        indices = class_indices(self._labels)
        n_classes = self._n_outputs
        return np.eye(n_classes, dtype=np.float32)[indices] if n_classes > 1 else indices

    def _validates(self, call: Mapping[str, Any]) -> bool:
        """Whether Keras reports the mean loss of the probe as `val_loss`."""
        compiled = self._training_loss
        if compiled is None or not compiled.is_mean or call.get("val_x") is None:
            return False
        if self._kind is not compiled and not compiled.decides_kind:
            return False  # the user has named another loss
        weighted = call.get("val_sample_weight") is not None or _loss_weights(self.model)
        raw = averages(self.model) and self._swap is None
        if weighted or raw or call.get("validation_steps") is not None:
            return False
        return _equal(call["val_x"], self._inputs) and _equal(call.get("val_y"), self._labels)

    def _compare(
        self,
        summary: EpochSummary | None,
        outputs: npt.NDArray[Any],
        components: Mapping[str, npt.NDArray[Any]] | None,
        reported: float,
    ) -> None:
        """Compare the step with `val_loss`, less the regularisation of the weights."""
        penalties = [
            variable.regularizer(variable)
            for variable in self.model.trainable_weights
            if getattr(variable, "regularizer", None) is not None
        ]
        if len(self.model.losses) > len(penalties):
            return  # the model adds losses of its own
        reported -= sum(float(keras.ops.convert_to_numpy(penalty)) for penalty in penalties)
        if components is not None:
            recorded = float(components["training_loss"].mean())
        elif isinstance(self._kind, PerSample):
            recorded = float(self._kind(self._labels, outputs).mean())
        else:
            kind = str(self._kind)
            smallest = SMALLEST if kind.endswith("probabilities") else 0.0
            recorded = nearest_mean(reported, kind, outputs, self._labels, smallest=smallest)
        dtype = getattr(self.model, "compute_dtype", "float32")
        self.compare(summary, recorded, reported, "Keras's val_loss", precision=dtype)

    def _updates(self) -> float:
        return float(self.model.optimizer.iterations)


def _first(inputs: Any) -> Any:
    """The first few samples of arrays, or all of what can't be cut."""
    if not all(hasattr(part, "shape") for part in keras.tree.flatten(inputs)):
        return inputs
    return keras.tree.map_structure(lambda part: part[:_FEW], inputs)


def _equal(values: Any, others: Any) -> bool:
    """Whether two structures of arrays hold the same numbers; (n,) and (n, 1) are alike."""
    pairs = keras.tree.flatten(values), keras.tree.flatten(others)
    if len(pairs[0]) != len(pairs[1]) or not all(hasattr(part, "shape") for part in pairs[0]):
        return False
    arrays = ((np.squeeze(_array(a)), np.squeeze(_array(b))) for a, b in zip(*pairs, strict=True))
    return all(np.array_equal(a, b) for a, b in arrays)


def _array(values: Any) -> npt.NDArray[Any]:
    return np.asarray(keras.ops.convert_to_numpy(values))


def _loss_weights(model: Any) -> bool:
    return getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None) is not None
