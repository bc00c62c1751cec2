"""scikit-learn and whatever follows its manner: incremental, staged and warm-started learners.

::

    with ProbeRecorder(test_inputs, test_labels) as probe:      # 1
        for epoch in range(epochs):
            estimator.partial_fit(inputs, labels, classes)
            probe.after_step(estimator)                         # 2

Losses: of a classifier the cross-entropy of `predict_proba` (probabilities are clipped from below
at 2.2e-16, which is a loss of 36.04), else that of the softmax of `decision_function`; of a
classifier of several yes/no labels (multi-label) the binary cross-entropy, averaged over the
labels; of a regression the squared error of `predict`, whatever the estimator minimises. The
estimator's `classes_` decide which output belongs to a label.
"""

import copy
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.recorder.probe import ArrayProbe, Loss, class_positions
from actiontrack.recorder.recorder import EpochSummary

try:
    from sklearn.base import is_regressor
    from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
    from sklearn.utils import gen_batches
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.sklearn needs scikit-learn: pip install 'actiontrack[train]'"
    ) from error

__all__ = ["ProbeRecorder", "record_partial_fit", "record_stages", "record_warm_start"]

logger = logging.getLogger("actiontrack")

_EPS = float(np.finfo(np.float64).eps)
_FUNCTION = "Pass a function as the loss."


class ProbeRecorder(ArrayProbe):
    """Records an estimator's losses on the same samples after every step of its training.

    Args:
        inputs: (n_samples, n_features), as the estimator takes them.
        labels: (n_samples,) as the estimator was trained on, text too; (n_samples, n_labels) rows
            of 0 and 1 for several labels; targets of a regression.
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
            ParameterError: if a label is no class of the estimator, or the estimator says nothing
                that is a loss of a class.
            RecordingError: if there is no active run and none is named.
        """
        outputs, kind = self._outputs(estimator)
        return self._record_outputs(estimator, outputs, kind, step=step, delta=delta)

    def _record_outputs(
        self, estimator: Any, outputs: Any, kind: Loss, **step: Any
    ) -> EpochSummary | None:
        if kind in {"logits", "probabilities"}:
            names = [str(label) for label in estimator.classes_]
            if self.recorder is None:
                self._options.setdefault("class_names", names)
            one_hot = self._targets.ndim == 2 and self._targets.shape[1] == len(names)
            if not one_hot:
                remedy = "Name all classes in the first partial_fit."
                self._labels = class_positions(self._targets, estimator.classes_, remedy)
        return self.record(outputs, kind, **step)

    def _outputs(self, estimator: Any) -> tuple[Any, Loss]:
        if self._loss is not None:
            return estimator.predict(self._inputs), self._loss
        if is_regressor(estimator):
            return estimator.predict(self._inputs), "squared_error"
        if np.ndim(estimator.predict(self._inputs[:1])) == 2:
            return _multilabel(estimator, self._inputs, self._targets)
        classes = getattr(estimator, "classes_", None)
        if classes is None or len(classes) < 2:
            count = None if classes is None else len(classes)
            rule = "must be a regressor, or a classifier that knows 2 classes or more"
            raise ParameterError("estimator", rule, count, _FUNCTION)
        if hasattr(estimator, "predict_proba"):
            return estimator.predict_proba(self._inputs), "probabilities"
        if not hasattr(estimator, "decision_function"):
            rule = "must have predict_proba or decision_function"
            raise ParameterError("estimator", rule, type(estimator).__name__, _FUNCTION)
        return _decision_values(estimator, self._inputs), "logits"

    def _after_fit(self, estimator: Any, inputs: Any) -> None:
        """Record the estimator, and compare the step with what it says of its training."""
        outputs, kind = self._outputs(estimator)
        summary = self._record_outputs(estimator, outputs, kind)
        self._compare_with_training(estimator, inputs, outputs, kind, summary)

    def _compare_with_training(
        self, estimator: Any, inputs: Any, outputs: Any, kind: Loss, summary: EpochSummary | None
    ) -> None:
        """Compare the step with `train_score_` of gradient boosting, if it is of the probe."""
        scores = getattr(estimator, "train_score_", None)
        loss = getattr(estimator, "loss", None)
        comparable = inputs is self._inputs and getattr(estimator, "subsample", None) == 1.0
        if scores is None or self._loss is not None or not comparable:
            return
        if loss not in {"log_loss", "squared_error"}:
            return
        factor = 2 if loss == "log_loss" and len(estimator.classes_) == 2 else 1  # a deviance
        reported = scores[-1] / factor
        source = "scikit-learn's train_score_"
        self.compare_mean(summary, reported, source, str(kind), outputs, smallest=_EPS)


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
        for outputs, kind in _stages(estimator, probe):
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
        parameter: what grows, such as "n_estimators". With "max_iter" most estimators count the
            iterations of one fit, so that those of several fits add up: ``[5, 5, 5]`` are states
            after 5, 10 and 15 iterations. Values that grow are taken for a mistake and warned of.
            `MLPClassifier` and `MLPRegressor` restart their optimiser in each fit, which changes
            the training: use `record_partial_fit` with them.
        values: its value in each step.

    Returns:
        The estimator.
    """
    previous = None
    with probe:
        for value in values:
            if parameter == "max_iter" and previous is not None and value > previous:
                _warn_of_sum(estimator)
            estimator.set_params(warm_start=True, **{parameter: value})
            probe._after_fit(estimator.fit(inputs, labels), inputs)  # noqa: SLF001 - same module
            previous = value
    return estimator


def _stages(estimator: Any, probe: ProbeRecorder) -> Iterator[tuple[Any, Loss]]:
    inputs, loss = probe._inputs, probe._loss  # noqa: SLF001 - same module
    regression = is_regressor(estimator) or loss is not None
    name = "staged_predict" if regression else "staged_predict_proba"
    if not hasattr(estimator, name):
        raise ParameterError(
            "estimator",
            "must have staged_predict_proba or staged_predict",
            type(estimator).__name__,
            "Use record_warm_start, or call after_step in a loop.",
        )
    kind: Loss = loss or ("squared_error" if regression else "probabilities")
    return ((outputs, kind) for outputs in getattr(estimator, name)(inputs))


def _decision_values(estimator: Any, inputs: Any) -> Any:
    """(n, n_classes) decision values, or (n,) margins of the second of two classes.

    Values of pairs of classes (one against one) are no values of classes, even where there are as
    many: an SVC computes those of classes from them.
    """
    n_classes = len(estimator.classes_)
    by_class = isinstance(estimator, OneVsOneClassifier | OneVsRestClassifier)
    settings = {} if by_class or not hasattr(estimator, "get_params") else estimator.get_params()
    pairwise = [name for name, value in settings.items() if _is_pairwise(name, value)]
    if pairwise and n_classes > 2:
        if pairwise != ["decision_function_shape"]:
            rule = "must be 'ovr' to be recorded"
            raise ParameterError(pairwise[0], rule, settings[pairwise[0]], _FUNCTION)
        estimator = copy.copy(estimator).set_params(decision_function_shape="ovr")
    values = np.asarray(estimator.decision_function(inputs))
    if values.shape[1:] not in ({(n_classes,)} if n_classes > 2 else {(), (1,), (2,)}):
        rule = f"must have a decision value for each of {n_classes} classes"
        raise ParameterError("estimator", rule, values.shape, _FUNCTION)
    return values


def _is_pairwise(name: str, value: Any) -> bool:
    return name.rsplit("__", maxsplit=1)[-1] == "decision_function_shape" and value == "ovo"


def _multilabel(
    estimator: Any, inputs: Any, labels: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], Loss]:
    """(n, n_labels) outputs of a classifier of several yes/no labels."""
    if hasattr(estimator, "predict_proba"):
        outputs, kind = estimator.predict_proba(inputs), "multilabel_probabilities"
    elif hasattr(estimator, "decision_function"):
        outputs, kind = estimator.decision_function(inputs), "multilabel_logits"
    else:
        rule = "must have predict_proba or decision_function"
        raise ParameterError("estimator", rule, type(estimator).__name__, _FUNCTION)
    n_labels = outputs[0].shape[-1] if not isinstance(outputs, list) else len(outputs)
    binary = ((labels == 0) | (labels == 1)).all() if labels.dtype.kind in "iufb" else False
    if labels.shape[1:] != (n_labels,) or not binary:
        rule = "must predict one label per sample, or as many labels of 0 and 1 as are given"
        raise ParameterError("estimator", rule, f"{n_labels} outputs", _FUNCTION)
    if isinstance(outputs, list):
        pairs = zip(outputs, estimator.classes_, strict=True)
        outputs = np.stack([p[:, np.asarray(classes) == 1].sum(axis=1) for p, classes in pairs], 1)
    return np.asarray(outputs), kind


def _warn_of_sum(estimator: Any) -> None:
    """HistGradientBoosting alone counts the iterations of all fits in `max_iter`."""
    if not hasattr(estimator, "max_leaf_nodes"):
        logger.warning(
            "values: %s makes max_iter further iterations in each fit, so growing values add up. "
            "Pass the iterations of each step, such as [5, 5, 5].",
            type(estimator).__name__,
        )
