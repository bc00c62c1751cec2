"""XGBoost: per-sample losses of a fixed set after every boosting round.

::

    track = ActionTrackCallback(test_matrix)                    # 1
    xgboost.train(params, train_matrix, rounds, callbacks=[track])  # 2
"""

import json
from typing import Any

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.recorder.probe import ArrayProbe, Loss, default_name, not_tracked

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


class ActionTrackCallback(ArrayProbe, TrainingCallback):
    """Records raw margins as losses; the model of r rounds is step r.

    The probe is no evaluation set and does not influence the training. Cross-entropy is computed
    from the margins, so that no loss is clipped. Works with `xgboost.train` and with the
    scikit-learn classes (``XGBClassifier(callbacks=[…])``, labels encoded as 0, 1, …). XGBoost
    has no hook for errors: to have an aborted record closed, train inside ``with track:``.

    Args:
        inputs: a DMatrix, whose labels are used, or (n_samples, n_features).
        labels: (n_samples,) class indices or targets. Default: those of the DMatrix.
        ids: (n_samples,) stable ids. Default: 0 to n_samples - 1.
        split: name of the recorded split.
        loss: function of (labels, margins) that returns (n_samples,) losses, needed for
            objectives other than logistic, softmax, squared and absolute error.
        options: further arguments of `actiontrack.Recorder`.
    """

    def __init__(
        self,
        inputs: Any,
        labels: Any = None,
        *,
        ids: Any = None,
        split: str = "test",
        loss: Loss | None = None,
        **options: Any,
    ) -> None:
        self._matrix = _matrix(inputs, labels)
        super().__init__(self._matrix.get_label(), ids=ids, split=split, **options)
        self._loss, self._kind = loss, loss

    def before_training(self, model: Any) -> Any:
        """Open the record.

        Raises:
            ParameterError: if the objective needs a `loss`.
            RecordingError: under cross-validation, or if there is no active run.
        """
        if not isinstance(model, xgboost.Booster):
            raise not_tracked("xgboost.cv", "Train the folds one by one, each in its own run.")
        self._kind = self._loss or _kind(model)
        self.begin(**default_name(self._kind))
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Record the round. Never stops the training."""
        assert self._kind is not None  # noqa: S101 - set when training began
        del epoch, evals_log  # the number of trees counts earlier trainings, the epoch does not
        margins = model.predict(self._matrix, output_margin=True)
        self.record(margins, self._kind, step=model.num_boosted_rounds(), delta=1.0)
        return False

    def after_training(self, model: Any) -> Any:
        """Finish the record, after early stopping too."""
        self.finish()
        return model


def _matrix(inputs: Any, labels: Any) -> xgboost.DMatrix:
    if isinstance(inputs, xgboost.DMatrix):
        return inputs
    if labels is None:
        raise ParameterError("labels", "must be given with an array", None, "Pass labels.")
    return xgboost.DMatrix(inputs, label=labels)


def _kind(model: xgboost.Booster) -> Loss:
    objective = json.loads(model.save_config())["learner"]["objective"]["name"]
    if objective not in _KINDS:
        raise ParameterError(
            "loss",
            "must be given for this objective",
            objective,
            "Pass a function of (labels, margins) that returns a loss per sample.",
        )
    return _KINDS[objective]
