"""What the command line does with records that are damaged or lost."""

import importlib.metadata
import io
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from actiontrack.cli import upkeep
from actiontrack.testing import record_history


def test_a_corrupt_scores_file_is_named_with_exit_code_6(run_cli, two_runs, store):
    root = store.local_root(store.get_run(two_runs[0])) / "actiontrack" / "test-probe"
    content = bytearray((root / "scores.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (root / "scores.parquet").write_bytes(content)
    code, _, err = run_cli("scores", "--run", two_runs[0])
    assert code == 6
    assert err.startswith(f"error: run {two_runs[0]} (")
    assert "scores.parquet of test-probe is truncated or altered" in err


def test_doctor_finds_every_record_whole(run_cli, two_runs, experiment):
    code, out, _ = run_cli("doctor", "--experiment", experiment)
    assert code == 0
    assert out.count("30 samples × 4 steps, complete") == 2


def test_doctor_says_of_torch_alone_that_it_is_for_training(monkeypatch):
    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    rows = {package: (state, detail) for package, state, detail in upkeep._versions()}
    assert rows.pop("torch") == ("ok", "not installed (needed for training)")
    assert rows.pop("python")[0] == rows.pop("actiontrack")[0] == "ok"
    assert set(rows.values()) == {("failed", "not installed")}


def test_doctor_fails_where_a_file_of_losses_is_missing(run_cli, two_runs, experiment, store):
    root = store.local_root(store.get_run(two_runs[0])) / "actiontrack" / "test-probe"
    [losses] = (root / "losses").iterdir()
    losses.unlink()
    code, out, err = run_cli("doctor", "--experiment", experiment)
    assert code == 7
    assert f"losses/{losses.name} is named in the manifest of test-probe but missing" in out
    assert err.startswith(f"error: 1 check failed: {two_runs[0][:8]} test-probe.")


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


DAMAGE = {
    "its folder is gone": shutil.rmtree,
    "its manifest is gone": lambda folder: (folder / "manifest.json").unlink(),
    "its manifest is cut": lambda folder: cut(folder / "manifest.json"),
    "its scores are cut": lambda folder: cut(folder / "scores.parquet"),
    "its scores are gone": lambda folder: (folder / "scores.parquet").unlink(),
    "its samples are gone": lambda folder: (folder / "samples.parquet").unlink(),
    "its losses are cut": lambda folder: cut(*(folder / "losses").iterdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_doctor_fails_and_names_the_record(run_cli, two_runs, experiment, store, damage):
    damage(store.local_root(store.get_run(two_runs[1])) / "actiontrack" / "test-probe")
    code, out, err = run_cli("doctor", "--experiment", experiment, "--format", "csv")
    states = pd.read_csv(io.StringIO(out)).set_index("what")["state"]
    assert states[f"{two_runs[0][:8]} test-probe"] == "ok"
    assert states[f"{two_runs[1][:8]} test-probe"] == "failed"
    assert (code, err) == (7, f"error: 1 check failed: {two_runs[1][:8]} test-probe.\n")


def test_doctor_checks_every_record_of_every_run_and_names_all_that_are_damaged(
    run_cli, two_runs, experiment, store, spool, history
):
    first, second = two_runs
    record_history(replace(history, split="train"), first, store, spool)
    root = store.local_root(store.get_run(first)) / "actiontrack"
    cut(root / "train-probe" / "scores.parquet")
    [losses] = (root / "train-probe" / "losses").iterdir()
    losses.unlink()
    shutil.rmtree(store.local_root(store.get_run(second)) / "actiontrack")
    code, out, err = run_cli("doctor", "--experiment", experiment, "--format", "csv")
    rows = pd.read_csv(io.StringIO(out)).set_index("what")
    assert rows.loc[f"{first[:8]} test-probe", "state"] == "ok"
    detail = rows.loc[f"{first[:8]} train-probe", "detail"]
    assert "scores.parquet of train-probe is truncated" in detail
    assert f"losses/{losses.name} is named" in detail
    assert code == 7
    names = {f"{first[:8]} train-probe", f"{second[:8]} test-probe"}
    assert set(err.partition("failed: ")[2].rstrip(".\n").split(", ")) == names


def test_doctor_of_an_experiment_that_does_not_exist_fails(run_cli, two_runs):
    code, out, err = run_cli("doctor", "--experiment", "nope")
    assert (code, err) == (7, "error: 1 check failed: records.\n")
    assert "no experiment 'nope'" in out


def test_doctor_of_an_experiment_without_runs_finds_nothing_wrong(run_cli, experiment):
    code, out, _ = run_cli("doctor", "--experiment", experiment)
    assert code == 0
    assert "no run with a record matches" in out


@pytest.fixture
def damaged(two_runs, store):
    """Two runs, of which the second has a truncated score table."""
    folder = store.local_root(store.get_run(two_runs[1])) / "actiontrack" / "test-probe"
    cut(folder / "scores.parquet")
    return two_runs


DAMAGED_COMMANDS = {
    "scores": ("scores", "--format", "csv"),
    "classes": ("classes", "--format", "csv"),
    "export": ("export", "--output"),
}


@pytest.mark.parametrize("words", DAMAGED_COMMANDS.values(), ids=DAMAGED_COMMANDS.keys())
def test_a_command_goes_on_without_damaged_records_on_request(
    run_cli, damaged, experiment, tmp_path, words
):
    sound, broken = damaged
    words = (*words, str(tmp_path / "out")) if words[0] == "export" else words
    code, out, err = run_cli(*words, "--experiment", experiment)
    assert code == 6
    assert "scores.parquet" in err
    assert broken in err
    code, out, err = run_cli(*words, "--experiment", experiment, "--on-damage", "skip")
    assert code == 6
    if words[0] == "export":
        out = (tmp_path / "out" / "scores.csv").read_text()
    assert set(pd.read_csv(io.StringIO(out))["run_id"]) == {sound}
    assert err.splitlines()[-2] == "error: 1 record is damaged and left out:"
    assert err.splitlines()[-1].startswith(f"  run {broken} (")
    assert "scores.parquet of test-probe is truncated" in err.splitlines()[-1]


def test_a_command_of_damaged_records_only_says_so(run_cli, damaged):
    code, out, err = run_cli("scores", "--run", damaged[1], "--on-damage", "skip")
    assert (code, out) == (6, "")
    assert err.startswith("error: 1 record is damaged and left out:\n  run ")


def test_runs_lists_every_record_and_names_those_without_a_manifest(
    run_cli, two_runs, experiment, store, spool, history
):
    first, second = two_runs
    record_history(replace(history, split="train"), first, store, spool)
    folder = store.local_root(store.get_run(second)) / "actiontrack" / "test-probe"
    (folder / "manifest.json").unlink()
    code, out, err = run_cli("runs", "--experiment", experiment, "--format", "csv")
    frame = pd.read_csv(io.StringIO(out))
    assert list(zip(frame["run_id"], frame["record"], strict=True)) == [
        (first, "test-probe"),
        (first, "train-probe"),
    ]
    assert code == 6
    assert f"  run {second} (" in err


def test_doctor_of_a_dead_server_still_prints_versions(run_cli):
    code, out, _ = run_cli("doctor", "--tracking-uri", "http://127.0.0.1:9")
    assert code == 7
    assert "pandas" in out
