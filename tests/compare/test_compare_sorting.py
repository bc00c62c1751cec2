"""Order and mid-ranks against NumPy's and scipy's sorts, of few scores and of many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from actiontrack.compare import sorting
from actiontrack.compare.matrices import ranks_by_class
from actiontrack.compare.sorting import ascending, mid_ranks

SCORES = st.floats(width=32, allow_nan=False) | st.integers(-3, 3).map(float)
HARD_TO_SORT = {
    "without ties": lambda rng: rng.permutation(5000) / 7,
    "ties": lambda rng: rng.integers(-3, 3, 5000),
    "infinite": lambda rng: rng.choice([-np.inf, np.inf, 0, 1.5, -2], 5000),
    "zeros of both signs": lambda rng: rng.choice([0.0, -0.0, 1e-40, -1e-40], 5000),
    "equal as float32": lambda rng: 1 + rng.permutation(5000) * 2.0**-52,
    "equal as float32, in stretches": lambda rng: (
        np.repeat(rng.random(50), 100) + 1e-15 * rng.random(5000)
    ),
    "beyond float32": lambda rng: rng.normal(size=5000) * 1e200,
    "constant": lambda _: np.full(5000, 0.1),
    "losses": lambda rng: rng.lognormal(-10, 8, 5000),
}


def ranks_of_scipy(row):
    """Of whole numbers in the same order: scipy 1.12 takes two infinities for a NaN."""
    return stats.rankdata(np.unique(row, return_inverse=True)[1])


@pytest.fixture(params=["few", "many"])
def way(request, monkeypatch):
    """Sorted by comparison, or by the bits whatever the number of scores."""
    monkeypatch.setattr(sorting, "_FEW", {"few": 10_000, "many": 0}[request.param])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("name", HARD_TO_SORT)
def test_scores_come_in_the_order_of_numpy_and_with_the_ranks_of_scipy(name, dtype):
    with np.errstate(over="ignore"):
        row = HARD_TO_SORT[name](np.random.default_rng(0)).astype(dtype)
    order, placed = ascending(row)
    np.testing.assert_array_equal(np.sort(order), np.arange(5000))
    np.testing.assert_array_equal(row[order], placed)
    np.testing.assert_array_equal(placed, np.sort(row, kind="stable"))
    np.testing.assert_array_equal(mid_ranks(row), ranks_of_scipy(row))


@given(arrays(np.float32, st.integers(0, 40), elements=SCORES))
def test_ranks_of_few_scores_are_those_of_scipy_either_way(row):
    with pytest.MonkeyPatch.context() as patch:
        for few in (0, 1000):
            patch.setattr(sorting, "_FEW", few)
            for scores in (row, row.astype(np.float64) * (1 + 2.0**-40)):
                np.testing.assert_array_equal(mid_ranks(scores), ranks_of_scipy(scores))


@pytest.mark.parametrize("nan", [np.nan, -np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_with_a_nan_has_no_ranks(way, nan, dtype):
    row = np.random.default_rng(0).random(50).astype(dtype)
    row[7] = nan
    row[3] = np.inf
    assert np.isnan(mid_ranks(row)).all()


def test_the_scores_are_left_as_they_are(way):
    row = np.random.default_rng(0).normal(size=50).astype(np.float32)
    before = row.copy()
    ascending(row)
    np.testing.assert_array_equal(row, before)


@pytest.mark.parametrize("n_samples", [1, 2, 50, 3000])
@pytest.mark.parametrize("highest", [1, 5, 300, 70_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_sort_gives_the_ranks_overall_and_within_each_class(way, n_samples, highest, dtype):
    rng = np.random.default_rng(1)
    values = np.round(rng.gamma(2, 2, size=(3, n_samples + 9)), 1).astype(dtype)
    values[1] = rng.choice([-np.inf, np.inf, 1], n_samples + 9)
    values[2] = 4.5
    columns = rng.permutation(n_samples + 9)[:n_samples]
    classes = rng.choice([0, highest // 2, highest], n_samples)  # and the others are empty
    overall, within = ranks_by_class(values, columns, classes)
    for run, row in enumerate(values[:, columns]):
        np.testing.assert_array_equal(overall[run], ranks_of_scipy(row) - (n_samples + 1) / 2)
        for code in np.unique(classes):
            own = row[classes == code]
            expected = ranks_of_scipy(own) - (own.size + 1) / 2
            np.testing.assert_array_equal(within[run, classes == code], expected)


def test_no_samples_have_no_ranks():
    assert mid_ranks(np.array([])).size == 0
    overall, within = ranks_by_class(np.zeros((2, 3)), np.array([], np.intp), np.array([], np.intp))
    assert overall.shape == within.shape == (2, 0)
