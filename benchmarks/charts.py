"""The first answer of the heavy charts: `python -m benchmarks.charts`.

Processor time of what is computed once the records are read: clusters of the loss curves of a run,
correlations above quantiles, and correlations with bootstrap intervals, each from arrays in memory
of runs of two models and ten classes. The intervals are also measured against the plain way:
resample the columns, take the class means out, rank by scipy, correlate by NumPy, and both are
checked against each other before.
"""

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from actiontrack.compare import cluster_curves, correlation_by_quantile, correlations
from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Losses = NDArray[np.float32]
N_CLASSES = 10
NAMES = [f"class {code}" for code in range(N_CLASSES)]
TARGET_SECONDS = 2


def main(argv: Sequence[str]) -> int:
    """Check, time and print."""
    given = options(
        __doc__, argv, runs=10, samples=50_000, steps=100, resamples=200, turns=3, plain=10
    )
    losses, values, labels = histories(given.runs, given.samples, given.steps)
    models = ["cnn", "resnet"] * given.runs
    groups = models[: given.runs]
    _check(values[:, :2000], labels[:2000], groups)
    charts: dict[str, Callable[[], object]] = {
        "clusters": lambda: cluster_curves(losses),
        "quantiles": lambda: correlation_by_quantile(values, groups=groups),
        "intervals": lambda: intervals(values, labels, groups, given.resamples),
    }
    size = f"{given.samples:,} samples x {given.steps} steps x {given.runs} runs"
    seconds = in_turns(charts, turns=given.turns, warm_up=0, clock=time.process_time)
    for name, times in seconds.items():
        keep(
            Figure(
                name=f"{name}, {size}",
                against="processor time",
                value=Spread.of(times),
                unit="s",
                target=f"<= {TARGET_SECONDS}",
            )
        )
    few = given.plain
    both = in_turns(
        {
            "plain": lambda: plain(values, labels, few),
            "ours": lambda: intervals(values, labels, groups, few),
        },
        turns=given.turns,
        clock=time.process_time,
    )
    keep(
        Figure(
            name=f"intervals of {few} resamples: times faster",
            against="resampled arrays, ranked by scipy and correlated by NumPy",
            value=ratios(both, "plain", "ours"),
        )
    )
    return 0


def histories(
    n_runs: int, n_samples: int, n_steps: int
) -> tuple[NDArray[np.float32], Floats, Ints]:
    """Losses (steps, samples) of the first run, actions (runs, samples) of all, and labels."""
    rng = np.random.default_rng(0)
    difficulty = rng.gamma(2.0, 1.0, n_samples)
    steps = np.arange(1, n_steps + 1)[:, None]
    first = np.empty((0, 0), np.float32)
    actions = np.empty((n_runs, n_samples))
    for run in range(n_runs):
        hard = difficulty + rng.gamma(2.0, 0.5, n_samples)
        margins = 6 * (1 - np.exp(-steps / (5 * hard))) - 0.4 * hard
        margins += rng.normal(scale=0.7, size=margins.shape)
        losses = np.log1p(9 * np.exp(-margins)).astype(np.float32)
        actions[run] = losses.sum(axis=0)
        first = losses if run == 0 else first
    return first, actions, rng.integers(0, N_CLASSES, n_samples)


def intervals(values: Floats, labels: Ints, groups: list[str], times: int) -> pd.DataFrame:
    """Spearman's correlations with intervals by this package."""
    found = correlations(
        values,
        labels,
        groups=groups,
        class_names=NAMES,
        methods=("spearman",),
        n_bootstrap=times,
    )
    return found.groups


def plain(values: Floats, labels: Ints, times: int) -> Floats:
    """Matrices (times, parts, runs, runs) of each resample, the plain way."""
    order = np.argsort(labels, kind="stable")  # draws are of samples sorted by class
    values, labels = values[:, order], labels[order]
    rng = np.random.default_rng(0)
    matrices = []
    for _ in range(times):
        columns = rng.integers(0, labels.size, labels.size)
        rows, own = values[:, columns], labels[columns]
        means = np.stack([np.bincount(own, row) / np.bincount(own) for row in rows])
        parts = [rows, rows - means[:, own], *(rows[:, own == code] for code in range(N_CLASSES))]
        matrices.append([np.corrcoef(rankdata(part, axis=1)) for part in parts])
    return np.array(matrices)


def _check(values: Floats, labels: Ints, groups: list[str]) -> None:
    times = 20
    draws = plain(values[:2], labels, times)[:, :, 0, 1]
    ours = intervals(values[:2], labels, groups[:2], times)
    expected = np.quantile(draws, [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(ours[["ci_low", "ci_high"]], expected, rtol=1e-7)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
