"""LightGBM: per-sample losses of a fixed set after every boosting round.

::

    with ActionTrackCallback(test_inputs, test_labels) as track:           # 1
        lightgbm.train(params, train_set, rounds, callbacks=[track])       # 2
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.recorder.probe import (
    ArrayProbe,
    Loss,
    call_in_progress,
    check_labels,
    class_positions,
    default_options,
    not_tracked,
    same_labels,
)
from actiontrack.recorder.recorder import EpochSummary

try:
    import lightgbm
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.lightgbm needs LightGBM: pip install 'actiontrack[lightgbm]'"
    ) from error

__all__ = ["ActionTrackCallback", "classes_in_training"]

_KINDS: dict[str, Loss] = {
    "binary sigmoid:1": "logits",
    "multiclass": "logits",
    "regression": "squared_error",
    "regression_l1": "absolute_error",
}
_METRICS: dict[Any, dict[str, int]] = {  # of each kind, and the power that is the mean loss
    "logits": {"binary_logloss": 1, "multi_logloss": 1},
    "squared_error": {"l2": 1, "rmse": 2},
    "absolute_error": {"l1": 1},
}
_SMALLEST = 1e-15  # probability that LightGBM's log losses take the logarithm of


class ActionTrackCallback(ArrayProbe):
    """Records raw scores as losses; the model of r rounds is step r.

    The probe is no validation set and does not influence the training. Cross-entropy is computed
    from the raw scores, so that no loss is clipped. Works with `lightgbm.train` and with the
    scikit-learn classes (``fit(callbacks=[…])``), whose classes decide what a label means. The
    record is finished with the last round; LightGBM has no hook for early stopping or errors: with
    either, train inside ``with track:``. It has none before the first round either: what can't be
    recorded is refused right after that round.

    A training with initial scores needs those of the probe. They come from `init_score`, or from
    the validation set with the labels of the probe; else the training is refused. A training that
    goes on from an `init_model` needs none. Random forests (``boosting="rf"``) are recorded as the
    mean of their trees, as LightGBM evaluates them. If the probe is among the validation sets and
    LightGBM reports its mean loss, every step is compared with that, see
    `actiontrack.recorder.loss_check`; a validation set is taken for the probe if it has the same
    labels in the same, varied order.

    Args:
        inputs: (n_samples, n_features) as `Booster.predict` takes them.
        labels: (n_samples,) class indices or targets; labels as in training, text too, for
            `LGBMClassifier`.
        init_score: (n_samples,) or (n_samples, n_classes), where the scores of the probe start.
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
        init_score: Any = None,
        ids: Any = None,
        split: str = "test",
        loss: Loss | None = None,
        **options: Any,
    ) -> None:
        super().__init__(labels, ids=ids, split=split, **options)
        self._inputs, self._loss, self._kind = inputs, loss, loss
        self._targets, self._init_score = self._labels, init_score
        self._start: npt.NDArray[Any] | None = None
        self._averages = False
        self._evaluation: tuple[str, lightgbm.Dataset] | None = None

    def __call__(self, env: Any) -> None:
        """Record one round; LightGBM calls it.

        Raises:
            ParameterError: if the objective needs a `loss`, the labels do not fit it, or the
                training has initial scores and the probe none.
            RecordingError: under cross-validation, or if there is no active run.
        """
        if env.iteration == env.begin_iteration:
            self._begin(env)
        assert self._kind is not None  # noqa: S101 - set in the first round
        scores = env.model.predict(self._inputs, raw_score=True, num_iteration=-1)
        if self._averages:
            scores = scores / (env.iteration + 1)
        if self._start is not None:
            scores = scores + self._start.reshape(scores.shape)
        summary = self.record(scores, self._kind, step=env.iteration + 1, delta=1.0)
        if self._evaluation is not None:
            self._compare(summary, scores, env.evaluation_result_list)
        if env.iteration + 1 == env.end_iteration:
            self.finish()

    def _begin(self, env: Any) -> None:
        model = env.model
        if not isinstance(model, lightgbm.Booster):
            raise not_tracked("lightgbm.cv", "Train the folds one by one, each in its own run.")
        self._kind = self._loss or _kind(model)
        n_classes = max(model.num_model_per_iteration(), 2)
        classes = classes_in_training()
        names = {}
        if classes is not None and isinstance(self._kind, str):
            self._labels = class_positions(self._targets, classes)
            names = {"class_names": [str(label) for label in classes]}
        check_labels(self._kind, self._labels, n_classes)
        self._evaluation = next(
            (pair for pair in _evaluation_sets(model) if same_labels(self._labels, _labels(pair))),
            None,
        )
        self._averages = "\naverage_output\n" in model.model_to_string(num_iteration=1)
        self._start = self._start_of(model.train_set, continued=env.begin_iteration > 0)
        self.begin(**names, **default_options(self._kind))

    def _start_of(self, train: lightgbm.Dataset, *, continued: bool) -> npt.NDArray[Any] | None:
        """(n,) or (n, n_classes) initial scores of the probe, or None if there are none."""
        if continued:  # the Dataset holds the scores of the earlier model, and so do its trees
            _refuse_init_score(self._init_score)
            return None
        score = self._init_score
        if score is None and self._evaluation is not None:
            score = self._evaluation[1].get_init_score()
        if score is None and train.get_init_score() is not None:
            raise ParameterError(
                "init_score",
                "must be given, as the training starts from initial scores",
                None,
                "Pass init_score=; zeros if the samples of the probe have none.",
            )
        return None if score is None else _by_sample(score, len(self._labels))

    def _compare(
        self, summary: EpochSummary | None, scores: npt.NDArray[Any], results: Any
    ) -> None:
        """Compare the step with the metric that LightGBM reports for the same samples."""
        assert self._evaluation is not None  # noqa: S101
        name, data = self._evaluation
        weights = data.get_weight()
        metrics = _METRICS.get(self._kind, {}) if isinstance(self._kind, str) else {}
        for dataset, metric, value, *_ in results or ():
            if dataset == name and metric in metrics:
                reported = value ** metrics[metric]
                self.compare_mean(
                    summary,
                    reported,
                    f"LightGBM's {metric} of {name!r}",
                    str(self._kind),
                    scores,
                    smallest=_SMALLEST,
                    weights=None if weights is None else np.asarray(weights),
                )


def classes_in_training() -> npt.NDArray[Any] | None:
    """The classes of the LGBMClassifier that is being fitted, by ascending index."""
    call = call_in_progress(lightgbm.LGBMModel.fit)
    return getattr(call["self"], "_classes", None) if call else None


def _evaluation_sets(model: lightgbm.Booster) -> Iterator[tuple[str, lightgbm.Dataset]]:
    yield from zip(model.name_valid_sets, model.valid_sets, strict=True)
    yield model._train_data_name, model.train_set  # noqa: SLF001 - reported under this name


def _labels(evaluation: tuple[str, lightgbm.Dataset]) -> npt.NDArray[Any]:
    return np.asarray(evaluation[1].get_label())


def _by_sample(score: Any, n_samples: int) -> npt.NDArray[Any]:
    """Initial scores with a row per sample; LightGBM also takes them class after class."""
    values = np.asarray(score, dtype=np.float64)
    if values.size % n_samples:
        rule = f"must have {n_samples} rows, one per sample"
        raise ParameterError("init_score", rule, values.shape, "Pass one score per sample.")
    return values.reshape(-1, n_samples).T if values.ndim == 1 else values


def _refuse_init_score(init_score: Any) -> None:
    if init_score is not None:
        raise ParameterError(
            "init_score",
            "must not be given with an init_model, which LightGBM starts from instead",
            type(init_score).__name__,
            "Leave it out.",
        )


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
