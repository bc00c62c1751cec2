"""Half precision by another road: NumPy's float16 has as many significant bits, and less range."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actiontrack.recorder.precision import at_precision

SMALLEST, LARGEST = 2.0**-14, 65504.0  # normal numbers of float16
SOME = settings(deadline=None)
NORMAL = st.floats(SMALLEST, LARGEST, width=32) | st.floats(-LARGEST, -SMALLEST, width=32)


def half(values):
    return at_precision({"loss": np.float32(values)}, "half")["loss"]


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@SOME
@given(hnp.arrays(np.float32, st.integers(1, 50), elements=NORMAL))
def test_normal_numbers_of_float16_are_rounded_as_it_rounds(values):
    assert_same_bits(half(values), values.astype(np.float16).astype(np.float32))


def test_every_number_of_float16_stays_as_it_is():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    normal = every[np.isfinite(every) & (np.abs(every) >= SMALLEST)].astype(np.float32)
    assert normal.size == 2 * 30 * 2**10
    assert_same_bits(half(normal), normal)


@pytest.mark.parametrize("low", [0, 1])
def test_what_lies_in_the_middle_goes_to_the_even_neighbour(low):
    values = np.float32([1 + low * 2.0**-10, 1 + (low + 1) * 2.0**-10])
    even = values[low]  # an even number of steps of 2**-10
    assert half([values.mean(dtype=np.float64)]) == [even]


@SOME
@given(st.floats(1, 2, width=32), st.integers(-112, 126))
def test_the_error_is_as_small_at_every_magnitude(value, exponent):
    value = float(np.float32(value))
    scaled = np.ldexp(np.float32(value), exponent)
    expected = np.ldexp(np.float64(np.float16(value)), exponent)
    if np.isfinite(np.float32(expected)):
        assert half([scaled])[0] == expected


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF])
def test_what_is_no_number_stays_bit_by_bit(bits):
    values = np.array([bits], dtype=np.uint32).view(np.float32)
    assert_same_bits(half(values), values)


def test_infinite_and_huge_numbers_stay_what_they_are():
    largest = np.finfo(np.float32).max
    values = np.float32([np.inf, -np.inf, largest, -largest, 0.0, -0.0])
    assert_same_bits(half(values), values)


@SOME
@given(st.integers(1, 2**23 - 1), st.sampled_from([0, 2**31]))
def test_subnormal_numbers_move_by_at_most_half_of_the_last_bit_that_is_left(bits, sign):
    value = np.array([bits + sign], dtype=np.uint32).view(np.float32)
    rounded = int(half(value).view(np.uint32)[0]) - sign
    assert rounded % 2**13 == 0
    assert abs(rounded - bits) <= 2**12


def test_a_mask_stays_and_so_does_the_column():
    column = np.ma.MaskedArray(np.float32([1.0001, 2.0001, 3.0001]), [False, True, False])
    before = column.copy()
    rounded = at_precision({"loss": column}, "half")["loss"]
    assert rounded.tolist() == [1.0, None, 3.0]
    np.testing.assert_array_equal(column.data, before.data)


def test_only_numbers_of_float32_are_rounded():
    columns = {"correct": np.array([True]), "predicted": np.int32([2**24 + 1])}
    columns["fine"] = np.float64([1.0001])
    rounded = at_precision(columns, "half")
    assert all(rounded[name] is column for name, column in columns.items())


def test_full_precision_changes_nothing():
    column = np.float32([1.0001])
    assert at_precision({"loss": column}, "full")["loss"] is column
