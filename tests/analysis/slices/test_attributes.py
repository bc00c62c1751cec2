"""Columns of metadata: of which kind they are, and the groups that they form."""

import numpy as np
import pandas as pd
import pytest
from helpers import message

from actiontrack.analysis.slices import MISSING, checked_metadata
from actiontrack.analysis.slices.attributes import attribute
from actiontrack.errors import DataError, ParameterError
from actiontrack.record.attributes import kind_of


def typed(values, **options):
    frame = pd.DataFrame({"sample_id": range(len(values)), "column": values})
    return checked_metadata(frame, **options)["column"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["night", "day", None], "category"),
        (["true", "False", None], "boolean"),
        ([True, False, True], "boolean"),
        ([1, 2, 3], "number"),
        ([0.5, None, 2.0], "number"),
        (["2026-11-30", "2026-11-30T12:00:00Z"], "time"),
        (pd.to_datetime(["2026-11-30", None]), "time"),
        (pd.Categorical(["a", "b"]), "category"),
        ([1, None, True], "number"),
        (["007", "1"], "category"),
    ],
)
def test_a_column_is_of_the_kind_of_its_values(values, kind):
    assert kind_of(typed(values)) == kind


def test_a_kind_may_be_chosen_and_stays():
    frame = pd.DataFrame({"sample_id": [1, 2], "camera": [7, 8]})
    once = checked_metadata(frame, kinds={"camera": "category"})
    assert checked_metadata(once)["camera"].tolist() == ["7", "8"]


def test_categories_are_groups_in_order_and_missing_values_one_of_their_own():
    groups = attribute(typed(["night", None, "day", "night"]), bins=5)
    assert groups.groups == ("day", "night", MISSING)
    assert groups.codes.tolist() == [1, 2, 0, 1]


def test_numbers_are_cut_into_bins_of_equal_size():
    values = np.random.default_rng(0).permutation(100).astype(float)
    groups = attribute(typed(values), bins=4)
    assert groups.groups == ("0 to 25 (excl.)", "25 to 50 (excl.)", "50 to 75 (excl.)", "75 to 99")
    np.testing.assert_array_equal(groups.codes, values // 25)


def test_the_samples_of_a_bin_are_those_that_its_name_says():
    values = np.random.default_rng(1).gamma(1.0, size=500).round(2)
    groups = attribute(typed(values), bins=5)
    for code, name in enumerate(groups.groups):
        low, high = (float(word) for word in name.removesuffix(" (excl.)").split(" to "))
        inside = (values >= low) & ((values < high) if "excl" in name else (values <= high))
        np.testing.assert_array_equal(groups.codes == code, inside)


def test_the_few_samples_without_the_common_value_are_a_bin():
    rare = np.arange(1.0, 13.0)
    groups = attribute(typed(np.append(np.zeros(488), rare)), bins=5)
    assert groups.groups == ("0 to 1 (excl.)", "1 to 12")
    assert np.bincount(groups.codes).tolist() == [488, 12]
    groups = attribute(typed(np.append(np.full(488, 12.0), rare - 1)), bins=5)
    assert groups.groups == ("0 to 12 (excl.)", "12")
    assert np.bincount(groups.codes).tolist() == [12, 488]


def test_a_category_called_missing_is_not_that_of_samples_without_a_value():
    groups = attribute(typed(["missing", None, "day", "day"]), bins=5)
    assert groups.groups == ("day", "missing", "missing (no value)")
    assert groups.codes.tolist() == [1, 2, 0, 0]


def test_few_numbers_are_groups_themselves():
    groups = attribute(typed([3, 1, 3, 2, 1]), bins=5)
    assert groups.groups == ("1", "2", "3")
    assert groups.codes.tolist() == [2, 0, 2, 1, 0]


def test_times_are_cut_into_bins_named_by_day():
    days = pd.date_range("2026-01-01", periods=100, tz="UTC")
    groups = attribute(typed(days), bins=2)
    assert groups.groups == ("2026-01-01 to 2026-02-20 (excl.)", "2026-02-20 to 2026-04-10")
    assert np.bincount(groups.codes).tolist() == [50, 50]


def test_infinite_numbers_are_in_the_outer_bins():
    values = np.append(np.arange(50.0), [np.inf, -np.inf])
    codes = attribute(typed(values), bins=2).codes
    assert (codes[-2], codes[-1]) == (1, 0)


def test_booleans_are_two_groups():
    assert attribute(typed([True, False, True]), bins=5).groups == ("false", "true")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            ["a", "a", "a"],
            "the column 'column' has one group only (a): there is nothing to compare.",
        ),
        (
            ["a", "b", "c"],
            (
                "the column 'column' has as many values as rows (3): it names samples, and no "
                "slice. Leave it out."
            ),
        ),
    ],
)
def test_a_column_that_forms_no_groups_is_refused(values, text):
    with pytest.raises(DataError, match=message(text)):
        attribute(typed(values), bins=5)


@pytest.mark.parametrize(
    ("frame", "options", "text"),
    [
        (
            {"sample_id": [1, 1], "a": ["x", "y"]},
            {},
            "metadata names the sample '1' twice. Keep one row of each sample.",
        ),
        ({"sample_id": [1]}, {}, "metadata has no column beside the ids. Add one."),
        (
            {"sample_id": [1], "a": [["x"]]},
            {},
            "metadata holds lists in the column 'a'. Give them a column each.",
        ),
        (
            {"sample_id": [1], "a": ["x" * 201]},
            {},
            (
                "metadata holds texts of more than 200 characters in the column 'a'. Leave it "
                "out, or shorten them."
            ),
        ),
        (
            {"sample_id": [1], "a": ["maybe"]},
            {"kinds": {"a": "boolean"}},
            "metadata: the column 'a' is no boolean: 'maybe' is neither true nor false.",
        ),
    ],
)
def test_what_no_attribute_may_be_is_refused(frame, options, text):
    with pytest.raises(DataError, match=message(text)):
        checked_metadata(pd.DataFrame(frame), **options)


def test_the_reason_why_a_column_is_no_time_is_one_line():
    frame = pd.DataFrame({"sample_id": [1], "a": ["yesterday"]})
    with pytest.raises(DataError, match=r"^metadata: the column 'a' is no time: [^\n]*\.$"):
        checked_metadata(frame, kinds={"a": "time"})


def test_a_frame_without_ids_and_a_kind_of_no_column_are_refused():
    with pytest.raises(ParameterError, match="must be a frame with the column sample_id"):
        checked_metadata(pd.DataFrame({"a": [1]}))
    frame = pd.DataFrame({"sample_id": [1], "a": [1]})
    with pytest.raises(ParameterError, match="kinds: must be of a, got 'b'"):
        checked_metadata(frame, kinds={"b": "number"})
