"""The search of slices: what was planted is found, and clean data gives nothing."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from actiontrack.analysis import slices
from actiontrack.errors import DataError, MissingDependencyError, ParameterError
from actiontrack.testing import make_history

N = 3000
PLANTED = {"light = night", "camera = c2", "site = s3"}


def attributes(seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({
        "sample_id": np.arange(N),
        "light": rng.choice(["day", "dusk", "night"], size=N),
        "camera": rng.choice([f"c{number}" for number in range(4)], size=N),
        "site": rng.choice([f"s{number}" for number in range(5)], size=N),
        "angle": rng.normal(size=N),
    })  # fmt: skip


def planted_rows(frame):
    return (
        frame["light"].eq("night") & frame["camera"].eq("c2") & frame["site"].eq("s3")
    ).to_numpy()


def sample_set(record, frame, *, effect):
    """Samples of random losses, those of one crossing of three attributes harder by an effect."""
    history = make_history(n_steps=2, n_samples=N, n_classes=3)
    losses = np.random.default_rng(N).gamma(2.0, 1.0, history.losses.shape).astype(np.float32)
    losses += np.float32(effect) * planted_rows(frame)
    return slices.sliced([record(replace(history, losses=losses))], frame)


def parts(name):
    return set(name.split(" & "))


def test_a_crossing_of_three_attributes_is_ranked_first(record):
    frame = attributes(1)
    result = slices.search_slices(sample_set(record, frame, effect=3.0))
    first = result.table.iloc[0]
    assert parts(first["slice"]) == PLANTED
    assert first["attributes"] == 3
    assert first["n"] == planted_rows(frame).sum()
    assert first["ci_low"] > 0.5
    assert first["q_value"] < 1e-4


def test_the_numbers_are_those_of_samples_that_the_search_did_not_see(record):
    frame = attributes(1)
    chosen = sample_set(record, frame, effect=3.0)
    first = slices.search_slices(chosen).table.iloc[0]
    second = ~slices.search._first_half(chosen.of_class.codes, 0)
    members, classes = planted_rows(frame)[second], chosen.of_class.codes[second]
    values = chosen.hardness[0, second]
    assert first["n_tested"] == members.sum()
    chances, weights = [], []
    for name in np.unique(classes):
        of_class = classes == name
        inside, outside = values[of_class & members], values[of_class & ~members]
        pairs = inside.size * outside.size
        chances.append(stats.mannwhitneyu(inside, outside).statistic / pairs)
        weights.append(pairs / of_class.sum())
    assert first["p_harder"] == pytest.approx(np.average(chances, weights=weights))


def test_each_half_has_half_of_every_class():
    classes = np.repeat([0, 1, 2], (10, 31, 200))
    first = slices.search._first_half(classes, 4)
    whole, half = np.bincount(classes), np.bincount(classes[first])
    assert (np.abs(half - whole / 2) <= 1).all()
    assert not np.array_equal(first, slices.search._first_half(classes, 5))


def test_clean_samples_give_nothing_but_for_the_rate_of_false_discoveries(record):
    losses = sample_set(record, attributes(1), effect=0.0)
    n_listed = 0
    for seed in range(40):
        shuffled = np.random.default_rng(seed).permutation(N)
        attributes_of = [replace(one, codes=one.codes[shuffled]) for one in losses.attributes]
        result = slices.search_slices(replace(losses, attributes=attributes_of), seed=seed)
        n_listed += not result.table.empty
    assert n_listed <= stats.binom.ppf(0.999, 40, 0.05)


@pytest.mark.parametrize("most", [1, 2])
def test_a_slice_has_no_more_attributes_than_were_allowed(record, most):
    chosen = sample_set(record, attributes(1), effect=3.0)
    found = slices.search_slices(chosen, most_attributes=most, false_discovery_rate=1.0)
    assert found.table["attributes"].max() <= most


def test_the_smallest_slice_is_no_smaller_than_was_asked(record):
    chosen = sample_set(record, attributes(1), effect=3.0)
    found = slices.search_slices(chosen, min_size=200, false_discovery_rate=1.0)
    assert len(found.table)
    assert found.table["n"].min() >= 200


@pytest.mark.parametrize("options", [{"most_attributes": 4}, {"min_size": 2}])
def test_numbers_out_of_range_are_refused(record, options):
    with pytest.raises(ParameterError):
        slices.search_slices(sample_set(record, attributes(1), effect=0.0), **options)


def test_a_score_without_an_order_is_refused(record):
    chosen = sample_set(record, attributes(1), effect=0.0)
    with pytest.raises(DataError, match="it puts them in no order"):
        slices.search_slices(replace(chosen, hardness=np.ones_like(chosen.hardness)))


def test_without_sliceline_the_message_says_how_to_install_it(record, monkeypatch):
    monkeypatch.setitem(sys.modules, "sliceline.slicefinder", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'actiontrack\[slices\]'"):
        slices.search_slices(sample_set(record, attributes(1), effect=0.0))
