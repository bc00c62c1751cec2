"""Scores of runs that the tests of comparisons share."""

import functools

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
from hypothesis import strategies as st

from actiontrack import compare


def tied_runs(max_value=4, **shape):
    return hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, **shape),
        elements=st.integers(0, max_value).map(float),
    )


def runs(n=200, n_classes=4, seed=0, n_runs=4, noise=0.6):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    base = rng.gamma(1.5, 1.0, n) + labels
    return (base + noise * rng.normal(size=(n_runs, n))).astype(np.float32), labels


NAMES = ["ant", "bee", "cat", "dog"]


MODELS = ["cnn", "cnn", "resnet", "resnet"]
VALUES, LABELS = runs(n=6)


def centred(values, labels):
    frame = pd.DataFrame(values.T.astype(float))
    return (frame - frame.groupby(labels).transform("mean")).to_numpy().T


@functools.cache
def compared():
    """Correlations of four runs of two models, computed once."""
    values, labels = runs()
    return compare.correlations(values, labels, groups=MODELS, class_names=NAMES, n_bootstrap=40)
