"""Facts about projects/datasets/stratify.py."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from projects.datasets.stratify import allocate, stratified_subset


def rng():
    return np.random.default_rng(0)


@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(sum),
    part=st.floats(0, 1),
)
def test_shares_sum_to_the_total_and_are_within_1_of_their_proportion(counts, part):
    sizes = np.array(counts, dtype=np.int64)
    total = round(part * sum(counts))
    shares = allocate(sizes, total)
    assert shares.sum() == total
    assert (np.abs(shares - sizes * total / sizes.sum()) < 1).all()
    assert (shares <= sizes).all()


def test_the_largest_remainders_get_what_is_left():
    # 10 of (5, 3, 3): exact shares 4.55, 2.73, 2.73
    assert allocate(np.array([5, 3, 3]), 10).tolist() == [4, 3, 3]


def subset(total, *, seed=0, ids=None):
    ids = np.arange(300) if ids is None else ids
    return stratified_subset(ids, ids % 3, n_classes=3, total=total, seed=seed)


def test_a_smaller_subset_lies_inside_a_larger_one():
    assert set(subset(30)) < set(subset(60))


def test_a_subset_is_in_the_order_of_the_whole():
    assert (np.diff(subset(60)) > 0).all()


def test_a_subset_depends_on_the_ids_and_not_on_their_order():
    ids = np.arange(300)
    shuffled = rng().permutation(ids)
    assert set(shuffled[subset(30, ids=shuffled)]) == set(ids[subset(30)])


def test_another_seed_chooses_another_subset():
    assert set(subset(30, seed=1)) != set(subset(30))


def test_a_subset_is_spread_over_the_whole():
    assert np.histogram(subset(90), bins=3, range=(0, 300))[0].min() > 15
