"""LightGBM: per-sample losses of a fixed set after every boosting round.

::

    with ActionTrackCallback(test_inputs, test_labels) as track:           # 1
        lightgbm.train(params, train_set, rounds, callbacks=[track])       # 2
"""

from typing import Any

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.recorder.probe import ArrayProbe, Loss, default_name, not_tracked

try:
    import lightgbm
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.lightgbm needs LightGBM: pip install 'actiontrack[lightgbm]'"
    ) from error

__all__ = ["ActionTrackCallback"]

_KINDS: dict[str, Loss] = {
    "binary sigmoid:1": "logits",
    "multiclass": "logits",
    "regression": "squared_error",
    "regression_l1": "absolute_error",
}


class ActionTrackCallback(ArrayProbe):
    """Records raw scores as losses; the model of r rounds is step r.

    The probe is no validation set and does not influence the training. Cross-entropy is computed
    from the raw scores, so that no loss is clipped. Works with `lightgbm.train` and with the
    scikit-learn classes (``fit(callbacks=[…])``, labels encoded as 0, 1, …). The record is
    finished with the last round; LightGBM has no hook for early stopping or errors: with either,
    train inside ``with track:``.

    Args:
        inputs: (n_samples, n_features) as `Booster.predict` takes them.
        labels: (n_samples,) class indices or targets.
        ids: (n_samples,) stable ids. Default: 0 to n_samples - 1.
        split: name of the recorded split.
        loss: function of (labels, raw scores) that returns (n_samples,) losses, needed for
            objectives other than binary, multiclass, regression (L2) and regression_l1.
        options: further arguments of `actiontrack.Recorder`.
    """

    order = 25  # before early stopping (30), which ends the round with an exception
    before_iteration = False

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
        self._inputs, self._loss, self._kind = inputs, loss, loss

    def __call__(self, env: Any) -> None:
        """Record one round; LightGBM calls it.

        Raises:
            ParameterError: if the objective needs a `loss`.
            RecordingError: under cross-validation, or if there is no active run.
        """
        if env.iteration == env.begin_iteration:
            self._begin(env.model)
        assert self._kind is not None  # noqa: S101 - set in the first round
        scores = env.model.predict(self._inputs, raw_score=True, num_iteration=-1)
        self.record(scores, self._kind, step=env.iteration + 1, delta=1.0)
        if env.iteration + 1 == env.end_iteration:
            self.finish()

    def _begin(self, model: Any) -> None:
        if not isinstance(model, lightgbm.Booster):
            raise not_tracked("lightgbm.cv", "Train the folds one by one, each in its own run.")
        self._kind = self._loss or _kind(model)
        self.begin(**default_name(self._kind))


def _kind(model: lightgbm.Booster) -> Loss:
    objective = str(model.dump_model(num_iteration=1).get("objective", "a custom one"))
    name = "multiclass" if objective.startswith("multiclass num_class") else objective
    if name not in _KINDS:
        raise ParameterError(
            "loss",
            "must be given for this objective",
            objective,
            "Pass a function of (labels, raw scores) that returns a loss per sample.",
        )
    return _KINDS[name]
