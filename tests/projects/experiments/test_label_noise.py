"""The experiment of section 4.4, on digits; expectations by scikit-learn and plain pandas."""

import json
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import message
from sklearn import metrics

from actiontrack.errors import DataError, MissingDependencyError, ParameterError
from actiontrack.store import RunQuery, Store
from projects.cross_validation import OutOfFold
from projects.datasets import load_dataset
from projects.experiments import label_noise, label_noise_params
from projects.experiments.label_noise_params import LabelNoiseParams
from projects.params import parse, run_main

SMALL = ["--models", "cnn3", "--seeds", "2", "--subset", "240", "--test_subset", "60",
         "--epochs", "3", "--cleanlab", "true"]  # fmt: skip
SCORES = {
    "action", "mean_loss", "final_loss", "loss_variance", "aum", "late_margin",
    "confidence", "variability", "el2n", "forgetting", "final_entropy", "p_wrong",
}  # fmt: skip
CLEANLAB = {
    "cleanlab_self_confidence", "cleanlab_normalized_margin",
    "cleanlab_confidence_weighted_entropy",
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("label_noise")


@pytest.fixture(scope="module")
def results(home):
    """The store in which the experiment has run once, and the folder of its page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("ACTIONTRACK_SPOOL", str(home / "spool"))
        mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
        # What fixtures of other modules have chosen: this one comes before the fence of its tests.
        patch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
        for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        label_noise.main(SMALL)
    (page,) = home.glob("mlruns/*/*/artifacts/label_noise")
    return Store(f"sqlite:///{home / 'mlflow.db'}"), page


def table(page, name):
    (path,) = (page / "tables").glob(f"*-{name}.parquet")
    return pd.read_parquet(path)


def test_every_method_has_a_row_with_its_cost(results):
    frame = table(results[1], "every-method").set_index("method")
    assert set(frame.index) == SCORES | CLEANLAB
    assert (frame.loc[list(SCORES), "runs"] == 2).all()
    assert (frame.loc[list(CLEANLAB), "runs"] == 1).all()
    assert (frame["trainings"] == 1).all()  # 2 folds: each on one half
    assert frame["AUROC"].is_monotonic_decreasing
    assert " ± " in frame.loc["action", "P@wrong"]


def test_the_action_is_measured_as_scikit_learn_does(results):
    store, page = results
    frame = table(page, "every-run").query("score == 'action'")
    assert len(frame) == 2 * 2  # two runs, two k
    for row in frame.itertuples():
        scores = store.open_record(row.run_id, "train-probe").scores()
        wrong = (scores["label"] != scores["true_label"]).to_numpy()
        assert wrong.sum() == row.n_noisy == 24
        assert row.auroc == pytest.approx(metrics.roc_auc_score(wrong, scores["action"]))
        expected = metrics.average_precision_score(wrong, scores["action"])
        assert row.average_precision == pytest.approx(expected)
        top = scores["action"].nlargest(row.k).index
        assert row.precision_at_k == pytest.approx(wrong[top].mean())


def test_the_table_prints_mean_and_standard_deviation_of_the_runs(results):
    runs = table(results[1], "every-run").query("score == 'action' and k == 24")["auroc"]
    (cell,) = table(results[1], "every-method").query("method == 'action'")["AUROC"]
    assert cell == f"{runs.mean():.3f} ± {runs.std(ddof=1):.3f}"


def test_cleanlab_is_measured_on_the_wrong_labels_of_the_run_of_the_same_seed(results):
    store, page = results
    row = table(page, "every-run").query("score == 'cleanlab_self_confidence'").iloc[0]
    (path,) = page.parents[2].glob("*/artifacts/cross_validation/probabilities.parquet")
    out_of_fold = OutOfFold.load(path)
    record = store.open_record(row["run_id"], "train-probe")
    assert record.run.params["seed"] == "0"
    np.testing.assert_array_equal(record.samples.sample_ids, out_of_fold.sample_ids)
    np.testing.assert_array_equal(record.samples.labels, out_of_fold.labels)
    wrong = record.samples.labels != record.samples.true_labels
    of_label = out_of_fold.probabilities[np.arange(len(out_of_fold.labels)), out_of_fold.labels]
    assert row["auroc"] == pytest.approx(metrics.roc_auc_score(wrong, -of_label), abs=1e-6)


def test_the_corrections_of_the_record_and_of_cleanlab_are_counted(results):
    store, page = results
    frame = table(page, "how-many-labels-are-wrong-and-which-class-is-right").set_index("method")
    assert frame["wrong"].tolist() == [24, 24]
    assert frame["runs"].to_dict() == {"p_wrong": 2, "cleanlab": 1}
    shares = []
    for run in store.find_runs(RunQuery(record="train-probe")):
        scores = store.open_record(run, "train-probe").scores()
        wrong = scores["label"] != scores["true_label"]
        shares.append((scores["suggested_class"] == scores["true_label"])[wrong].mean())
    expected = f"{np.mean(shares):.3f} ± {np.std(shares, ddof=1):.3f}"
    assert frame.loc["p_wrong", "right of wrong"] == expected
    assert frame.loc["cleanlab", "calibration error"] == ""


def test_each_seed_draws_other_wrong_labels(results):
    store, _ = results
    wrong = []
    for run in store.find_runs(RunQuery(record="train-probe")):
        samples = store.open_record(run, "train-probe").samples
        wrong.append(set(samples.sample_ids[samples.labels != samples.true_labels].tolist()))
    assert len(wrong) == 2
    assert wrong[0] != wrong[1]


def test_the_page_has_every_section_and_figure(results):
    _, page = results
    text = (page / "report.md").read_text()
    headings = [line[3:].replace("\\", "") for line in text.splitlines() if line[:3] == "## "]
    assert headings == [
        "Finding", "Every method", "Distributions of the action", "cnn3 seed 0: hardest samples",
        "cnn3 seed 0: hardest samples with a right label", "cnn3: which wrong labels are found",
        "Mean and standard deviation over seeds", "Every run",
        "How many labels are wrong, and which class is right", "Runs", "How to read this",
        "Settings", "Steps", "Sources",
    ]  # fmt: skip
    figures = sorted(path.stem.partition("-")[2] for path in (page / "figures").glob("*.png"))
    assert figures == [
        "cnn3-seed-0-hardest-samples", "cnn3-seed-0-hardest-samples-with-a-right-label",
        "cnn3-which-wrong-labels-are-found", "distributions-of-the-action", "every-method",
    ]  # fmt: skip


def test_the_sources_are_both_records_of_every_training(results):
    store, page = results
    sources = json.loads((page / "report.json").read_text())["sources"]
    runs = store.find_runs(RunQuery(record="train-probe"))
    expected = {(run.run_id, f"{split}-probe") for run in runs for split in ("train", "test")}
    assert len(expected) == 4
    assert {(source["run_id"], source["record"]) for source in sources} == expected


def test_the_distributions_are_of_noisy_clean_and_test_samples(results):
    frame = table(results[1], "distributions-of-the-action").set_index("group")
    assert frame["count"].to_dict() == {"clean": 2 * 216, "noisy": 2 * 24, "test": 2 * 60}
    assert frame.loc["noisy", "mean"] > frame.loc["clean", "mean"]


def test_the_same_again_does_no_step_twice_and_finds_the_same(results, home, capsys, monkeypatch):
    store, page = results
    monkeypatch.chdir(home)
    mlflow.set_tracking_uri(store.tracking_uri)
    before = list(page.parents[2].iterdir())
    label_noise.main(SMALL)
    assert capsys.readouterr().out.count(": skipped, finished already in run ") == 3
    (again,) = set(page.parents[2].iterdir()) - set(before)  # the new parent alone
    other = again / "artifacts" / "label_noise"
    for name in ("every-method", "every-run"):
        pd.testing.assert_frame_equal(table(other, name), table(page, name))


def test_the_finding_tells_the_noise_the_scores_and_the_price_of_cleanlab(results):
    finding = (results[1] / "report.md").read_text().replace("\\", "")
    assert (
        "With 24 of 240 training labels wrong (symmetric noise), 3 epochs: cnn3: wrong labels are "
        "found at AUROC 0."
    ) in finding
    assert (
        "cleanlab's self-confidence by 2-fold cross-validation, which costs 1 training more, "
        "reaches cnn3 0."
    ) in finding


@pytest.fixture
def own_experiment(experiment, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)


ONE = [*SMALL[:2], "--subset", "120", "--test_subset", "30", "--epochs", "2"]


def test_a_user_s_own_wrong_labels_are_the_only_ones_and_cleanlab_may_be_missing(
    own_experiment, tmp_path, capsys, monkeypatch
):
    split, _ = load_dataset(parse(LabelNoiseParams, ONE).training())
    labels = pd.DataFrame({"id": split.ids[:9], "label": (split.labels[:9].numpy() + 1) % 10})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    monkeypatch.setattr(label_noise_params, "has_cleanlab", lambda: False)
    label_noise.main([*ONE, "--noise", f"file:{tmp_path / 'labels.csv'}"])
    printed = capsys.readouterr().out
    assert "no cleanlab, no comparison with it: pip install 'actiontrack[cleanlab]'" in printed
    assert "With 9 of 120 training labels wrong (from labels), 2 epochs: cnn3: " in printed
    assert "best of 12 scores is " in printed


def test_a_file_of_labels_that_is_not_there_is_named_in_one_sentence(
    own_experiment, tmp_path, capsys
):
    words = [*ONE, "--cleanlab", "false", "--noise", f"file:{tmp_path / 'no.pt'}"]
    assert run_main(label_noise.main, words) == DataError.exit_code
    message = capsys.readouterr().err
    assert f"error: noisy_labels: {tmp_path / 'no.pt'} is not a file.\n" in message


def test_several_noises_give_one_table_and_sections_of_their_own(own_experiment, tmp_path, capsys):
    split, _ = load_dataset(parse(LabelNoiseParams, ONE).training())
    whole, _ = load_dataset(parse(LabelNoiseParams, []).training(subset=0))
    labels = whole.true_labels.numpy().copy()
    wrong = np.isin(whole.ids, split.ids[:20])
    labels[wrong] = (labels[wrong] + 3) % 10
    torch.save({"people": labels, "others": labels}, tmp_path / "sets.pt")
    noise = f"symmetric,file:{tmp_path / 'sets.pt'}#people"
    label_noise.main([*ONE, "--seeds", "1", "--cleanlab", "true", "--noise", noise])
    printed = capsys.readouterr().out
    assert "With 12 of 120 training labels wrong (symmetric noise), 2 epochs: cnn3" in printed
    assert "With 20 of 120 training labels wrong (from sets people), 2 epochs: cnn3" in printed
    page = page_of(printed)
    frame = table(page, "every-method")
    assert set(frame["noise"]) == {"symmetric", "sets people"}
    assert frame.groupby("noise")["wrong"].unique().map(list).to_dict() == {
        "symmetric": [12], "sets people": [20],
    }  # fmt: skip
    side = table(page, "auroc-on-every-noise")
    assert set(side["method"]) == SCORES | CLEANLAB
    text = (page / "report.md").read_text().replace("\\", "")
    for name in ("symmetric", "sets people"):
        assert f"## {name}: Distributions of the action" in text


def page_of(printed):
    """The folder of the page that an experiment has printed."""
    (line,) = [line for line in printed.splitlines() if line.startswith("report ")]
    return Path(line.split(maxsplit=1)[1].removeprefix("file://")).parent


def test_cleanlab_that_is_asked_for_and_missing_stops_before_any_training(
    own_experiment, monkeypatch
):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'actiontrack\[cleanlab\]'"):
        label_noise.main([*ONE, "--cleanlab", "true"])


def test_no_noise_is_refused():
    text = (
        "label_noise: must be above 0 for symmetric noise, got 0.0. "
        "Pass for instance --label_noise 0.1."
    )
    with pytest.raises(ParameterError, match=message(text)):
        parse(LabelNoiseParams, ["--label_noise", "0"])


def test_files_alone_need_no_fraction():
    assert parse(LabelNoiseParams, ["--noise", "file:x.csv", "--label_noise", "0"]).label_noise == 0


@pytest.mark.parametrize(("scale", "runs"), [("smoke", 2), ("cpu", 4), ("paper", 10)])
def test_every_scale_trains_both_models_of_the_paper_on_one_tenth_of_wrong_labels(scale, runs):
    trainings = parse(LabelNoiseParams, ["--scale", scale]).trainings("symmetric")
    assert len(trainings) == runs
    assert {training.model for training in trainings} == {"cnn3", "resnet_v2"}
    assert {training.label_noise for training in trainings} == {0.1}
    assert all(training.effective_noise_seed == training.seed for training in trainings)
    assert {training.record for training in trainings} == {("train", "test")}


def test_the_paper_s_scale_has_the_paper_s_epochs_on_all_images():
    params = parse(LabelNoiseParams, ["--scale", "paper"])
    assert (params.epochs, params.subset, params.seeds) == (85, 0, 5)
