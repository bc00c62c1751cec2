"""An evaluator that MLflow finds by itself once the package is installed.

`mlflow.models.evaluate(..., evaluators="actiontrack")` records the losses of one evaluation as one
step of a record: called after every epoch with the same run, it is the probe of the paper.
"""

from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
from mlflow.models.evaluation.base import EvaluationResult, ModelEvaluator

from actiontrack.errors import ParameterError

__all__ = [
    "ActionEvaluator",
]

_CONFIG = ("split", "step", "ids", "class_labels", "model_name")
_SMALLEST = float(np.finfo(np.float32).tiny)


class ActionEvaluator(ModelEvaluator):
    """Records the per-sample losses of an evaluation in its run.

    Of a classifier the model must give probabilities, (n, n_classes); of a regression the loss is
    the squared error. Options in ``evaluator_config``: ``split`` (default "test"), ``step`` (n of
    eq. 3; default: the next one), ``ids`` (one per row; default: the number of the row),
    ``class_labels`` (the labels in the order of the columns; default: the sorted labels of the
    data) and ``model_name`` (by which runs are grouped).
    """

    model_types: ClassVar = ("classifier", "regressor")

    def __init__(self) -> None:
        self._n_asked = 0

    def can_evaluate(  # type: ignore[override]  # MLflow asks an instance
        self, *, model_type: str, evaluator_config: Any = None, **kwargs: Any
    ) -> bool:
        """Whether the model is a classifier or a regression, and this evaluator was named.

        An evaluation that names no evaluator is left alone: it must neither write a record nor
        fail for want of probabilities. MLflow makes an instance for each evaluation. One that was
        named is asked once, right before it evaluates. Where none is named, MLflow first asks all
        which of them can, and then those again: an instance asked twice was not named.
        """
        del evaluator_config, kwargs
        self._n_asked += 1
        return model_type in self.model_types and self._n_asked == 1

    def evaluate(
        self,
        *,
        model_type: str,
        dataset: Any,
        run_id: str,
        evaluator_config: Any = None,
        model: Any = None,
        **kwargs: Any,
    ) -> EvaluationResult:
        """Record one step.

        Returns:
            The metrics actiontrack/mean_loss (of this step), actiontrack/mean_action and
            actiontrack/median_action (of the record so far), and the scores of every sample.

        Raises:
            ParameterError: if an option is unknown, the data has no targets, a classifier gives
                no probabilities, or a regression more than one number per row.
        """
        del kwargs
        from actiontrack.recorder import Recorder  # noqa: PLC0415
        from actiontrack.store import Store  # noqa: PLC0415

        config = _checked(evaluator_config)
        if dataset.labels_data is None:
            raise ParameterError("targets", "must be given", None, "Name the column of the labels.")
        outputs = (
            dataset.predictions_data if model is None else model.predict(dataset.features_data)
        )
        targets = np.asarray(dataset.labels_data)
        ids = config.get("ids")
        ids = np.arange(len(targets)) if ids is None else np.asarray(ids)
        columns, names = _columns(model_type, np.asarray(outputs), targets, config)
        split, store = config.get("split", "test"), Store()
        recorded_before = f"{split}-probe" in store.get_run(run_id).records
        with Recorder(
            split,
            run_id=run_id,
            store=store,
            model=config.get("model_name", ""),
            class_names=names,
            loss_name=None if model_type == "classifier" else "squared_error",
            resume=recorded_before,
            verbose=False,
            report=False,
        ) as recorder:
            recorder.update(ids, **columns)
            summary = recorder.end_epoch(config.get("step"))
        mean_loss = float("nan") if summary is None else summary.mean_loss
        return _result(store, run_id, recorder.name, mean_loss)


def _checked(config: Any) -> dict[str, Any]:
    options = dict(config or {})
    unknown = sorted(set(options) - set(_CONFIG))
    if unknown:
        rule = f"must hold only {', '.join(_CONFIG)}"
        raise ParameterError("evaluator_config", rule, unknown[0], "Leave it out.")
    return options


def _columns(
    model_type: str, outputs: npt.NDArray[Any], targets: npt.NDArray[Any], config: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the recorder is given, and the names of the classes."""
    if model_type == "regressor":
        if outputs.size != len(targets):
            rule = f"must be one number per row, shape ({len(targets)},)"
            remedy = "Evaluate a model with one output, or one output of it."
            raise ParameterError("model output", rule, outputs.shape, remedy)
        errors = outputs.reshape(len(targets)).astype(np.float64) - targets
        return {"losses": (errors**2).astype(np.float32)}, ()
    labels = np.asarray(config.get("class_labels", np.unique(targets)))
    if outputs.ndim != 2 or outputs.shape != (len(targets), len(labels)):
        rule = f"must be probabilities of shape ({len(targets)}, {len(labels)})"
        raise ParameterError(
            "model output",
            rule,
            outputs.shape,
            'Log the model with pyfunc_predict_fn="predict_proba", and name its classes with '
            "class_labels if the data lacks some.",
        )
    codes = {label: code for code, label in enumerate(labels.tolist())}
    missing = sorted({target for target in targets.tolist() if target not in codes}, key=str)
    if missing:
        rule = f"must hold every label, of which there is {missing[0]!r}"
        raise ParameterError("class_labels", rule, labels.tolist(), "Add the label.")
    indices = np.array([codes[target] for target in targets.tolist()])
    logits = np.log(np.maximum(outputs.astype(np.float64), _SMALLEST)).astype(np.float32)
    return {"logits": logits, "labels": indices}, tuple(str(label) for label in labels.tolist())


def _result(store: Any, run_id: str, name: str, mean_loss: float) -> EvaluationResult:
    from mlflow.models.evaluation import artifacts  # noqa: PLC0415

    from actiontrack.store import ARTIFACT_ROOT  # noqa: PLC0415

    record = store.open_record(store.get_run(run_id), name)
    scores = record.scores()
    uri = f"{record.run.artifact_uri}/{ARTIFACT_ROOT}/{name}/scores.parquet"
    metrics = {
        "actiontrack/mean_loss": mean_loss,
        "actiontrack/mean_action": float(scores["action"].mean()),
        "actiontrack/median_action": float(scores["action"].median()),
    }
    artifact: Any = artifacts.ParquetEvaluationArtifact
    result: Any = EvaluationResult
    tables = {"actiontrack_scores": artifact(uri=uri, content=scores)}
    return cast("EvaluationResult", result(metrics, tables, run_id))
