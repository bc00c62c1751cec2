"""How steps are spread over files, whatever number of them comes at once."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actiontrack.recorder.packing import Limits, ranges, tail_to_merge

MERGED = 16
SOME = settings(deadline=None)
LIMITS = st.builds(
    lambda large, more: Limits(large, large * more), st.integers(1, 600), st.integers(2, 5)
)
ARRIVALS = st.lists(st.integers(1, 3) | st.integers(1, 1000), min_size=1, max_size=200)


class Files:
    """Files as lists of steps, with how often each step was written."""

    def __init__(self, limits):
        self.limits, self.files, self.n_steps = limits, [], 0
        self.written = {}

    def arrive(self, count, *, all_small=False):
        new = list(range(self.n_steps, self.n_steps + count))
        self.n_steps += count
        self._append(new, all_small=all_small)

    def _append(self, new, *, all_small):
        n_merged = tail_to_merge(
            [*map(len, self.files)], self.limits, n_new=len(new), all_small=all_small
        )
        merged = [step for file in self.files[len(self.files) - n_merged :] for step in file]
        del self.files[len(self.files) - n_merged :]
        self._write(merged + new)
        if n_merged:
            self._append([], all_small=all_small)

    def _write(self, steps):
        for part in ranges(len(steps), self.limits):
            self.files.append(steps[part.start : part.stop])
            for step in self.files[-1]:
                self.written[step] = self.written.get(step, 0) + 1


def after(arrivals, limits):
    files = Files(limits)
    for count in arrivals:
        files.arrive(count)
    return files


@SOME
@given(ARRIVALS, LIMITS)
def test_the_order_of_the_steps_stays(arrivals, limits):
    files = after(arrivals, limits)
    assert [step for file in files.files for step in file] == list(range(sum(arrivals)))


@SOME
@given(ARRIVALS, LIMITS)
def test_every_step_is_written_about_as_often_as_the_logarithm_says(arrivals, limits):
    files = after(arrivals, limits)
    levels = math.log(limits.large, MERGED)
    assert max(files.written.values()) <= 3 + math.floor(levels)


@SOME
@given(ARRIVALS, LIMITS)
def test_small_files_are_at_most_fifteen_of_each_size(arrivals, limits):
    files = Files(limits)
    levels = math.floor(math.log(limits.large, MERGED)) + 1
    for count in arrivals:
        files.arrive(count)
        small = [file for file in files.files if len(file) < limits.large]
        assert len(small) <= (MERGED - 1) * levels


@SOME
@given(ARRIVALS, LIMITS)
def test_at_the_end_all_files_but_one_are_large(arrivals, limits):
    files = after(arrivals, limits)
    files.arrive(0, all_small=True)
    sizes = [len(file) for file in files.files]
    assert sum(size < limits.large for size in sizes) <= 1
    assert max(sizes) <= max(limits.largest, 1)
    assert len(sizes) <= 1 + sum(arrivals) / limits.large


@SOME
@given(ARRIVALS, LIMITS)
def test_what_was_brought_to_an_end_twice_is_the_same(arrivals, limits):
    files = after(arrivals, limits)
    files.arrive(0, all_small=True)
    before = [list(file) for file in files.files]
    files.arrive(0, all_small=True)
    files.arrive(0)
    assert files.files == before


@SOME
@given(ARRIVALS, LIMITS)
def test_a_large_file_is_left_as_it_is(arrivals, limits):
    files = Files(limits)
    large = []
    for count in arrivals:
        files.arrive(count)
        now = [file for file in files.files if len(file) >= limits.large]
        assert now[: len(large)] == large
        large = now


@SOME
@given(st.integers(0, 10**5), LIMITS)
def test_files_of_one_batch_are_as_few_and_as_equal_as_they_can_be(n_steps, limits):
    parts = ranges(n_steps, limits)
    assert sum(len(part) for part in parts) == n_steps
    assert len(parts) == math.ceil(n_steps / limits.largest)
    sizes = {len(part) for part in parts}
    assert not sizes or max(sizes) - min(sizes) <= 1
    ends = [0, *(part.stop for part in parts)]
    assert [part.start for part in parts] == ends[:-1]


@pytest.mark.parametrize(
    ("n_samples", "large", "largest"),
    [
        (1, 4096, 8192),  # never so many steps that a footer grows long
        (1000, 1048, 4194),
        (10_000, 104, 419),  # 4 and 16 MiB of float32
        (50_000, 20, 83),
        (10**6, 16, 32),  # never so few steps that they do not compress
        (10**8, 16, 32),
    ],
)
def test_limits_follow_the_number_of_samples(n_samples, large, largest):
    assert Limits.of(n_samples) == Limits(large, largest)


@SOME
@given(st.integers(0, 2**31 - 1))
def test_a_file_may_always_be_large(n_samples):
    limits = Limits.of(n_samples)
    assert 16 <= limits.large <= limits.largest
    assert 2 * limits.large <= limits.largest
