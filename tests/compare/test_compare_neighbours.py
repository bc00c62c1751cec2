import numpy as np
import pytest
from helpers import message

from actiontrack import compare
from actiontrack.compare import neighbours
from actiontrack.errors import ParameterError


@pytest.mark.parametrize("chunk", [1, 2**19])
def test_neighbours_equal_those_of_scikit_learn(chunk, monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    monkeypatch.setattr(neighbours, "_DISTANCES_AT_ONCE", chunk)
    features = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    queries = [3, 70, 3]
    where, distance = compare.nearest_neighbours(features, queries, k=6)
    reference = NearestNeighbors(n_neighbors=7, algorithm="brute").fit(features.astype(float))
    expected, positions = reference.kneighbors(features[queries].astype(float))
    np.testing.assert_array_equal(where, positions[:, 1:])
    np.testing.assert_allclose(distance, expected[:, 1:], atol=1e-6)
    assert distance.dtype == np.float64


def test_neighbours_at_the_same_distance_come_in_order_of_position():
    where, distance = compare.nearest_neighbours([[0.0], [1.0], [0.0], [-1.0], [0.0]], [0], k=4)
    assert where.tolist() == [[2, 4, 1, 3]]
    assert distance.tolist() == [[0.0, 0.0, 1.0, 1.0]]


WRONG_NEIGHBOURS = {
    "features: must have shape (samples, D), got (3,). Pass one feature vector per sample.": (
        [1.0, 2.0, 3.0], [0], 1
    ),
    "features: must be finite, got 'row 1'. Leave such samples out.": (
        [[1.0], [np.nan], [2.0]], [0], 1
    ),
    "k: must lie in 1..2, the number of other samples, got 3. Choose a smaller k.": (
        [[1.0], [2.0], [3.0]], [0], 3
    ),
    "queries: must lie in 0..2, got 3. Pass positions of samples.": (
        [[1.0], [2.0], [3.0]], [0, 3], 1
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "arguments"), WRONG_NEIGHBOURS.items())
def test_wrong_arguments_of_neighbours_are_named(text, arguments):
    features, queries, k = arguments
    with pytest.raises(ParameterError, match=message(text)):
        compare.nearest_neighbours(features, queries, k=k)
