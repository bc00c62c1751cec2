"""XGBoost: per-sample losses of a fixed set after every boosting round.

::

    track = ActionTrackCallback(test_matrix)                    # 1
    xgboost.train(params, train_matrix, rounds, callbacks=[track])  # 2
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.recorder.probe import (
    ArrayProbe,
    Loss,
    call_in_progress,
    check_labels,
    default_options,
    not_tracked,
    same_labels,
)
from actiontrack.recorder.recorder import EpochSummary

try:
    import xgboost
    from xgboost.callback import TrainingCallback
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.xgboost needs XGBoost: pip install 'actiontrack[xgboost]'"
    ) from error

__all__ = ["ActionTrackCallback"]

_KINDS: dict[str, Loss] = {
    "binary:logistic": "logits",
    "binary:logitraw": "logits",
    "multi:softprob": "logits",
    "multi:softmax": "logits",
    "reg:squarederror": "squared_error",
    "reg:absoluteerror": "absolute_error",
}
_METRICS = {"logloss": 1, "mlogloss": 1, "rmse": 2, "mae": 1}  # and the power that is the mean loss
_SMALLEST = 1e-16  # probability that XGBoost's log losses take the logarithm of


class ActionTrackCallback(ArrayProbe, TrainingCallback):
    """Records raw margins as losses; the model of r rounds is step r.

    The probe is no evaluation set and does not influence the training. Cross-entropy is computed
    from the margins, so that no loss is clipped. Works with `xgboost.train` and with the
    scikit-learn classes (``XGBClassifier(callbacks=[…])``, labels encoded as 0, 1, …). XGBoost
    has no hook for errors: to have an aborted record closed, train inside ``with track:``.

    The objective decides what the margins mean. Several targets of a logistic objective are yes/no
    labels of their own: their loss is the binary cross-entropy, averaged over the targets.

    A training with base margins needs those of the probe. They come from `base_margin`, from the
    DMatrix, or from the evaluation set that holds the samples of the probe; else the training is
    refused before its first round. If the probe is among the evaluation sets and XGBoost reports
    its mean loss, every step is compared with that, see `actiontrack.recorder.loss_check`.

    Args:
        inputs: a DMatrix, whose labels are used, or (n_samples, n_features).
        labels: (n_samples,) class indices or targets, (n_samples, n_targets) for several. Default:
            those of the DMatrix.
        base_margin: (n_samples,) or (n_samples, n_classes), where the margins of the probe start.
            With a DMatrix, set it there.
        ids: (n_samples,) stable ids. Default: 0 to n_samples - 1.
        split: name of the recorded split.
        loss: function of (labels, margins) that returns (n_samples,) losses, needed for
            objectives other than logistic, softmax, squared and absolute error.
        options: further arguments of `actiontrack.Recorder`.

    Raises:
        ParameterError: if there are no labels, or a DMatrix comes with `labels` or `base_margin`.
    """

    def __init__(
        self,
        inputs: Any,
        labels: Any = None,
        *,
        base_margin: Any = None,
        ids: Any = None,
        split: str = "test",
        loss: Loss | None = None,
        **options: Any,
    ) -> None:
        self._inputs, self._base_margin = inputs, base_margin
        if not isinstance(inputs, xgboost.DMatrix):
            if labels is None:
                raise ParameterError("labels", "must be given with an array", None, "Pass labels.")
            self._matrix = None
        else:
            _check_with_matrix(inputs, labels, base_margin)
            self._matrix, labels = inputs, inputs.get_label()
        super().__init__(labels, ids=ids, split=split, **options)
        self._loss, self._kind = loss, loss
        self._evaluation: tuple[str, xgboost.DMatrix] | None = None
        self._reports_loss = False

    def before_training(self, model: Any) -> Any:
        """Refuse cross-validation.

        Raises:
            RecordingError: under cross-validation.
        """
        if not isinstance(model, xgboost.Booster):
            raise not_tracked("xgboost.cv", "Train the folds one by one, each in its own run.")
        return model

    def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Open the record before the first round. Never stops the training.

        Raises:
            ParameterError: if the objective needs a `loss`, the labels do not fit it, or the
                training has base margins and the probe none.
            RecordingError: if there is no active run.
        """
        del evals_log
        if epoch == 0:
            call = call_in_progress(xgboost.train) or {}
            self._kind = self._loss or _kind(model, call.get("obj"))
            check_labels(self._kind, self._labels, _n_outputs(model))
            # The metrics of logitraw are of margins, as if they were probabilities.
            raw = _settings(model)["objective"]["name"] == "binary:logitraw"
            self._reports_loss = isinstance(self._kind, str) and not raw
            self._prepare(call.get("dtrain"), call.get("evals") or ())
            self.begin(**default_options(self._kind))
        return False

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Record the round. Never stops the training."""
        del epoch  # the number of trees counts earlier trainings, the epoch does not
        assert self._kind is not None  # noqa: S101 - set before the first round
        margins = model.predict(self._matrix, output_margin=True)
        summary = self.record(margins, self._kind, step=model.num_boosted_rounds(), delta=1.0)
        if self._evaluation is not None and self._reports_loss:
            self._compare(summary, margins, evals_log)
        return False

    def after_training(self, model: Any) -> Any:
        """Finish the record, after early stopping too."""
        self.finish()
        return model

    def _prepare(
        self, train: xgboost.DMatrix | None, evaluations: Sequence[tuple[xgboost.DMatrix, str]]
    ) -> None:
        """Make the probe's matrix, with the base margins that the training asks for."""
        made_here = not isinstance(self._inputs, xgboost.DMatrix)
        if made_here:
            self._matrix = _matrix(self._inputs, self._labels, self._base_margin, train)
        assert self._matrix is not None  # noqa: S101
        self._evaluation = next(
            ((name, data) for data, name in evaluations if self._is_probe(data, train)), None
        )
        if _has_margin(self._matrix):
            return
        if made_here and self._evaluation is not None and _has_margin(self._evaluation[1]):
            self._matrix.set_base_margin(self._evaluation[1].get_base_margin())
        elif train is not None and _has_margin(train):
            raise _no_margin()

    def _is_probe(self, data: xgboost.DMatrix, train: xgboost.DMatrix | None) -> bool:
        """Whether an evaluation set holds the samples of the probe, in their order."""
        probe = self._matrix
        assert probe is not None  # noqa: S101
        if data is probe:
            return True
        if not np.array_equal(data.get_label(), probe.get_label()):
            return False
        if data.num_col() != probe.num_col():
            return False
        try:
            if isinstance(data, xgboost.QuantileDMatrix) and type(probe) is xgboost.DMatrix:
                reading = _reading(self._inputs, train)
                probe = xgboost.QuantileDMatrix(self._inputs, ref=train, **reading)
            mine, other = probe.get_data(), data.get_data()
        except (xgboost.core.XGBoostError, TypeError, ValueError):  # data outside the memory
            return same_labels(probe.get_label(), data.get_label())
        return all(
            np.array_equal(getattr(mine, part), getattr(other, part), equal_nan=part == "data")
            for part in ("indptr", "indices", "data")
        )

    def _compare(
        self,
        summary: EpochSummary | None,
        margins: npt.NDArray[Any],
        evals_log: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Compare the step with the metric that XGBoost reports for the same samples."""
        assert self._evaluation is not None  # noqa: S101
        assert isinstance(self._kind, str)  # noqa: S101
        name, data = self._evaluation
        weights = data.get_weight()
        for metric, power in _METRICS.items():
            values = evals_log.get(name, {}).get(metric)
            if values and _measures(metric, self._kind):
                reported = float(values[-1]) ** power
                self.compare_mean(
                    summary,
                    reported,
                    f"XGBoost's {metric} of {name!r}",
                    self._kind,
                    margins,
                    smallest=_SMALLEST,
                    weights=weights if weights.size else None,
                )


def _measures(metric: str, kind: str) -> bool:
    """Whether a metric of XGBoost is the mean, or its root, of the losses of a kind."""
    errors = {"squared_error": "rmse", "absolute_error": "mae"}
    return metric == errors[kind] if kind in errors else metric.endswith("logloss")


def _matrix(
    inputs: Any, labels: Any, base_margin: Any, train: xgboost.DMatrix | None
) -> xgboost.DMatrix:
    """A matrix of the probe that is read as that of the training: missing values, categories."""
    return xgboost.DMatrix(inputs, label=labels, base_margin=base_margin, **_reading(inputs, train))


def _reading(inputs: Any, train: xgboost.DMatrix | None) -> dict[str, Any]:
    settings: dict[str, Any] = {"enable_categorical": True}
    if train is not None:
        settings["missing"] = getattr(train, "missing", None)
        if not hasattr(inputs, "columns"):
            settings["feature_names"] = train.feature_names
            settings["feature_types"] = train.feature_types
    return settings


def _check_with_matrix(matrix: xgboost.DMatrix, labels: Any, base_margin: Any) -> None:
    """Refuse labels and base margins beside those that a DMatrix has itself."""
    differs = labels is not None and not np.array_equal(np.asarray(labels), matrix.get_label())
    for name, refused in {"labels": differs, "base_margin": base_margin is not None}.items():
        if refused:
            value = type(labels if name == "labels" else base_margin).__name__
            rule = "must not be given beside those of a DMatrix"
            raise ParameterError(name, rule, value, "Set them on the DMatrix.")


def _no_margin() -> ParameterError:
    return ParameterError(
        "base_margin",
        "must be given, as the training starts from base margins",
        None,
        "Pass base_margin= with an array, or set it on the DMatrix; zeros if the samples of "
        "the probe have none.",
    )


def _has_margin(matrix: xgboost.DMatrix) -> bool:
    return bool(matrix.get_base_margin().size)


def _n_outputs(model: xgboost.Booster) -> int:
    """Number of classes, or of targets where there are several."""
    sizes = _settings(model)["learner_model_param"]
    return int(sizes["num_class"]) or max(int(sizes.get("num_target", 1)), 2)


def _kind(model: xgboost.Booster, custom: Any) -> Loss:
    settings = _settings(model)
    objective = settings["objective"]["name"] if custom is None else "a function"
    if objective not in _KINDS:
        raise ParameterError(
            "loss",
            "must be given for this objective",
            objective,
            "Pass a function of (labels, margins) that returns a loss per sample.",
        )
    several = int(settings["learner_model_param"].get("num_target", 1)) > 1
    several_labels = several and _KINDS[objective] == "logits"
    return "multilabel_logits" if several_labels else _KINDS[objective]


def _settings(model: xgboost.Booster) -> dict[str, Any]:
    return dict(json.loads(model.save_config())["learner"])
