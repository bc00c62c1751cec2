"""Records for tests, ours and our users': genuine losses in milliseconds, no dataset, no torch.

>>> history = make_history(n_steps=3, n_samples=5, n_classes=3)
>>> history.losses.shape
(3, 5)
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.history import IdArray, LossHistory
from actiontrack.recorder import Recorder
from actiontrack.scores import classification_measures
from actiontrack.store import Store

__all__ = ["make_history", "record_history"]

_N_FEATURES = 4
_LEARNING_RATE = 0.5


def make_history(
    n_steps: int = 3, n_samples: int = 5, n_classes: int = 3, seed: int = 0, **changes: Any
) -> LossHistory:
    """The history of a softmax regression, trained by gradient descent on overlapping classes.

    Args:
        n_steps: epochs of training.
        n_samples: samples, with ids from 0.
        n_classes: classes, at least 2.
        seed: of the data.
        changes: fields of `LossHistory` that are to differ, such as ``split="train"``.

    Returns:
        A valid history with every measure of `history.MEASURES`.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=n_samples)
    centres = rng.normal(size=(n_classes, _N_FEATURES))
    inputs = centres[labels] + rng.normal(size=(n_samples, _N_FEATURES))
    steps = _train(inputs, labels, n_classes, n_steps)
    grids = {name: np.stack([each[name] for each in steps]) for name in steps[0]}
    history = LossHistory(
        losses=grids.pop("cross_entropy"),
        sample_ids=np.arange(n_samples),
        labels=labels,
        measures=grids,
        class_names=tuple(f"class {each}" for each in range(n_classes)),
        loss_name="cross_entropy",
    )
    return replace(history, **changes)


def record_history(
    history: LossHistory, run_id: str, store: Store, spool: Path, model: str = ""
) -> bool:
    """Record a history into a run that exists, through a recorder, as training would have done.

    Args:
        history: at least one step.
        run_id: the MLflow run.
        store: the tracking server that holds it.
        spool: folder for the local copy.
        model: name of the model.

    Returns:
        Whether all of it is in the artifact store.
    """
    recorder = _Replay(
        history.split,
        mode=history.mode,
        run_id=run_id,
        store=store,
        model=model,
        class_names=history.class_names,
        loss_name=history.loss_name,
        delta_kind=history.delta_kind,
        allow_missing=True,
        allow_uniform=True,
        spool=spool,
    )
    with recorder:
        recorder.describe_samples(
            history.sample_ids, labels=history.labels, true_labels=history.true_labels
        )
        for row, step in enumerate(history.steps.tolist()):
            _replay_step(recorder, history, row)
            recorder.end_epoch(step, delta=float(history.deltas[row]))
    return recorder.synced


class _Replay(Recorder):
    """A recorder that is given the measures themselves, as a history no longer has the logits."""

    def _columns(self, losses: Any, logits: Any, labels: Any) -> dict[str, Any]:
        measures: Mapping[str, Any] = logits or {}
        return {**super()._columns(losses, None, labels), **measures}

    def _outputs(self, logits: Any, labels: Any, size: int) -> None:  # noqa: ARG002
        return None


def _replay_step(recorder: Recorder, history: LossHistory, row: int) -> None:
    seen = history.seen[row]
    ids: IdArray = history.sample_ids[seen]
    recorder.update(
        ids,
        history.losses[row, seen],
        logits={name: values[row, seen] for name, values in history.measures.items()},
        labels=None if history.labels is None else history.labels[seen],
        components={name: values[row, seen] for name, values in history.components.items()},
    )


def _train(
    inputs: npt.NDArray[np.float64], labels: npt.NDArray[Any], n_classes: int, n_steps: int
) -> list[dict[str, npt.NDArray[Any]]]:
    """Measures of every sample after each epoch; one epoch is one step of gradient descent."""
    weights = np.zeros((inputs.shape[1], n_classes))
    one_hot = np.eye(n_classes)[labels]
    steps = []
    for _ in range(n_steps):
        scores = np.exp(inputs @ weights)
        gradient = inputs.T @ (scores / scores.sum(axis=1, keepdims=True) - one_hot)
        weights -= _LEARNING_RATE * gradient / len(labels)
        logits = (inputs @ weights).astype(np.float32)
        steps.append(classification_measures(logits, labels))
    return steps
