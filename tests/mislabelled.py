"""A network that knows the truth behind labels of which some are wrong, in a history by hand."""

import numpy as np

from actiontrack.history import LossHistory
from actiontrack.scores import classification_measures

N_SAMPLES = 240
N_CLASSES = 3
#: Positions of the wrong labels.
WRONG = np.arange(0, N_SAMPLES, 12)
TRUTH = np.arange(N_SAMPLES) % N_CLASSES
LABELS = TRUTH.copy()
LABELS[WRONG] = (TRUTH[WRONG] + 1) % N_CLASSES


def mislabelled_history(n_steps=6, *, by_heart=False, without=(), **changes):
    """A history in which the logit of the true class is ever larger.

    Args:
        n_steps: number of epochs.
        by_heart: whether the last two thirds of the steps agree with every label instead.
        without: names of measures that an earlier version did not record.
        changes: fields of `LossHistory` that are to differ.
    """
    rng = np.random.default_rng(0)
    steps = []
    for step in range(n_steps):
        target = LABELS if by_heart and step >= n_steps // 3 else TRUTH
        logits = rng.normal(size=(N_SAMPLES, N_CLASSES))
        logits[np.arange(N_SAMPLES), target] += 2.5 + 0.2 * step
        steps.append(classification_measures(logits.astype(np.float32), LABELS))
    grids = {name: np.stack([measures[name] for measures in steps]) for name in steps[0]}
    fields = {
        "losses": grids.pop("cross_entropy"),
        "sample_ids": np.arange(N_SAMPLES),
        "labels": LABELS,
        "measures": {name: grid for name, grid in grids.items() if name not in without},
        "class_names": ("ant", "bee", "cat"),
        "split": "train",
        "loss_name": "cross_entropy",
    }
    return LossHistory(**(fields | changes))
