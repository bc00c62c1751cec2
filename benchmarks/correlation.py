"""Spearman's and Pearson's correlations of many runs: `python -m benchmarks.correlation`.

Ours is `actiontrack.compare.correlations`: both methods, overall, within classes and for each of 10
classes, without a bootstrap. Against it the same twelve parts by pandas' `corr`; by scipy's
functions pair by pair; and the limit: each run sorted once in each part, and a matrix product per
method and part. All of them take the class means out for the part within classes. Scores are
float32 with ties; that of a run is a common part and noise of its own. Before anything is timed,
the results are checked against each other.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from actiontrack.compare import correlations
from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
METHODS = ("spearman", "pearson")
N_CLASSES = 10


def main(argv: Sequence[str]) -> int:
    """Check, time and print."""
    given = options(__doc__, argv, runs=50, samples=100_000, turns=5)
    values, labels = scores(given.runs, given.samples)
    frame = pd.DataFrame(values.T)
    _check(values, labels)
    seconds = in_turns(
        {
            "ours": lambda: ours(values, labels),
            "pandas": lambda: by_pandas(frame, labels),
            "limit": lambda: limit(values, labels),
        },
        turns=given.turns,
    )
    pair = in_turns({"pair": lambda: by_scipy(values[0], values[1], labels)}, turns=3)
    n_pairs = given.runs * (given.runs - 1) // 2
    all_pairs = [n_pairs * min(pair["pair"])] * given.turns
    size = f"{given.runs} runs x {given.samples:,} samples, {N_CLASSES} classes"
    times = {name: f"{Spread.of(each)} s" for name, each in seconds.items()}
    times["scipy"] = f"{n_pairs:,} pairs at {Spread.of(pair['pair'])} s"
    keep(
        Figure(
            name=f"Spearman and Pearson, {size}",
            against="pandas corr per class",
            value=ratios(seconds, "pandas", "ours"),
            target=">= 13",
            details=times,
        ),
        Figure(
            name="the same",
            against="scipy pair by pair, the fastest pair times the number of pairs",
            value=ratios(seconds | {"scipy": all_pairs}, "scipy", "ours"),
            target=">= 100",
        ),
        Figure(
            name="the same",
            against="sort and matrix product",
            value=ratios(seconds, "ours", "limit"),
            target="<= 1.5",
        ),
    )
    return 0


def scores(n_runs: int, n_samples: int, seed: int = 0) -> tuple[Floats, Ints]:
    """Scores (n_runs, n_samples) with ties, and labels."""
    rng = np.random.default_rng(seed)
    common = rng.gamma(2.0, 3.0, n_samples)
    rows = [common + rng.gamma(2.0, 2.0, n_samples) for _ in range(n_runs)]
    return np.round(rows, 3).astype(np.float32), rng.integers(0, N_CLASSES, n_samples)


def ours(values: Floats, labels: Ints) -> pd.DataFrame:
    """All of it by this package."""
    names = [str(each) for each in range(N_CLASSES)]
    groups = ["model"] * len(values)
    return correlations(values, labels, groups=groups, class_names=names, n_bootstrap=0).pairs


def by_pandas(frame: pd.DataFrame, labels: Ints) -> list[pd.DataFrame]:
    """All of it by pandas."""
    within = frame - frame.groupby(labels).transform("mean")
    parts = [frame, within, *(frame[labels == each] for each in range(N_CLASSES))]
    return [part.corr(method=method) for part in parts for method in METHODS]  # type: ignore[arg-type]


def by_scipy(first: Floats, second: Floats, labels: Ints) -> list[float]:
    """One pair of runs, by scipy."""
    both = np.stack([first, second])
    parts = [both, both - _class_means(both, labels)]
    parts += [both[:, labels == each] for each in range(N_CLASSES)]
    found = []
    for one, two in parts:
        found += [stats.spearmanr(one, two).statistic, stats.pearsonr(one, two).statistic]
    return found


def limit(values: Floats, labels: Ints) -> list[NDArray[np.float64]]:
    """The least that has to be done: sort each run once in each part, and multiply."""
    order = np.argsort(labels, kind="stable")
    rows = values[:, order]
    edges = np.searchsorted(labels[order], np.arange(N_CLASSES + 1))
    within = rows - _class_means(rows, labels[order])
    parts = [rows, within, *(rows[:, a:b] for a, b in pairwise(edges))]
    found = []
    for here in parts:
        ranks = np.empty(here.shape)
        counting = np.arange(here.shape[1], dtype=np.float64)
        for row, own in zip(here, ranks, strict=True):
            own[np.argsort(row)] = counting  # without ties
        for matrix in (ranks, here.astype(np.float64)):
            centred = matrix - matrix.mean(axis=1, keepdims=True)
            found.append(centred @ centred.T)
    return found


def _class_means(values: NDArray[np.floating], labels: Ints) -> NDArray[np.float64]:
    """Of each run, (runs, samples)."""
    sizes = np.bincount(labels)
    means = [np.bincount(labels, row) / sizes for row in values]
    return np.stack(means)[:, labels]


def _check(values: Floats, labels: Ints) -> None:
    few, pairs = values[:3], ours(values[:3], labels)
    for (a, b), rows in pairs.groupby(["run_a", "run_b"]):
        expected = by_scipy(few[a].astype(np.float64), few[b].astype(np.float64), labels)
        wide = rows.pivot_table(index="class", columns="method", values="value", sort=False)
        found = wide[list(METHODS)].to_numpy().ravel()
        np.testing.assert_allclose(found, expected, rtol=1e-9)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
