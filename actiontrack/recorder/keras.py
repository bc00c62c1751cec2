"""Keras 3, with any backend: per-sample losses of a fixed set after every epoch.

::

    track = ActionTrackCallback(test_inputs, test_labels)       # 1
    model.fit(inputs, labels, callbacks=[track])                # 2
"""

import time
from collections.abc import Mapping
from typing import Any

from actiontrack.errors import MissingDependencyError
from actiontrack.recorder.probe import ArrayProbe, Loss, default_name

try:
    import keras
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.keras needs Keras 3 and a backend, see KERAS_BACKEND: "
        "pip install 'actiontrack[keras]'"
    ) from error

__all__ = ["ActionTrackCallback"]


class ActionTrackCallback(ArrayProbe, keras.callbacks.Callback):  # type: ignore[misc]
    """Evaluates the model on the same samples after each epoch, in inference mode.

    Epoch e of Keras, counted from 0, is step e + 1. Keras has no hook for errors: to have an
    aborted record closed, train inside ``with track:``.

    Args:
        inputs: of `Model.predict`: an array, or a list or dict of arrays.
        labels: (n_samples,) or (n_samples, 1) class indices, (n_samples, n_classes) one-hot rows,
            or targets.
        ids: (n_samples,) stable ids. Default: 0 to n_samples - 1.
        split: name of the recorded split.
        from_logits: whether the model returns logits. Default: softmax or sigmoid probabilities,
            clipped from below at 2.2e-16, which is a loss of 36.04.
        loss: for a regression "squared_error" or "absolute_error", or a function of (labels,
            outputs) that returns (n_samples,) losses. Default: cross-entropy.
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
        from_logits: bool = False,
        loss: Loss | None = None,
        batch_size: int = 256,
        **options: Any,
    ) -> None:
        ArrayProbe.__init__(self, labels, ids=ids, split=split, **options)
        keras.callbacks.Callback.__init__(self)
        self._inputs, self._batch_size = inputs, batch_size
        self._kind: Loss = loss or ("logits" if from_logits else "probabilities")
        self._seen = self._clock = 0.0

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Open the record.

        Raises:
            RecordingError: if there is no active run and none is named.
        """
        self.begin(**default_name(self._kind))
        self._seen, self._clock = self._updates(), time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Evaluate and record the epoch."""
        outputs = self.model.predict(self._inputs, batch_size=self._batch_size, verbose=0)
        self.record(outputs, self._kind, step=epoch + 1, delta=self._delta())

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Finish the record."""
        self.finish()

    def _delta(self) -> float:
        kind = self._options.get("delta_kind", "epoch")
        before = {"batch": self._seen, "wall_time": self._clock}
        self._seen, self._clock = self._updates(), time.monotonic()
        now = {"batch": self._seen, "wall_time": self._clock}
        return now[kind] - before[kind] if kind in now else 1.0

    def _updates(self) -> float:
        return float(self.model.optimizer.iterations)
