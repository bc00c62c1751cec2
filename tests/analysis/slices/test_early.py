"""Minorities without attributes: the parts of a class that lag behind."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from actiontrack.analysis import slices
from actiontrack.analysis.slices.early import lower_part
from actiontrack.errors import DataError, ParameterError
from actiontrack.testing import make_history

N = 600


@pytest.fixture(scope="module")
def lagging():
    """A history in which a twentieth of class 0 has lost most of its first steps, and who."""
    rng = np.random.default_rng(2)
    history = make_history(n_steps=6, n_samples=N, n_classes=3)
    of_class = np.flatnonzero(history.labels == 0)
    late = rng.choice(of_class, size=of_class.size // 20, replace=False)
    losses = np.full((6, N), 0.3, dtype=np.float32) + rng.gamma(1.0, 0.1, size=(6, N))
    losses[:4, late] += 2.0
    return replace(history, losses=losses.astype(np.float32)), late


def test_the_class_with_a_minority_comes_first_with_its_samples(record, lagging):
    history, late = lagging
    opened = record(history)
    table = slices.early_minorities(opened)
    assert table["class"].iloc[0] == "class 0"
    assert table["n_minority"].iloc[0] == late.size
    samples = slices.early_samples(opened).query("`class` == 'class 0'")
    assert set(samples.loc[samples["is_minority"], "sample_id"]) == set(late)
    is_late = samples["sample_id"].isin(late)
    assert roc_auc_score(is_late, -samples["early_probability"]) >= 0.9


def test_probabilities_are_the_means_of_the_first_steps(record, lagging):
    history, _ = lagging
    samples = slices.early_samples(record(history), steps=2)
    expected = np.exp(-history.losses[:2].astype(float)).mean(axis=0)
    np.testing.assert_allclose(samples["early_probability"], expected)


def test_separation_is_the_share_of_variance_between_the_parts(record, lagging):
    opened = record(lagging[0])
    first = slices.early_minorities(opened).iloc[0]
    samples = slices.early_samples(opened).query("`class` == 'class 0'")
    values = samples["early_probability"]
    within = sum(
        ((part - part.mean()) ** 2).sum() for _, part in values.groupby(samples["is_minority"])
    )
    total = ((values - values.mean()) ** 2).sum()
    assert first["separation"] == pytest.approx(1 - within / total)


def test_the_cut_leaves_the_least_variance_within_the_parts():
    values = np.random.default_rng(1).normal(size=12)

    def within(part):
        parts = (values[part], values[~part])
        return sum(((one - one.mean()) ** 2).sum() for one in parts)

    splits = [np.isin(np.arange(12), rows) for size in range(1, 12)
              for rows in itertools.combinations(range(12), size)]  # fmt: skip
    best = min(within(split) for split in splits)
    assert within(lower_part(values, 1)) == pytest.approx(best)


def test_equal_values_are_never_parted():
    assert not lower_part(np.ones(20), 1).any()
    assert lower_part(np.array([0.0, 0.0, 0.0, 1.0]), 1).tolist() == [True, True, True, False]


def test_a_part_has_its_least_size():
    values = np.append(np.linspace(0.8, 0.9, 20), 0.0)
    assert lower_part(values, 1).sum() == 1
    assert lower_part(values, 5).sum() >= 5


def test_what_is_refused(record, lagging):
    history, _ = lagging
    with pytest.raises(DataError, match="this record has no labels"):
        slices.early_minorities(record(replace(history, labels=None, class_names=())))
    with pytest.raises(ParameterError, match="steps: must be at least 1, got 0"):
        slices.early_minorities(record(history), steps=0)
