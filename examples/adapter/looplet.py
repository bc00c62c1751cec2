"""A training framework of twenty lines: softmax regression, with callbacks."""

import numpy as np
from scipy.special import softmax


class Model:
    """Has weights, and learns them."""

    def __init__(self, n_features, n_classes):
        self.weights = np.zeros((n_features, n_classes))

    def logits(self, inputs):
        """(n_samples, n_classes)."""
        return inputs @ self.weights

    def fit(self, inputs, labels, *, epochs=3, validation=None, callbacks=()):
        """Descend along the gradients of shuffled batches; evaluates nothing by itself."""
        wanted = np.eye(self.weights.shape[1])[labels]
        for epoch in range(1, epochs + 1):
            for rows in np.array_split(np.random.permutation(len(inputs)), 4):
                errors = softmax(self.logits(inputs[rows]), axis=1) - wanted[rows]
                self.weights -= 0.5 * inputs[rows].T @ errors / len(rows)
            for callback in callbacks:
                callback.after_epoch(self, epoch)
        return self
