"""CatBoost: per-sample losses of a fixed set after every tree, from a trained model.

::

    model.fit(train, eval_set=test)
    record_stages(model, test, evaluation="validation")             # 1
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.recorder.probe import (
    ArrayProbe,
    Loss,
    check_labels,
    class_positions,
    default_options,
)

try:
    import catboost
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.catboost needs CatBoost: pip install 'actiontrack[catboost]'"
    ) from error

__all__ = ["record_stages"]

_KINDS: dict[str, Loss] = {
    "Logloss": "logits",
    "MultiClass": "logits",
    "MultiLogloss": "multilabel_logits",
    "RMSE": "squared_error",
    "MAE": "absolute_error",
}
_POWERS = {"RMSE": 2}  # of a metric, and the power that is the mean loss; of the others 1


def record_stages(
    model: Any,
    inputs: Any,
    labels: Any = None,
    *,
    baseline: Any = None,
    evaluation: str = "",
    ids: Any = None,
    split: str = "test",
    loss: Loss | None = None,
    **options: Any,
) -> bool:
    """Record a trained model after the fact; the model of its first r trees is step r.

    CatBoost shows its callbacks no model, so that nothing can be recorded while it trains; its
    staged predictions are those of the model after each round, and cost one pass over the samples.
    Cross-entropy is computed from the raw values. The model's `classes_` decide what a label
    means. Weights of samples and classes are no part of a loss; they count where the mean is
    compared with CatBoost's own metric.

    Trees that early stopping or `use_best_model` has dropped are not in the model, nor in the
    record; ``use_best_model=False`` keeps them. A model that goes on from an `init_model` holds
    the trees of both: record the last one. Models of a GPU are evaluated on the CPU.

    Args:
        model: trained, of any class of CatBoost.
        inputs: a Pool, whose labels and weights are used, or (n_samples, n_features) as `predict`
            takes them.
        labels: (n_samples,) as in training, text too; (n_samples, n_labels) rows of 0 and 1.
            Default: those of the Pool.
        baseline: (n_samples,) or (n_samples, n_classes), where the raw values of these samples
            start. CatBoost doesn't keep it: pass it wherever the training had one.
        evaluation: the name under which CatBoost evaluated these samples in training, "validation"
            or "validation_0", …: every step is then compared with its metric, see
            `actiontrack.recorder.loss_check`. CatBoost's figures of the training set are rough.
        ids: (n_samples,) stable ids. Default: 0 to n_samples - 1.
        split: name of the recorded split.
        loss: function of (labels, raw values) that returns (n_samples,) losses, needed for
            objectives other than Logloss, MultiClass, MultiLogloss, RMSE and MAE.
        options: further arguments of `actiontrack.Recorder`.

    Returns:
        Whether the record is finished and all of it is uploaded.

    Raises:
        ParameterError: if the objective needs a `loss`, the labels do not fit it, the model shrank
            while it grew, or the Pool has a baseline.
        RecordingError: if there is no active run and none is named.
    """
    settings = _settings(model)
    kind = loss or _kind(settings)
    given, weights = _labels_and_weights(inputs, labels)
    targets, names = given, {}
    if kind == "logits":
        targets = class_positions(given, model.classes_)
        names = {"class_names": [str(label) for label in model.classes_]}
        weights = weights * _class_weights(settings, len(model.classes_))[targets]
    check_labels(kind, targets)
    start = _baseline(baseline, len(targets))
    reported = _reported(model, settings, evaluation)
    stages = model.staged_predict(
        inputs, prediction_type="RawFormulaVal", thread_count=settings.get("thread_count", -1)
    )
    probe = ArrayProbe(targets, ids=ids, split=split, **options)
    with probe:
        probe.begin(**names, **default_options(kind))
        for step, raw in enumerate(stages, start=1):
            outputs = raw + start.reshape(raw.shape) if start.size else raw
            summary = probe.record(outputs, kind, step=step, delta=1.0)
            if step in reported:
                mean, source = reported[step]
                probe.compare_mean(summary, mean, source, str(kind), outputs, weights=weights)
    return probe.finish()


def _settings(model: Any) -> Mapping[str, Any]:
    """All parameters of the training, defaults too."""
    try:
        settings: Mapping[str, Any] = model.get_all_params()
    except catboost.CatBoostError as error:
        rule = "must be one that was trained as a whole; a sum of models has no rounds"
        raise ParameterError("model", rule, type(model).__name__, "Record its parts.") from error
    rate = settings.get("model_shrink_rate", 0)
    if rate:
        raise ParameterError(
            "model",
            "must have model_shrink_rate=0, as its stages are not the models of its rounds",
            rate,
            "Langevin boosting and posterior sampling shrink, too: leave them out.",
        )
    return settings


def _kind(settings: Mapping[str, Any]) -> Loss:
    objective = settings["loss_function"]
    if objective not in _KINDS:
        raise ParameterError(
            "loss",
            "must be given for this objective",
            objective,
            "Pass a function of (labels, raw values) that returns a loss per sample.",
        )
    return _KINDS[objective]


def _labels_and_weights(inputs: Any, labels: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Labels and weights of the samples; a Pool brings its own."""
    if not isinstance(inputs, catboost.Pool):
        if labels is None:
            raise ParameterError("labels", "must be given with an array", None, "Pass labels.")
        values = np.asarray(labels)
        return values, np.ones(len(values))
    own = inputs.get_label()
    if own is None:
        raise ParameterError("labels", "must be those of the Pool, which has none", None, "Set it.")
    if labels is not None and not np.array_equal(np.asarray(labels), np.asarray(own)):
        rule, value = "must not be given beside those of a Pool", type(labels).__name__
        raise ParameterError("labels", rule, value, "Leave them out.")
    if np.size(inputs.get_baseline()):
        rule = "must not be that of a Pool, which CatBoost's staged predictions can't take"
        raise ParameterError("baseline", rule, "a Pool", "Pass an array as inputs, and baseline=.")
    return np.asarray(own), np.asarray(inputs.get_weight())


def _class_weights(settings: Mapping[str, Any], n_classes: int) -> npt.NDArray[np.float64]:
    """The weight of each class in CatBoost's metrics, chosen or balanced."""
    return np.asarray(settings.get("class_weights") or np.ones(n_classes), dtype=np.float64)


def _baseline(baseline: Any, n_samples: int) -> npt.NDArray[np.float64]:
    """The values that the predictions start from; empty if there are none."""
    values = np.asarray([] if baseline is None else baseline, dtype=np.float64)
    if baseline is not None and values.shape[:1] != (n_samples,):
        rule = f"must have {n_samples} rows, one per sample"
        raise ParameterError("baseline", rule, values.shape, "Pass one value per sample.")
    return values


def _reported(
    model: Any, settings: Mapping[str, Any], evaluation: str
) -> dict[int, tuple[float, str]]:
    """Means that CatBoost reported of an evaluation set, and what reported them, by step.

    Rounds are counted from the first tree, of an `init_model` too. With ``metric_period`` CatBoost
    leaves rounds out: nothing is compared. Nor is "learn": of Logloss it is off by up to 7e-5, by
    rough exponentials, and of categorical features it sees other statistics.
    """
    if not evaluation:
        return {}
    results = model.get_evals_result()
    sets = [name for name in results if name != "learn"]
    if evaluation not in sets:
        rule = f"must be an evaluation set of the training: {', '.join(sets) or 'it had none'}"
        raise ParameterError("evaluation", rule, evaluation, "Name the set of these samples.")
    metric = settings["loss_function"]
    values = results[evaluation].get(metric, ())
    kept = model.best_iteration_ + 1 if settings.get("use_best_model") else len(values)
    periodic = (model.get_param("metric_period") or 1) > 1
    if metric not in _KINDS or periodic:
        return {}
    source = f"CatBoost's {metric} of {evaluation!r}"
    before = model.tree_count_ - kept
    return {
        before + number: (float(value) ** _POWERS.get(metric, 1), source)
        for number, value in enumerate(values, start=1)
    }
