"""The command line on a real store: what it prints, and how it fails."""

import io
import json
import re
import sys
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest

from actiontrack import cli, compare
from actiontrack.testing import record_history

COMMANDS = [
    "accuracy", "agreement", "card", "changed", "classes", "compact", "compare", "completion",
    "curves", "demo", "doctor", "export", "gallery", "hash-ids", "maps", "metadata", "neighbours",
    "noise", "report", "runs", "scores", "slices", "stability", "sync", "ui", "verdicts",
]  # fmt: skip


def test_the_commands_are_these():
    assert sorted(cli.cli.commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_page(run_cli, command):
    code, out, _ = run_cli(command, "--help")
    assert code == 0
    assert f"Usage: actiontrack {command}" in out


@pytest.mark.parametrize(
    "words",
    [
        ("scores", "--top", "3", "--format", "csv", "--top", "4"),
        ("changed", "--before", "a", "--before", "b", "--after", "c"),
        ("runs", "--tracking-uri", "sqlite:///a.db", "--tracking-uri=sqlite:///b.db"),
    ],
)
def test_an_option_that_is_given_twice_is_refused(run_cli, words):
    code, out, said = run_cli(*words)
    option = next(word for word in words[1:] if words.count(word) > 1 or word == "--tracking-uri")
    assert (code, out) == (2, "")
    assert f"Error: {option}: was given twice. Give it once." in said


def test_an_option_of_several_values_may_be_repeated(run_cli, two_runs):
    code, out, _ = run_cli("runs", "--run", two_runs[0], "--run", two_runs[1], "--format", "csv")
    assert (code, len(out.splitlines())) == (0, 3)


def test_runs_lists_each_run_once(run_cli, two_runs, experiment):
    code, out, _ = run_cli("runs", "--experiment", experiment, "--format", "csv")
    assert code == 0
    assert sorted(pd.read_csv(io.StringIO(out))["run_id"]) == sorted(two_runs)


def test_a_table_shows_the_first_characters_of_the_run_id(run_cli, two_runs, experiment):
    _, out, _ = run_cli("runs", "--experiment", experiment)
    assert two_runs[0][:8] in out
    assert two_runs[0] not in out


def test_scores_as_csv_sum_the_losses(run_cli, two_runs, history):
    _, out, _ = run_cli("scores", "--run", two_runs[0], "--format", "csv")
    frame = pd.read_csv(io.StringIO(out))
    np.testing.assert_allclose(frame["action"], history.losses.astype(float).sum(axis=0))


@pytest.fixture
def terminal(monkeypatch):
    """A function that makes standard output a terminal of so many columns."""

    def make(columns):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return make


def test_a_terminal_gets_the_twenty_hardest_and_a_pipe_all(run_cli, two_runs, history, terminal):
    _, piped, said = run_cli("scores", "--run", two_runs[0])
    assert (len(piped.splitlines()), said) == (1 + history.n_samples, "")
    terminal(300)
    _, out, said = run_cli("scores", "--run", two_runs[0])
    action = history.losses.astype(float).sum(axis=0)
    hardest = history.sample_ids[np.argsort(-action)][:20]
    table = pd.read_fwf(io.StringIO(out))
    assert table["sample_id"].tolist() == hardest.tolist()
    assert said.startswith("the 20 hardest of each run")
    _, out, _ = run_cli("scores", "--run", two_runs[0], "--top", "3")
    assert len(out.splitlines()) == 4


def test_a_table_is_as_wide_as_the_terminal_and_says_what_it_leaves_out(
    run_cli, two_runs, terminal
):
    terminal(70)
    _, out, said = run_cli("scores", "--run", two_runs[0])
    assert max(map(len, out.splitlines())) <= 70
    assert "action" in out.splitlines()[0]
    assert "no room for" in said
    assert "forgetting" in said


def test_a_prediction_is_named_like_its_class(run_cli, two_runs, history):
    _, out, _ = run_cli("scores", "--run", two_runs[0], "--top", "5")
    named = [re.findall(r"class \d", row)[:2] for row in out.splitlines()[1:]]
    _, out, _ = run_cli("scores", "--run", two_runs[0], "--top", "5", "--format", "csv")
    table, names = pd.read_csv(io.StringIO(out)), np.array(history.class_names)
    assert [pair[0] for pair in named] == table["class"].tolist()
    assert [pair[1] for pair in named] == names[table["predicted"]].tolist()


def test_scores_as_json_are_records(run_cli, two_runs, history):
    _, out, _ = run_cli("scores", "--run", two_runs[0], "--format", "json", "--top", "1")
    row = json.loads(out)[0]
    assert row["action"] == pytest.approx(history.losses.astype(float).sum(axis=0).max())


def test_scores_as_parquet_go_to_a_file(run_cli, two_runs, tmp_path):
    target = tmp_path / "scores.parquet"
    code, out, _ = run_cli(
        "scores", "--run", two_runs[0], "--format", "parquet", "--output", str(target)
    )
    assert (code, out) == (0, f"{target}\n")
    assert len(pd.read_parquet(target)) == 30


def test_classes_come_hardest_first(run_cli, two_runs):
    _, out, _ = run_cli("classes", "--run", two_runs[0], "--format", "csv")
    assert pd.read_csv(io.StringIO(out))["median"].is_monotonic_decreasing


def test_compare_prints_the_table_and_its_finding(run_cli, two_runs, experiment):
    code, out, err = run_cli("compare", "--experiment", experiment)
    assert code == 0
    assert "a / b" in out
    assert err.startswith("2 runs are compared by the action of 30 samples (test-probe).")


def test_compare_tidy_has_confidence_intervals(run_cli, two_runs, experiment):
    _, out, _ = run_cli(
        "compare", "--experiment", experiment, "--tidy", "--bootstrap", "50", "--format", "csv"
    )
    frame = pd.read_csv(io.StringIO(out)).query("`class` == 'overall'")
    assert (frame["ci_low"] <= frame["ci_high"]).all()


@pytest.mark.parametrize(
    ("words", "methods", "n_bootstrap"),
    [
        ((), {"spearman"}, 0),
        (("--method", "pearson", "--format", "csv"), {"spearman", "pearson"}, 0),
        (("--tidy", "--bootstrap", "20"), {"spearman", "pearson"}, 20),
    ],
)
def test_compare_computes_no_more_than_it_tells(
    run_cli, two_runs, monkeypatch, words, methods, n_bootstrap
):
    asked = []
    original = compare.correlations

    def correlations(*values, **options):
        asked.append((set(options["methods"]), options["n_bootstrap"]))
        return original(*values, **options)

    monkeypatch.setattr(compare, "correlations", correlations)
    runs = [word for each in two_runs for word in ("--run", each)]
    assert run_cli("compare", *runs, *words)[0] == 0
    assert asked == [(methods, n_bootstrap)]


def test_compare_by_quantile(run_cli, two_runs, experiment, tmp_path):
    code, out, _ = run_cli(
        "compare", "--experiment", experiment, "--quantiles", "--format", "csv",
        "--plot", str(tmp_path / "fig14"),
    )  # fmt: skip
    assert code == 0
    assert "quantile" in pd.read_csv(io.StringIO(out)).columns
    assert (tmp_path / "fig14.png").stat().st_size > 1000


def test_curves_of_one_sample_have_a_row_per_step(run_cli, two_runs):
    _, out, _ = run_cli("curves", "--run", two_runs[0], "--sample", "7", "--format", "csv")
    assert pd.read_csv(io.StringIO(out))["step"].tolist() == [1, 2, 3, 4]


def test_curves_are_clustered_on_request(run_cli, two_runs, tmp_path):
    code, out, err = run_cli(
        "curves", "--run", two_runs[0], "--clusters", "2", "--format", "csv",
        "--plot", str(tmp_path / "fig2"),
    )  # fmt: skip
    frame = pd.read_csv(io.StringIO(out))
    assert code == 0
    assert frame.groupby("cluster")["n_samples"].first().sum() == 30
    assert err.startswith("The mean loss curves of 2 clusters, hardest first: ")
    assert (tmp_path / "fig2.png").stat().st_size > 1000


def test_clusters_of_single_samples_are_refused(run_cli, two_runs):
    code, _, err = run_cli("curves", "--run", two_runs[0], "--clusters", "2", "--sample", "7")
    assert code == 2
    assert err.endswith("Error: --clusters looks at all curves: leave --sample out.\n")


def test_stability_prints_a_row_per_run_step_and_method_and_its_finding(
    run_cli, two_runs, experiment, tmp_path
):
    code, out, err = run_cli(
        "stability", "--experiment", experiment, "--format", "csv",
        "--plot", str(tmp_path / "early"),
    )  # fmt: skip
    frame = pd.read_csv(io.StringIO(out))
    assert (code, len(frame)) == (0, 2 * 4 * 2)
    spearman = frame.query("method == 'spearman'")
    low = spearman.loc[spearman["value"] < 0.95, "step"].max()
    after = 1 if np.isnan(low) else low + 1
    assert err.splitlines()[0] == (
        f"After {after} of 4 epochs Spearman's ρ with the full score is at least 0.95 in every "
        "run, and stays there."
    )
    assert (tmp_path / "early.png").stat().st_size > 1000


def test_stability_of_an_unknown_score_names_those_that_there_are(run_cli, two_runs):
    code, out, err = run_cli("stability", "--run", two_runs[0], "--score", "actoin")
    assert (code, out) == (2, "")
    assert err == (
        "error: score: must be one of action, mean_loss, final_loss, loss_variance, aum, "
        "late_margin, confidence, variability, el2n, forgetting, final_entropy, p_wrong, "
        "got 'actoin'. Choose one of these.\n"
    )


def test_neighbours_of_a_sample_are_printed_and_drawn(run_cli, run_id, store, spool, tmp_path):
    from actiontrack.recorder import Recorder

    with Recorder(run_id=run_id, store=store, spool=spool) as recorder:
        recorder.update(np.arange(6), np.linspace(1, 2, 6), labels=np.arange(6) % 2)
        recorder.end_epoch()
        recorder.log_features(np.arange(6), np.arange(6.0)[:, None])
    code, out, err = run_cli(
        "neighbours", "--run", run_id, "--sample", "5", "-k", "2", "--format", "csv",
        "--plot", str(tmp_path / "near"),
    )  # fmt: skip
    assert code == 0
    assert pd.read_csv(io.StringIO(out))["sample_id"].tolist() == [4, 3]
    assert err.splitlines()[0] == (
        "50.0% of the 2 nearest neighbours of 1 sample are of the sample's own class; 0 of them "
        "lie mostly among other classes."
    )
    assert err.splitlines()[-1].startswith("3 of 3 images are neither stored with the run")
    assert (tmp_path / "near.png").stat().st_size > 1000


def test_neighbours_without_features_are_not_found(run_cli, two_runs):
    code, out, err = run_cli("neighbours", "--run", two_runs[0])
    assert (code, out) == (4, "")
    assert "holds no features. Record them with the training parameter save_features=true" in err


@pytest.mark.parametrize(("flags", "rows"), [((), 12), (("--each",), 24)])
def test_noise_prints_every_score_and_draws_noisy_and_clean(
    run_cli, new_run, store, spool, history, experiment, tmp_path, flags, rows
):
    truth = history.labels.copy()
    truth[:5] = (truth[:5] + 1) % 3
    for _ in range(2):
        record_history(replace(history, true_labels=truth), new_run(), store, spool, model="m")
    code, out, err = run_cli(
        "noise", "--experiment", experiment, "-k", "3", *flags, "--format", "csv",
        "--plot", str(tmp_path / "fig12"),
    )  # fmt: skip
    frame = pd.read_csv(io.StringIO(out))
    assert (code, len(frame), set(frame["k"])) == (0, rows, {3})
    assert err.startswith("m: wrong labels are found at AUROC ")
    assert (tmp_path / "fig12.png").stat().st_size > 1000


def test_accuracy_has_a_row_per_run_score_and_threshold(run_cli, two_runs, experiment, tmp_path):
    code, out, _ = run_cli(
        "accuracy", "--experiment", experiment, "--format", "csv", "--plot", str(tmp_path / "acc")
    )
    assert (code, len(pd.read_csv(io.StringIO(out)))) == (0, 2 * 3 * 51)
    assert (tmp_path / "acc.png").stat().st_size > 1000


def test_gallery_without_images_says_so(run_cli, two_runs, tmp_path):
    code, _, err = run_cli("gallery", "--run", two_runs[0], "--plot", str(tmp_path / "g"))
    assert code == 0
    assert err.startswith("12 of 12 images are neither stored with the run")


def test_gallery_of_an_unknown_class_names_the_classes(run_cli, two_runs):
    code, _, err = run_cli("gallery", "--run", two_runs[0], "--class", "dog")
    assert code == 2
    assert err == (
        "error: --class: must be one of class 0, class 1, class 2, got 'dog'. "
        "Choose one of these.\n"
    )


def test_gallery_of_several_runs_is_refused(run_cli, two_runs, experiment):
    code, _, err = run_cli("gallery", "--experiment", experiment)
    assert code == 2
    assert err.startswith("error: --run: must choose one run, got '2 runs'.")


def test_export_writes_every_table(run_cli, two_runs, experiment, tmp_path):
    code, out, _ = run_cli("export", "--experiment", experiment, "--output", str(tmp_path / "out"))
    assert code == 0
    names = {line.rpartition("/")[2] for line in out.splitlines()}
    for stem in ("runs", "scores", "classes", "correlation_table", "correlation_by_quantile"):
        assert {f"{stem}.csv", f"{stem}.parquet"} <= names


@pytest.mark.parametrize("count", [1, 2])
def test_report_of_one_run_or_several(run_cli, two_runs, tmp_path, count):
    chosen = [word for run_id in two_runs[:count] for word in ("--run", run_id)]
    code, _, _ = run_cli("report", *chosen, "--output", str(tmp_path / "report"))
    assert code == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert two_runs[0] in page


def test_a_run_is_found_by_the_start_of_its_id(run_cli, two_runs):
    code, out, _ = run_cli("runs", "--run", two_runs[0][:12], "--format", "csv")
    assert code == 0
    assert two_runs[0] in out


def test_an_unknown_run_is_an_error_of_one_line(run_cli, tracking_uri):
    code, out, err = run_cli("scores", "--run", "f" * 32)
    assert (code, out) == (4, "")
    assert err.count("\n") == 1
    assert err.startswith(f"error: run '{'f' * 32}'")


def test_a_run_without_a_record_says_how_to_get_one(run_cli, run_id):
    code, _, err = run_cli("scores", "--run", run_id)
    assert code == 4
    assert err.endswith(
        "holds no record. Record its losses with actiontrack.recorder.Recorder, "
        "or choose another run.\n"
    )


def test_runs_on_other_samples_are_refused_with_exit_code_5(
    run_cli, new_run, store, spool, history, experiment
):
    record_history(history, new_run(), store, spool)
    record_history(replace(history, labels=(history.labels + 1) % 3), new_run(), store, spool)
    code, _, err = run_cli("compare", "--experiment", experiment)
    assert code == 5
    assert "--on-mismatch inner" in err


def test_a_wrong_filter_is_a_usage_error(run_cli):
    code, _, err = run_cli("runs", "--filter", "params.x ~ 3")
    assert code == 2
    assert err.startswith("error: filter: must be a filter that MLflow understands, got 'params.x")


def test_a_dead_server_is_told_at_once(run_cli):
    code, _, err = run_cli("runs", "--tracking-uri", "http://127.0.0.1:9")
    assert code == 7
    assert re.match(r"error: the tracking server http://127.0.0.1:9 does not answer", err)


def test_a_store_that_does_not_exist_is_not_created(run_cli, tmp_path):
    code, _, err = run_cli("runs", "--tracking-uri", f"sqlite:///{tmp_path}/none.db")
    assert code == 4
    assert not (tmp_path / "none.db").exists()
    assert err.startswith("error: no tracking store at sqlite:///")


def test_an_unknown_kind_of_store_is_an_error_of_one_line(run_cli):
    code, _, err = run_cli("runs", "--tracking-uri", "bogus://x")
    assert code == 7
    assert err.startswith("error: tracking store bogus://x")


def test_a_run_is_found_by_its_name(run_cli, two_runs, store, experiment):
    name = store.get_run(two_runs[0]).name
    code, out, _ = run_cli("scores", "--experiment", experiment, "--run", name, "--format", "csv")
    assert code == 0
    assert set(pd.read_csv(io.StringIO(out))["run_id"]) == {two_runs[0]}


def test_a_run_in_the_trash_is_listed_on_request(run_cli, two_runs, experiment, tracking_uri):
    mlflow.MlflowClient(tracking_uri=tracking_uri).delete_run(two_runs[0])
    code, out, _ = run_cli("runs", "--experiment", experiment, "--format", "csv")
    assert (code, pd.read_csv(io.StringIO(out))["run_id"].tolist()) == (0, [two_runs[1]])
    code, out, _ = run_cli("runs", "--experiment", experiment, "--deleted", "--format", "csv")
    assert (code, set(pd.read_csv(io.StringIO(out))["run_id"])) == (0, set(two_runs))


def test_sync_of_an_empty_spool_says_so(run_cli, tmp_path):
    code, out, err = run_cli("sync", str(tmp_path))
    assert (code, out) == (0, "")
    assert err == f"nothing to upload in {tmp_path}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(run_cli, shell):
    code, out, _ = run_cli("completion", shell)
    assert code == 0
    assert "_ACTIONTRACK_COMPLETE" in out


def test_an_unknown_command_suggests_the_nearest(run_cli):
    code, _, err = run_cli("runz")
    assert code == 2
    assert "Did you mean 'runs'?" in err


def test_output_that_cannot_be_written_is_an_error_of_one_line(run_cli, two_runs, tmp_path):
    code, _, err = run_cli("runs", "--run", two_runs[0], "--output", str(tmp_path / "no" / "x"))
    assert code == 7
    assert err.startswith(f"error: cannot write {tmp_path}/no/x: No such file or directory.")


@pytest.mark.parametrize(
    "command",
    [
        ("report", "--output", "{file}/x"),
        ("export", "--output", "{file}/x"),
        ("export", "--to", "subset", "--output", "{file}/x"),
        ("card", "--output", "{file}/x"),
        ("gallery", "--plot", "{file}/x"),
        ("classes", "--plot", "{file}/x"),
    ],
)
def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(
    run_cli, two_runs, tmp_path, command
):
    (tmp_path / "file").touch()
    words = [each.format(file=tmp_path / "file") for each in command]
    code, _, err = run_cli(*words, "--run", two_runs[0])
    assert code == 7
    assert err.startswith(f"error: cannot write {tmp_path}/file/x")
    assert err.endswith("Choose a folder that can be written.\n")
    assert err.count("\n") == 1
