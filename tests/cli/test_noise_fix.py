"""`actiontrack noise --fix`: from a record to corrected labels."""

import io

import numpy as np
import pandas as pd
import pytest
from mislabelled import N_SAMPLES, TRUTH, WRONG, mislabelled_history

NAMES = np.array(["ant", "bee", "cat"])


@pytest.fixture
def mislabelled(recorded_history):
    return recorded_history(mislabelled_history(), "m")


def test_suspects_are_printed_without_true_labels_and_counted(run_cli, mislabelled):
    code, out, err = run_cli("noise", "--fix", "--run", mislabelled, "--format", "csv")
    assert code == 0
    frame = pd.read_csv(io.StringIO(out))
    assert sorted(frame["sample_id"]) == WRONG.tolist()
    assert frame["suggested_class"].tolist() == NAMES[TRUTH[frame["sample_id"]]].tolist()
    assert err.splitlines() == [
        f"About 20 of {N_SAMPLES} labels are wrong (20 to 20).", "20 labels are suspect.",
    ]  # fmt: skip


def test_a_terminal_gets_the_first_twenty(run_cli, mislabelled):
    _, out, err = run_cli("noise", "--fix", "--run", mislabelled, "--at-least", "0")
    assert len(out.splitlines()) == 1 + 20
    assert "verdict" not in out.splitlines()[0]
    assert err.splitlines()[-1] == (
        f"{N_SAMPLES} labels are suspect, of which these are the first 20; --output FILE has all."
    )


def test_a_file_gets_all_of_them(run_cli, mislabelled, tmp_path):
    words = ("--at-least", "0", "--format", "csv", "--output", str(tmp_path / "fixes.csv"))
    assert run_cli("noise", "--fix", "--run", mislabelled, *words)[0] == 0
    assert len(pd.read_csv(tmp_path / "fixes.csv")) == N_SAMPLES


def test_corrected_labels_are_written_as_trainings_read_them(run_cli, mislabelled, tmp_path):
    path = tmp_path / "fixed.csv"
    code, out, err = run_cli(
        "noise", "--fix", "--run", mislabelled, "--format", "csv", "--labels", str(path)
    )
    assert code == 0
    assert str(path) not in out
    assert err.splitlines()[-1] == str(path)
    frame = pd.read_csv(path)
    assert frame.columns.tolist() == ["id", "label"]
    assert dict(zip(frame["id"], frame["label"], strict=True)) == dict(enumerate(NAMES[TRUTH]))


def test_labels_are_fixed_by_the_steps_before_they_were_learnt_by_heart(run_cli, recorded_history):
    run_id = recorded_history(mislabelled_history(by_heart=True), "m")
    _, out, err = run_cli("noise", "--fix", "--run", run_id, "--format", "csv")
    assert len(out.splitlines()) < 1 + len(WRONG)
    assert "The range is wide" in err
    _, out, _ = run_cli("noise", "--fix", "--run", run_id, "--up-to", "2", "--format", "csv")
    assert sorted(pd.read_csv(io.StringIO(out))["sample_id"]) == WRONG.tolist()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--fix", "-k", "3"), "--fix prints suspects: leave -k, --each and --plot out."),
        (("--at-least", "0.9"), "--at-least and --labels go with --fix."),
        (("--labels", "fixed.csv"), "--at-least and --labels go with --fix."),
    ],
)
def test_options_that_do_not_go_together_are_refused(run_cli, mislabelled, words, text):
    code, _, err = run_cli("noise", "--run", mislabelled, *words)
    assert code == 2
    assert err.endswith(f"Error: {text}\n")


def test_a_record_of_an_earlier_version_is_refused_in_one_line(run_cli, recorded_history):
    run_id = recorded_history(mislabelled_history(without=("largest_other",)), "m")
    code, out, err = run_cli("noise", "--fix", "--run", run_id)
    assert (code, out) == (4, "")
    assert err.endswith("can't tell which labels are wrong. Train again with this version.\n")
