"""`actiontrack agreement`: scores beside difficulty from outside."""

import io

import numpy as np
import pandas as pd
import pytest
from scipy import stats


@pytest.fixture
def entropy_file(tmp_path):
    """A table of 30 ids and two columns of values, in descending order of the ids."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"id": range(30), "entropy": rng.random(30), "seconds": rng.random(30)})
    path = tmp_path / "difficulty.csv"
    frame.iloc[::-1].to_csv(path, index=False)
    return path, frame


def test_every_run_measure_and_class_has_a_row_with_an_interval(
    run_cli, two_runs, experiment, entropy_file, history
):
    path, outside = entropy_file
    code, out, err = run_cli(
        "agreement", "--experiment", experiment, "--with", str(path), "--format", "csv",
        "--bootstrap", "50",
    )  # fmt: skip
    frame = pd.read_csv(io.StringIO(out))
    assert (code, len(frame)) == (0, 2 * 2 * 5)
    assert set(frame["run_id"]) == set(two_runs)
    row = frame.query(
        f"run_id == '{two_runs[0]}' and outside == 'entropy' and `class` == 'overall'"
    )
    action = history.losses.astype(float).sum(axis=0)
    expected = stats.spearmanr(action, outside["entropy"]).statistic
    assert row["value"].item() == pytest.approx(expected)
    assert (frame["ci_low"] <= frame["value"]).all()
    assert (frame["value"] <= frame["ci_high"]).all()
    assert err.startswith("Spearman's ρ with entropy, of which high is hard, over 30 samples in ")


def test_options_choose_column_direction_and_scores(run_cli, two_runs, entropy_file, history):
    path, outside = entropy_file
    _, out, err = run_cli(
        "agreement", "--run", two_runs[0], "--with", str(path), "--value", "seconds",
        "--high-is-easy", "--score", "action", "--score", "aum", "--pearson", "--bootstrap", "0",
        "--format", "csv",
    )  # fmt: skip
    frame = pd.read_csv(io.StringIO(out)).query("`class` == 'overall'")
    assert set(frame["outside"]) == {"seconds"}
    values = frame.set_index(["score", "method"])["value"]
    action = history.losses.astype(float).sum(axis=0)
    assert values["action", "pearson"] == pytest.approx(
        -np.corrcoef(action, outside["seconds"])[0, 1]
    )
    assert ("aum", "spearman") in values.index
    assert "of which low is hard" in err


def test_all_stands_for_every_score_that_orders_samples(run_cli, two_runs, entropy_file):
    words = ("--score", "all", "--bootstrap", "0", "--format", "csv")
    _, out, _ = run_cli("agreement", "--run", two_runs[0], "--with", str(entropy_file[0]), *words)
    scores = set(pd.read_csv(io.StringIO(out))["score"])
    assert {"action", "aum", "forgetting"} <= scores
    assert not {"predicted", "correct", "n_steps"} & scores


def test_a_table_for_people_has_no_empty_columns(run_cli, two_runs, entropy_file):
    words = ("--run", two_runs[0], "--with", str(entropy_file[0]), "--bootstrap", "0")
    _, out, _ = run_cli("agreement", *words)
    head = out.splitlines()[0].split()
    assert not {"ci_low", "same_model", "disattenuated", "run_id"} & set(head)
    assert {"run_name", "class", "value", "n_samples"} <= set(head)


def test_the_ranks_are_drawn(run_cli, two_runs, entropy_file, tmp_path):
    code, _, err = run_cli(
        "agreement", "--run", two_runs[0], "--with", str(entropy_file[0]), "--bootstrap", "0",
        "--plot", str(tmp_path / "ranks"),
    )  # fmt: skip
    assert code == 0
    assert str(tmp_path / "ranks.png") in err
    assert (tmp_path / "ranks.png").stat().st_size > 1000


def test_values_by_position_are_refused_in_words(run_cli, two_runs, tmp_path):
    path = tmp_path / "cscores.npz"
    np.savez(path, scores=np.arange(30.0))
    code, out, err = run_cli("agreement", "--run", two_runs[0], "--with", str(path))
    assert (code, out) == (2, "")
    assert err.startswith("error: file: must name the sample of each value, got 'cscores.npz'.")


def test_ids_that_meet_nowhere_end_with_exit_code_5(run_cli, two_runs, tmp_path):
    path = tmp_path / "difficulty.csv"
    path.write_text("id,value\ncat/1.jpg,1\n")
    code, _, err = run_cli("agreement", "--run", two_runs[0], "--with", str(path))
    assert code == 5
    assert "their ids look like '0', those of the table like 'cat/1.jpg'." in err


def test_a_table_without_numbers_ends_with_exit_code_8(run_cli, two_runs, tmp_path):
    path = tmp_path / "difficulty.csv"
    path.write_text("id,value\n1,many\n")
    assert run_cli("agreement", "--run", two_runs[0], "--with", str(path))[0] == 8


def test_a_missing_file_is_wrong_usage(run_cli, two_runs, tmp_path):
    code, _, err = run_cli("agreement", "--run", two_runs[0], "--with", str(tmp_path / "none.csv"))
    assert code == 2
    assert "none.csv" in err
