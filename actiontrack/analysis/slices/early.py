"""Slices without any attribute: minorities that are learnt later than the rest of their class.

A network learns what most images of a class share within the first epochs, be it a spurious mark;
the images that lack it lag behind, and split the class by the outputs of these epochs (SPARE, Yang
et al. 2024, arXiv 2305.18761, which clusters them). Here an output is the probability of the
label, averaged over the first steps, and a class is cut where two groups explain most of its
variance: the best 2-means clusters of a line, without a seed.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.errors import DataError, ParameterError
from actiontrack.history import Classes
from actiontrack.store import StoredRecord

__all__ = ["early_minorities", "early_samples"]

_COLUMNS = ["class", "n", "n_minority", "share", "probability", "probability_rest", "separation"]


def early_minorities(record: StoredRecord, *, steps: int = 3, min_size: int = 5) -> pd.DataFrame:
    """The part of each class that lags behind in the first steps of training.

    Args:
        record: of a classifier, whose losses are cross-entropies.
        steps: how many of the first steps count.
        min_size: fewest samples of a part, and of the rest of its class.

    Returns:
        One row per class, the most clearly split first: class, n (samples), n_minority (of the part
        with the lower probability), share (of the class), probability and probability_rest (mean
        early probability of the label in both parts), separation (share of the variance within the
        class that the two parts explain: .64 for a normal distribution, 1 for two points).

    Raises:
        DataError: if the record has no labels or no cross-entropy.
        ParameterError: if a number is out of its range.
    """
    table = early_samples(record, steps=steps, min_size=min_size)
    rows = []
    for name, part in table.groupby("class", sort=True):
        probability, late = part["early_probability"].to_numpy(), part["is_minority"].to_numpy()
        rows.append(
            {
                "class": name,
                "n": len(part),
                "n_minority": int(late.sum()),
                "share": float(late.mean()),
                "probability": _mean(probability[late]),
                "probability_rest": _mean(probability[~late]),
                "separation": _explained(probability, late),
            }
        )
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    return frame.sort_values("separation", ascending=False, kind="stable", ignore_index=True)


def early_samples(record: StoredRecord, *, steps: int = 3, min_size: int = 5) -> pd.DataFrame:
    """Which samples lag behind the rest of their class in the first steps.

    Args:
        record: see `early_minorities`.
        steps: how many of the first steps count.
        min_size: fewest samples of a part, and of the rest of its class.

    Returns:
        One row per sample that has a loss in one of the steps: sample_id, class, early_probability
        (mean probability of the label), is_minority.

    Raises:
        The errors of `early_minorities`.
    """
    if steps < 1 or min_size < 1:
        name, value = ("steps", steps) if steps < 1 else ("min_size", min_size)
        raise ParameterError(name, "must be at least 1", value, "Pass 3.")
    history = record.history(columns=())
    if history.labels is None or history.loss_name != "cross_entropy":
        raise DataError(
            "early minorities need labels and losses that are cross-entropies; this record has "
            f"{'no labels' if history.labels is None else history.loss_name}."
        )
    probability = _mean_probability(history.losses[:steps])
    usable = np.isfinite(probability)
    classes = Classes(history.class_names).of_each(history.labels)
    frame = pd.DataFrame(
        {"sample_id": history.sample_ids, "class": classes, "early_probability": probability}
    ).loc[usable]
    late = np.zeros(len(frame), dtype=np.bool_)
    for rows in frame.groupby("class", sort=False).indices.values():
        late[rows] = lower_part(frame["early_probability"].to_numpy()[rows], min_size)
    return frame.assign(is_minority=late).reset_index(drop=True)


def lower_part(values: npt.NDArray[np.float64], min_size: int) -> npt.NDArray[np.bool_]:
    """Which values are in the lower of the two 2-means clusters of a line; none where all agree.

    Args:
        values: (n,), finite.
        min_size: fewest values of a cluster.

    Example:
        >>> lower_part(np.array([0.9, 0.1, 0.8, 0.2, 0.85]), 1).tolist()
        [False, True, False, True, False]
    """
    order = np.argsort(values, kind="stable")
    placed = values[order]
    below = np.arange(1, placed.size)  # sizes of the lower cluster
    sums = np.cumsum(placed)
    gain = (sums[:-1] / below - (sums[-1] - sums[:-1]) / (placed.size - below)) ** 2
    gain *= below * (placed.size - below)
    allowed = (below >= min_size) & (placed.size - below >= min_size)
    allowed &= placed[1:] > placed[:-1]  # equals stay together
    members = np.zeros(values.size, dtype=np.bool_)
    if allowed.any():
        members[order[: below[np.argmax(np.where(allowed, gain, -1.0))]]] = True
    return members


def _mean_probability(losses: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Mean over steps, NaN where no step has a loss."""
    probabilities = np.exp(-losses.astype(np.float64))
    present = np.isfinite(probabilities)
    counts = present.sum(axis=0)
    sums = np.where(present, probabilities, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _explained(values: npt.NDArray[np.float64], late: npt.NDArray[np.bool_]) -> float:
    """Share of the variance that two parts explain; 0 where there is one part."""
    if not late.any() or not values.var():
        return 0.0
    share = late.mean()
    between = share * (1 - share) * (values[late].mean() - values[~late].mean()) ** 2
    return float(between / values.var())
