"""`actiontrack metadata` and `actiontrack slices`."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from actiontrack.testing import make_history


@pytest.fixture
def history():
    return make_history(n_steps=2, n_samples=400, n_classes=2)


@pytest.fixture
def attributes(tmp_path, history):
    """A file whose "night" holds the harder half of the samples of each class."""
    action = history.losses.astype(float).sum(axis=0)
    ranks = pd.Series(action).groupby(history.labels).rank(pct=True)
    light = np.where(ranks > 0.5, "night", "day")
    path = tmp_path / "attributes.csv"
    frame = pd.DataFrame({"id": history.sample_ids, "light": light, "wet": action > 0})
    frame.to_csv(path, index=False)
    return path


def test_attributes_are_kept_and_printed(run_cli, two_runs, attributes):
    code, _, err = run_cli("metadata", "--run", two_runs[0], "--file", str(attributes))
    assert (code, "400 of 400 samples have attributes now" in err) == (0, True)
    _, out, _ = run_cli("metadata", "--run", two_runs[0], "--format", "csv")
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(out)).rename(columns={"sample_id": "id"}),
        pd.read_csv(attributes),
    )


def test_slices_by_what_is_kept_are_those_by_the_file(run_cli, two_runs, attributes):
    run_cli("metadata", "--run", two_runs[0], "--file", str(attributes))
    _, kept, err = run_cli("slices", "--run", two_runs[0], "--format", "csv")
    _, of_file, _ = run_cli(
        "slices", "--run", two_runs[0], "--file", str(attributes), "--format", "csv"
    )
    assert kept == of_file
    first = pd.read_csv(io.StringIO(kept)).iloc[0]
    assert (first["slice"], first["p_harder"]) == ("light = night", 1.0)
    assert f"The hardest is light = night ({first['n']} samples)" in err
    assert "Left out: the column 'wet' has one group only" in err


def test_options_choose_columns_kinds_and_size(run_cli, two_runs, attributes):
    code, out, _ = run_cli(
        "slices", "--run", two_runs[0], "--file", str(attributes), "--column", "light",
        "--no-pairs", "--fdr", "1", "--kind", "light=category", "--format", "csv",
    )  # fmt: skip
    assert code == 0
    assert set(pd.read_csv(io.StringIO(out))["slice"]) == {"light = day", "light = night"}


def test_classes_are_parted_without_attributes(run_cli, two_runs):
    _, out, _ = run_cli("slices", "--run", two_runs[0], "--early", "2", "--format", "csv")
    table = pd.read_csv(io.StringIO(out))
    assert set(table["class"]) == {"class 0", "class 1"}
    _, out, _ = run_cli(
        "slices", "--run", two_runs[0], "--early", "2", "--samples", "--format", "csv"
    )
    samples = pd.read_csv(io.StringIO(out))
    assert samples["is_minority"].sum() == table["n_minority"].sum()


def test_a_table_without_slices_says_so(run_cli, two_runs, attributes, tmp_path):
    rows = pd.read_csv(attributes)
    rows["light"] = np.where(rows["id"] % 2, "night", "day")
    rows.to_csv(tmp_path / "chance.csv", index=False)
    code, out, err = run_cli("slices", "--run", two_runs[0], "--file", str(tmp_path / "chance.csv"))
    assert (code, out) == (0, "no rows\n")
    assert "0 are harder and 0 easier" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--kind", "light"], "error: --kind: must be COLUMN=KIND, got 'light'."),
        (["--kind", "light=colour"], "error: kinds: must be one of"),
        (["--samples"], "error: --samples: goes with --early only"),
        (["--early", "3"], "error: --early: goes without attributes"),
        (["--column", "weather"], "error: columns (--column): must come from light, wet"),
    ],
)
def test_wrong_usage_is_one_line(run_cli, two_runs, attributes, arguments, text):
    code, _, err = run_cli("slices", "--run", two_runs[0], "--file", str(attributes), *arguments)
    assert code == 2
    assert err.startswith(text)


def test_the_search_finds_the_harder_half(run_cli, two_runs, attributes):
    code, out, err = run_cli(
        "slices", "--run", two_runs[0], "--file", str(attributes), "--search", "3",
        "--format", "csv",
    )  # fmt: skip
    assert code == 0
    first = pd.read_csv(io.StringIO(out)).iloc[0]
    assert (first["slice"], first["p_harder"]) == ("light = night", 1.0)
    assert "The hardest is light = night" in err


def test_the_search_and_the_early_parts_exclude_each_other(run_cli, two_runs):
    code, _, err = run_cli("slices", "--run", two_runs[0], "--search", "2", "--early", "3")
    assert (code, "Leave out --file, --column, --kind and --search" in err) == (2, True)


def test_properties_of_images_are_kept_by_their_ids(run_cli, two_runs, tmp_path, history):
    for sample_id in history.sample_ids[:100].tolist():
        Image.new("L", (4, 4), sample_id).save(tmp_path / f"{sample_id}.png")
    code, _, err = run_cli("metadata", "--run", two_runs[0], "--from-images", str(tmp_path))
    assert (code, "400 of 400 samples have attributes now" in err) == (0, True)
    _, out, _ = run_cli("metadata", "--run", two_runs[0], "--format", "csv")
    brightness = pd.read_csv(io.StringIO(out)).set_index("sample_id")["brightness"]
    assert brightness[51] == pytest.approx(0.2)
    assert brightness.count() == 100


def test_images_and_a_file_are_kept_one_after_the_other(run_cli, two_runs, attributes):
    code, _, err = run_cli(
        "metadata", "--run", two_runs[0], "--file", str(attributes), "--from-images"
    )
    assert (code, "goes without --file" in err) == (2, True)


@pytest.fixture
def changed_slices(run_cli, two_runs, attributes):
    """A function that compares the first run with the second, by slice."""
    run_cli("metadata", "--run", two_runs[0], "--file", str(attributes))
    sets = ("--before", two_runs[0], "--after", two_runs[1])
    return lambda *options: run_cli("changed", *sets, *options, "--format", "csv")


def test_changed_prints_slices_beside_the_sentence_on_them(changed_slices):
    code, out, err = changed_slices("--slices")
    assert code == 0
    table = pd.read_csv(io.StringIO(out))
    assert {"light = night", "light = day"} <= set(table["slice"])
    assert "slices 0 became harder" in err
    assert "train two runs or more of either" in err


def test_a_slice_that_became_harder_fails_a_pipeline(changed_slices):
    _, out, _ = changed_slices("--slices")
    most = pd.read_csv(io.StringIO(out))["change"].max()
    code, _, err = changed_slices("--slices", "--slice-threshold", str(max(most - 1e-6, 0)))
    assert (code, "slices that are harder by more than" in err) == (10, True)
    code, _, _ = changed_slices("--slices", "--slice-threshold", str(most + 0.01))
    assert code == 0


def test_a_threshold_of_slices_without_slices_is_refused(changed_slices):
    code, _, err = changed_slices("--slice-threshold", "0.1")
    assert (code, "goes with --slices only" in err) == (2, True)


def test_a_record_without_features_has_no_parts(run_cli, two_runs):
    code, _, err = run_cli("metadata", "--run", two_runs[0], "--from-features", "3")
    assert (code, "features" in err) == (4, True)
