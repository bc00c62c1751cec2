"""Which scores a record has, before any of them is computed."""

from functools import cache

import numpy as np

from actiontrack.history import LossHistory
from actiontrack.record.losses import measure_dtype
from actiontrack.scores import score_table

__all__ = ["score_names"]


@cache
def score_names(
    measures: tuple[str, ...], components: tuple[str, ...], *, labelled: bool
) -> tuple[str, ...]:
    """Names of the scores that `score_table` gives for what a record holds."""
    grid = np.zeros((1, 1), dtype=np.float32)
    history = LossHistory(
        losses=grid,
        sample_ids=np.zeros(1, dtype=np.int64),
        labels=np.zeros(1, dtype=np.int64) if labelled else None,
        measures={name: grid.astype(measure_dtype(name)) for name in measures},
        components=dict.fromkeys(components, grid),
    )
    return tuple(str(name) for name in score_table(history).columns)
