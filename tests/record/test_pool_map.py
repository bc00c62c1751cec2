"""Pooling of maps of pixel actions."""

import numpy as np
import pytest

from actiontrack.record.maps import pool_map


@pytest.mark.parametrize(("factor", "shape"), [(1, (5, 7)), (2, (3, 4)), (7, (1, 1)), (9, (1, 1))])
def test_pooling_takes_the_mean_of_what_is_in_each_block(factor, shape):
    values = np.random.default_rng(2).normal(size=(5, 7))
    values[0, 0] = np.nan
    pooled = pool_map(values, factor)
    assert pooled.shape == shape
    for row, column in np.ndindex(shape):
        block = values[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        if np.isnan(block).all():
            assert np.isnan(pooled[row, column])
        else:
            assert pooled[row, column] == pytest.approx(np.nanmean(block), rel=1e-6)
