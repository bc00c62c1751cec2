import numpy as np
import pytest
from helpers import message

from actiontrack import compare
from actiontrack.errors import ParameterError


@pytest.fixture
def three_kinds():
    """Loss curves (8 steps) of 30 learnt, 20 flat and 10 unlearnt samples, shuffled; their kind."""
    rng = np.random.default_rng(0)
    shapes = np.array([np.linspace(2, 0.1, 8), np.full(8, 2.0), np.linspace(1, 6, 8)])
    kind = rng.permutation(np.repeat([0, 1, 2], [30, 20, 10]))
    return (shapes[kind] + 0.05 * rng.normal(size=(60, 8))).T.astype(np.float32), kind


def test_clusters_come_hardest_first_with_their_trend_and_size(three_kinds):
    losses, kind = three_kinds
    found = compare.cluster_curves(losses)
    assert found.trends == ("increasing", "flat", "decreasing")
    assert found.sizes.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(found.members, 2 - kind)
    assert found.centres.dtype == np.float64
    for number in range(3):
        mine = losses[:, found.members == number].astype(float)
        np.testing.assert_allclose(found.centres[number], mine.mean(axis=1))


def test_the_closest_curves_are_those_nearest_to_the_centre(three_kinds):
    losses, _ = three_kinds
    found = compare.cluster_curves(losses, n_closest=4)
    for number, centre in enumerate(found.centres):
        distance = np.linalg.norm(losses.T - centre, axis=1)
        assert found.closest[number].tolist() == np.argsort(distance)[:4].tolist()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_k_means_is_as_good_as_that_of_scikit_learn(k):
    from sklearn.cluster import KMeans

    losses = np.random.default_rng(1).gamma(2.0, size=(6, 300))
    found = compare.cluster_curves(losses, k=k)
    reference = KMeans(k, n_init=10, random_state=0).fit(losses.T)
    assert found.inertia <= 1.01 * reference.inertia_
    own = losses.T - found.centres[found.members]
    assert found.inertia == pytest.approx((own**2).sum())


def test_clusters_repeat_with_the_same_seed():
    losses = np.random.default_rng(2).gamma(2.0, size=(5, 200))
    first, second = (compare.cluster_curves(losses, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.members, second.members)
    np.testing.assert_array_equal(first.centres, second.centres)


def test_curves_that_are_not_finite_belong_to_no_cluster(three_kinds):
    losses, kind = three_kinds
    losses[2, 4], losses[3, 9] = np.nan, np.inf
    found = compare.cluster_curves(losses)
    assert found.members[[4, 9]].tolist() == [-1, -1]
    assert found.sizes.sum() == 58
    others = np.delete(np.arange(60), [4, 9])
    np.testing.assert_array_equal(found.members[others], 2 - kind[others])


TRENDS = [
    ([1.0, 1.0, 1.0], "flat"),
    ([0.0, 0.0, 0.0], "flat"),
    ([1.04, 1.0, 0.96], "flat"),  # falls by 0.08 of its level
    ([1.06, 1.0, 0.94], "decreasing"),  # by 0.12
    ([0.94, 1.0, 1.06], "increasing"),
    ([3.2, 3.4, 3.7, 3.9], "increasing"),
    ([3.2, 3.25, 3.3], "flat"),
    ([1.0, 3.0, 1.0], "flat"),
    ([2.1, 2.1, 2.3, 2.5, 2.6, 2.6, 2.6, 2.4, 2.3, 2.0, 2.0, 1.9], "flat"),  # up, then down
    ([2.0, 0.5, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01, 0.01, 0.01], "decreasing"),  # soon, then little
    ([-1.0, -2.0, -3.0], "decreasing"),
    ([5.0], "flat"),
]


@pytest.mark.parametrize(("curve", "trend"), TRENDS)
def test_a_trend_is_a_change_one_way_by_more_than_a_tenth_of_the_level(curve, trend):
    assert compare.cluster_curves(np.array([curve]).T, k=1).trends == (trend,)


def test_more_clusters_than_distinct_curves_are_refused():
    losses = np.array([[1, 1, 2, 2, np.nan], [1, 1, 2, 2, 1]])
    text = (
        "k: must be at most 2, the number of distinct finite curves, got 3. Choose fewer clusters."
    )
    with pytest.raises(ParameterError, match=message(text)):
        compare.cluster_curves(losses, k=3)


def test_no_clusters_are_refused():
    text = "k: must be positive, got 0. Pass 3, for instance."
    with pytest.raises(ParameterError, match=message(text)):
        compare.cluster_curves(np.ones((2, 2)), k=0)


def test_curves_without_steps_are_refused():
    text = "losses: must have shape (steps, samples), got (3,). Stack the steps."
    with pytest.raises(ParameterError, match=message(text)):
        compare.cluster_curves([1.0, 2.0, 3.0])


def test_many_curves_are_clustered_as_few_are():
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=12_000)
    curves = np.array([[4, 4, 4], [3, 2, 1], [1, 0.5, 0.1]], dtype=float)[group].T
    found = compare.cluster_curves(curves + rng.normal(scale=0.1, size=curves.shape))
    assert found.sizes.tolist() == np.bincount(group).tolist()
    np.testing.assert_array_equal(found.members, group)


def test_curves_that_differ_late_are_told_apart():
    losses = np.zeros((2, 3000))
    losses[:, 2990:] = 1.0
    found = compare.cluster_curves(losses, k=2)
    assert found.sizes.tolist() == [10, 2990]
