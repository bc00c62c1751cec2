"""Slices of two sets of runs: the difference of their effects, and what chance makes of it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from actiontrack import compare
from actiontrack.analysis import slices
from actiontrack.errors import DataError, ParameterError
from actiontrack.testing import make_history

N, RUNS = 600, 3


@pytest.fixture
def template(record):
    """Samples of one run beside attributes that are drawn."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({
        "sample_id": np.arange(N),
        "light": rng.choice(["day", "night"], size=N),
        "camera": rng.choice(["a", "b", "c"], size=N),
    })  # fmt: skip
    return slices.sliced([record(make_history(n_steps=1, n_samples=N, n_classes=3))], frame)


def night(template):
    [light] = [one for one in template.attributes if one.name == "light"]
    return light.codes == light.groups.index("night")


def runs(template, *, seed, effects, noise=0.5):
    """A run per effect on the nights, all of the same samples."""
    rng = np.random.default_rng(seed)
    of_sample = rng.normal(size=N)
    values = [
        of_sample + noise * rng.normal(size=N) + effect * night(template) for effect in effects
    ]
    return replace(template, hardness=np.array(values))


def test_what_was_made_harder_comes_first_beyond_chance(template):
    chosen = runs(template, seed=1, effects=[0.0] * RUNS + [0.6] * RUNS)
    result = slices.slice_differences(chosen, RUNS)
    first = result.table.iloc[0]
    assert first["slice"].startswith("light = night")
    assert first["q_value"] < 1e-3
    assert first["ci_low"] > 0
    assert first["change"] > first["same_model"]
    assert result.table["change"].is_monotonic_decreasing


def test_before_and_after_are_the_mean_effects_of_the_runs(template):
    chosen = runs(template, seed=1, effects=[0.0, 0.1, 0.5, 0.7])
    result = slices.slice_differences(chosen, 2, pairs=False)
    row = result.table.set_index("slice").loc["light = night"]
    of_runs = []
    for run in chosen.hardness:
        alone = slices.slices(
            replace(chosen, hardness=run[None]), pairs=False, false_discovery_rate=1.0
        )
        of_runs.append(alone.table.set_index("slice").loc["light = night", "rank_difference"])
    assert row["before"] == pytest.approx(np.mean(of_runs[:2]))
    assert row["after"] == pytest.approx(np.mean(of_runs[2:]))
    assert row["change"] == pytest.approx(row["after"] - row["before"])
    assert row["same_model"] == pytest.approx(max(np.ptp(of_runs[:2]), np.ptp(of_runs[2:])))


def test_runs_of_one_model_differ_no_more_often_than_the_rate(template):
    n_listed = 0
    for seed in range(40):
        chosen = runs(template, seed=seed, effects=[0.3] * 2 * RUNS)
        table = slices.slice_differences(chosen, RUNS).table
        n_listed += bool((table["q_value"] <= slices.effects.SIGNIFICANT).any())
    assert n_listed <= stats.binom.ppf(0.999, 40, slices.effects.SIGNIFICANT)


def test_the_variance_over_samples_is_that_of_the_bootstrap(template):
    rng = np.random.default_rng(4)
    classes, values, members = template.of_class.codes, rng.normal(size=N), night(template)
    strata = compare.Strata.of(values[None], classes)
    groups = compare.Grouping(members.astype(np.int8), 2)
    computed = compare.slice_variances(strata, values, groups)[1]
    drawn = []
    for _ in range(4000):
        differences, weights = [], []
        for name in np.unique(classes):
            inside, outside = (
                rng.choice(values[(classes == name) & part], size=((classes == name) & part).sum())
                for part in (members, ~members)
            )
            differences.append(inside.mean() - outside.mean())
            weights.append(inside.size * outside.size / (inside.size + outside.size))
        drawn.append(np.average(differences, weights=weights))
    assert computed == pytest.approx(np.var(drawn), rel=0.1)


def test_one_run_in_a_set_leaves_chance_unknown(template):
    chosen = runs(template, seed=1, effects=[0.0, 0.5])
    result = slices.slice_differences(chosen, 1)
    assert (
        result.table[["ci_low", "ci_high", "same_model", "p_value", "q_value"]]
        .isna()
        .all(axis=None)
    )
    assert slices.harder_slices(result, 0.05)["slice"][0].startswith("light = night")


def test_a_slice_crosses_a_threshold_only_beyond_chance(template):
    clean = slices.slice_differences(runs(template, seed=1, effects=[0.3] * 6), RUNS)
    assert slices.harder_slices(clean, 0.0).empty
    planted = slices.slice_differences(runs(template, seed=1, effects=[0, 0, 0, 1, 1, 1]), RUNS)
    crossed = slices.harder_slices(planted, 0.05)
    assert "light = night" in set(crossed["slice"])
    assert slices.harder_slices(planted, 0.9).empty


@pytest.mark.parametrize("n_before", [0, 4])
def test_both_sets_need_a_run(template, n_before):
    with pytest.raises(ParameterError, match=r"must lie in 1\.\.3, of 4 runs"):
        slices.slice_differences(runs(template, seed=1, effects=[0.0] * 4), n_before)


def test_a_run_without_an_order_is_refused(template):
    chosen = runs(template, seed=1, effects=[0.0] * 4)
    chosen.hardness[2] = 1.0
    with pytest.raises(DataError, match="it puts them in no order"):
        slices.slice_differences(chosen, 2)


def test_a_threshold_below_zero_is_refused(template):
    result = slices.slice_differences(runs(template, seed=1, effects=[0.0] * 4), 2)
    with pytest.raises(ParameterError, match="must be 0 or more"):
        slices.harder_slices(result, -0.1)
