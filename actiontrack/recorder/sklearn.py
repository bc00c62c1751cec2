"""scikit-learn and whatever follows its manner: incremental, staged and warm-started learners.

::

    with ProbeRecorder(test_inputs, test_labels) as probe:      # 1
        for epoch in range(epochs):
            estimator.partial_fit(inputs, labels, classes)
            probe.after_step(estimator)                         # 2

Losses: of a classifier the cross-entropy of `predict_proba` (probabilities are clipped from below
at 2.2e-16, which is a loss of 36.04), else that of the softmax of `decision_function`; of a
regression the squared error of `predict`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.recorder.probe import ArrayProbe, Loss
from actiontrack.recorder.recorder import EpochSummary

try:
    from sklearn.base import is_regressor
    from sklearn.utils import gen_batches
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.sklearn needs scikit-learn: pip install 'actiontrack[train]'"
    ) from error

__all__ = ["ProbeRecorder", "record_partial_fit", "record_stages", "record_warm_start"]


class ProbeRecorder(ArrayProbe):
    """Records an estimator's losses on the same samples after every step of its training.

    Args:
        inputs: (n_samples, n_features), as the estimator takes them.
        labels: (n_samples,) as the estimator was trained on, text too; targets of a regression.
        ids: (n_samples,) stable ids. Default: 0 to n_samples - 1.
        split: name of the recorded split.
        loss: function of (labels, predictions of `predict`) that returns (n_samples,) losses.
            Default: see the module.
        options: further arguments of `actiontrack.Recorder`. Default of ``class_names``: the
            estimator's classes.
    """

    def __init__(
        self,
        inputs: Any,
        labels: Any,
        *,
        ids: Any = None,
        split: str = "test",
        loss: Loss | None = None,
        **options: Any,
    ) -> None:
        super().__init__(labels, ids=ids, split=split, **options)
        self._inputs, self._loss, self._targets = inputs, loss, self._labels

    def after_step(
        self, estimator: Any, *, step: int | None = None, delta: float | None = None
    ) -> EpochSummary | None:
        """Record the estimator as it is now.

        Args:
            estimator: fitted at least once.
            step: its number n. Default: one more than the last.
            delta: Δn. Default: 1.

        Raises:
            ParameterError: if a label is no class of the estimator.
            RecordingError: if there is no active run and none is named.
        """
        outputs, kind = self._outputs(estimator)
        return self._record_outputs(estimator, outputs, kind, step=step, delta=delta)

    def _record_outputs(
        self, estimator: Any, outputs: Any, kind: Loss, **step: Any
    ) -> EpochSummary | None:
        if self.recorder is None and hasattr(estimator, "classes_"):
            self._options.setdefault("class_names", [str(each) for each in estimator.classes_])
        if kind in {"logits", "probabilities"}:
            self._labels = _positions(self._targets, estimator.classes_)
        return self.record(outputs, kind, **step)

    def _outputs(self, estimator: Any) -> tuple[Any, Loss]:
        if self._loss is not None:
            return estimator.predict(self._inputs), self._loss
        if is_regressor(estimator):
            return estimator.predict(self._inputs), "squared_error"
        if hasattr(estimator, "predict_proba"):
            return _one_output(estimator.predict_proba(self._inputs)), "probabilities"
        return estimator.decision_function(self._inputs), "logits"


def record_partial_fit(
    estimator: Any,
    inputs: Any,
    labels: Any,
    probe: ProbeRecorder,
    *,
    epochs: int,
    batch_size: int = 256,
    seed: int = 0,
) -> Any:
    """Train by `partial_fit` on shuffled batches and record the probe after each epoch.

    Args:
        estimator: a classifier or regressor with `partial_fit`.
        inputs: (n_train, n_features).
        labels: (n_train,).
        probe: what to record; finished at the end, closed on an error.
        epochs: passes over the data.
        batch_size: samples per call of `partial_fit`.
        seed: of the shuffling.

    Returns:
        The estimator.
    """
    rng = np.random.default_rng(seed)
    more = {} if is_regressor(estimator) else {"classes": np.unique(labels)}
    with probe:
        for _ in range(epochs):
            order = rng.permutation(len(labels))
            for batch in gen_batches(len(labels), batch_size):
                rows = order[batch]
                estimator.partial_fit(inputs[rows], np.asarray(labels)[rows], **more)
            probe.after_step(estimator)
    return estimator


def record_stages(estimator: Any, probe: ProbeRecorder) -> Any:
    """Record a fitted ensemble after the fact, one step per boosting stage.

    Args:
        estimator: fitted, with `staged_predict_proba` (gradient boosting, AdaBoost) or, for a
            regression, `staged_predict`.
        probe: what to record; finished at the end.

    Returns:
        The estimator.

    Raises:
        ParameterError: if the estimator has no stages.
    """
    with probe:
        for outputs, kind in _stages(estimator, probe._inputs):  # noqa: SLF001 - same module
            probe._record_outputs(estimator, outputs, kind)  # noqa: SLF001
    return estimator


def record_warm_start(
    estimator: Any,
    inputs: Any,
    labels: Any,
    probe: ProbeRecorder,
    *,
    parameter: str,
    values: Iterable[Any],
) -> Any:
    """Fit again and again with `warm_start=True` and record the probe after each fit.

    Args:
        estimator: one with the parameter `warm_start`.
        inputs: (n_train, n_features).
        labels: (n_train,).
        probe: what to record; finished at the end, closed on an error.
        parameter: what grows, such as "n_estimators" or "max_iter".
        values: its value in each step.

    Returns:
        The estimator.
    """
    with probe:
        for value in values:
            estimator.set_params(warm_start=True, **{parameter: value})
            probe.after_step(estimator.fit(inputs, labels))
    return estimator


def _stages(estimator: Any, inputs: Any) -> Iterator[tuple[Any, Loss]]:
    for name, kind in (
        ("staged_predict_proba", "probabilities"),
        ("staged_predict", "squared_error"),
    ):
        if hasattr(estimator, name):
            return ((outputs, kind) for outputs in getattr(estimator, name)(inputs))
    raise ParameterError(
        "estimator",
        "must have staged_predict_proba or staged_predict",
        type(estimator).__name__,
        "Use record_warm_start, or call after_step in a loop.",
    )


def _positions(labels: npt.NDArray[Any], classes: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    found = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    unknown = np.unique(labels[classes[found] != labels])
    if unknown.size:
        raise ParameterError(
            "labels",
            "must be classes of the estimator",
            unknown[:3].tolist(),
            "Name all classes in the first partial_fit.",
        )
    return found


def _one_output(probabilities: Any) -> Any:
    if isinstance(probabilities, list):
        raise ParameterError(
            "estimator",
            "must predict one label per sample",
            f"{len(probabilities)} outputs",
            "Pass a function as the loss.",
        )
    return probabilities
