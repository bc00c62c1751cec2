"""The mean loss per token that a Trainer reports, from the losses of the tokens themselves.

A batch's loss is Σ losses / Σ tokens over all batches of one update (``num_items_in_batch``), not
the mean of the documents' means. The same sums are formed here, from the same numbers.
"""

import math

import torch

from actiontrack.recorder.causal_lm_batches import Documents, TokenLosses

__all__ = ["EvaluationMean", "LoggedMean"]


class LoggedMean:
    """What a Trainer logs as "loss": the mean over updates of their mean loss per token.

    Args:
        pooled: whether the tokens of all batches of an update are counted together, else each batch
            of an update weighs the same.
    """

    def __init__(self, *, pooled: bool) -> None:
        self._pooled = pooled
        self.forget()

    def forget(self) -> None:
        """Begin anew, as after each log."""
        self._batches: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._updates: list[torch.Tensor] = []
        self.n_documents = 0

    def add(self, documents: Documents, losses: TokenLosses) -> None:
        """Count one batch; nothing waits for the device."""
        self._batches.append(losses.total())
        self.n_documents += len(documents.ids)

    def end_update(self) -> None:
        """The batches since the last call belong to one update of the weights."""
        if not self._batches:
            return
        sums, counts = (torch.stack(column).double() for column in zip(*self._batches, strict=True))
        mean = sums.sum() / counts.sum() if self._pooled else (sums / counts).mean()
        self._updates.append(mean)
        self._batches = []

    def value(self) -> float:
        """The mean; NaN without an update."""
        return float(torch.stack(self._updates).mean()) if self._updates else math.nan


class EvaluationMean:
    """What a Trainer reports as "eval_loss": batches weigh by their rows of the dataset."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin a pass anew."""
        self._means: list[torch.Tensor] = []
        self._weights: list[int] = []
        self.n_documents = 0

    def add(self, documents: Documents, losses: TokenLosses) -> None:
        """Count one batch; nothing waits for the device."""
        total, count = losses.total()
        self._means.append(total / count)
        self._weights.append(documents.n_rows)
        self.n_documents += len(documents.ids)

    def value(self) -> float:
        """The mean; NaN without a batch."""
        if not self._means:
            return math.nan
        means = torch.stack(self._means).double().cpu()
        weights = torch.tensor(self._weights, dtype=torch.float64)
        return float(means @ weights / weights.sum())
