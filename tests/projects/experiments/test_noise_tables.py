"""Tables and sentences of the label noise experiment, worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from actiontrack.errors import ParameterError
from projects.experiments import label_noise, label_noise_params
from projects.experiments import label_noise_report as report
from projects.experiments.label_noise_params import LabelNoiseParams
from projects.params import parse

#: A row for each number of samples looked at; two runs of one model.
SUMMARY = pd.DataFrame(
    [
        ("cnn3", "action", 10, 2, 0.9, 0.01, 0.8, 0.02, 0.7, 0.03),
        ("cnn3", "action", 100, 2, 0.9, 0.01, 0.8, 0.02, 0.1, 0.0),
        ("cnn3", "cleanlab_self_confidence", 10, 1, 0.85, np.nan, 0.6, np.nan, 0.5, np.nan),
        ("cnn3", "cleanlab_self_confidence", 100, 1, 0.85, np.nan, 0.6, np.nan, 0.1, np.nan),
    ],
    columns=[
        *("model", "score", "k", "n_runs", "auroc_mean", "auroc_std"),
        *("average_precision_mean", "average_precision_std"),
        *("precision_at_k_mean", "precision_at_k_std"),
    ],
)
CORRECTED = pd.DataFrame(
    {
        "model": "cnn3", "method": ["p_wrong", "p_wrong", "cleanlab"], "n_wrong": [10, 10, 10],
        "estimate": [11.0, 13.0, 8.0], "calibration_error": [0.02, 0.04, np.nan],
        "flagged_of_wrong": [0.8, 0.6, 0.5], "wrong_of_flagged": [0.9, 0.7, 0.5],
        "right_of_wrong": [0.7, 0.5, 0.5], "right_of_flagged": [0.6, 0.4, np.nan],
    }
)  # fmt: skip
DETECTED = pd.DataFrame({"n_noisy": [10], "n_samples": [100], "score": ["action"]})


def results(noise="symmetric", summary=SUMMARY, *, drawn=True):
    seconds = {"cnn3": (12.4, 30.6)}
    made = report.NoiseResults(
        noise=noise, drawn=drawn, train=[], test=[], detected=DETECTED, corrected=CORRECTED,
        seconds=seconds,
    )  # fmt: skip
    vars(made)["summary"] = summary  # instead of what follows from the detections
    return made


def params(*argv):
    return parse(LabelNoiseParams, ["--models", "cnn3", *argv])


def run(start, end):
    return SimpleNamespace(start_time=start, end_time=end)


def test_a_row_of_the_table_has_mean_and_spread_where_there_are_several_runs():
    table = report.noise_table([results()], params()).set_index("method")
    action = table.loc["action"]
    assert (action["AUROC"], action["AP"]) == ("0.900 ± 0.010", "0.800 ± 0.020")
    assert (action["P@wrong"], action["P@100"]) == ("0.700 ± 0.030", "0.100 ± 0.000")
    assert table.loc["cleanlab_self_confidence", "AUROC"] == "0.850"


def test_a_row_of_the_table_has_the_cost_of_its_method():
    table = report.noise_table([results()], params("--folds", "4")).set_index("method")
    assert table["runs"].tolist() == [2, 1]
    assert table["trainings"].tolist() == [1, 3]
    assert table["seconds"].tolist() == [12, 31]


@pytest.mark.parametrize(
    ("noise", "drawn", "argv", "expected"),
    [
        ("symmetric", True, [], "With 10 of 100 training labels wrong (symmetric noise), 5 epochs"),
        (
            "asymmetric",
            True,
            ["--epochs", "9"],
            "With 10 of 100 training labels wrong (asymmetric noise), 9 epochs",
        ),
        (
            "cifar10n worse_label",
            False,
            [],
            "With 10 of 100 training labels wrong (from cifar10n worse_label), 5 epochs",
        ),
        (
            "symmetric",
            False,
            [],
            "With 10 of 100 training labels wrong (from symmetric), 5 epochs",
        ),
    ],
)
def test_the_noise_is_told_by_number_name_and_epochs(noise, drawn, argv, expected):
    assert report._noise(results(noise, drawn=drawn), params(*argv)) == expected


@pytest.mark.parametrize("drawn", [True, False])
def test_only_of_drawn_labels_the_page_says_that_seeds_differ_in_them(drawn):
    text = report._about_methods(results(drawn=drawn), params())
    assert ("each seed draws other wrong labels too" in text) is drawn


@pytest.mark.parametrize(("folds", "cost"), [("2", "1 training"), ("3", "2 trainings")])
def test_the_finding_tells_the_price_of_cleanlab(folds, cost):
    finding = report.noise_finding([results()], params("--folds", folds))
    assert finding.endswith(
        f"cleanlab's self-confidence by {folds}-fold cross-validation, which costs {cost} more, "
        "reaches cnn3 0.850."
    )


def test_without_cleanlab_the_finding_does_not_name_it():
    finding = report.noise_finding([results(summary=SUMMARY[:2])], params())
    assert "cleanlab" not in finding


def test_the_page_says_where_cleanlab_is_not_compared():
    assert report._about_methods(results(), params()).endswith("Not compared with cleanlab.")


@pytest.mark.parametrize(("parallel", "expected"), [("1", False), ("2", True)])
def test_the_page_says_how_many_trainings_share_the_machine(parallel, expected):
    text = report._about_methods(results(), params("--parallel", parallel))
    assert ("2 at once" in text) is expected


def test_precision_is_measured_at_the_number_of_wrong_labels_and_at_100():
    samples = SimpleNamespace(
        labels=np.array([0, 1, 1, 0] * 50),
        true_labels=np.array([0, 1, 0, 0] * 50),
        sample_ids=np.arange(200),
    )
    assert label_noise._ks([SimpleNamespace(samples=samples)]) == [50, 100]


def test_a_true_label_that_is_unknown_makes_no_wrong_label():
    samples = SimpleNamespace(
        labels=np.array([0, 1, 1, 0]), true_labels=np.array([0, 0, -1, -1]), sample_ids=np.arange(4)
    )
    assert label_noise._ks([SimpleNamespace(samples=samples)]) == [1, 4]


def test_precision_is_never_measured_beyond_the_number_of_samples():
    samples = SimpleNamespace(
        labels=np.array([0, 1, 1]), true_labels=np.array([0, 1, 0]), sample_ids=np.arange(3)
    )
    assert label_noise._ks([SimpleNamespace(samples=samples)]) == [1, 3]


def test_seconds_are_the_mean_of_the_runs_and_nan_of_none():
    assert label_noise._seconds([run(0, 2000), run(500, 4500)]) == 3.0
    assert np.isnan(label_noise._seconds([]))


@pytest.mark.parametrize(
    ("choice", "installed", "expected"),
    [
        *[("auto", True, True), ("auto", False, False)],
        *[("true", False, True), ("false", True, False)],
    ],
)
def test_cleanlab_is_compared_on_request_or_where_it_is_installed(
    monkeypatch, choice, installed, expected
):
    monkeypatch.setattr(label_noise_params, "has_cleanlab", lambda: installed)
    assert params("--cleanlab", choice).with_cleanlab is expected


def test_a_file_of_wrong_labels_has_no_others_beside_it():
    chosen = params("--noise", "file:labels.csv,asymmetric")
    (of_file,), (drawn,) = (chosen.trainings(noise) for noise in chosen.noise)
    assert (of_file.noisy_labels, of_file.label_noise) == ("labels.csv", 0)
    assert (drawn.noisy_labels, drawn.label_noise, drawn.noise_kind) == ("", 0.1, "asymmetric")


@pytest.mark.parametrize(
    ("noise", "titles"),
    [
        ("symmetric,asymmetric", ["symmetric", "asymmetric"]),
        ("file:a/cifar10n.pt#worse_label", ["cifar10n worse_label"]),
        ("file:a/x.csv,file:b/x.csv", ["file:a/x.csv", "file:b/x.csv"]),
        ("file:a/symmetric.npy", ["file:a/symmetric.npy"]),
        ("symmetric,file:asymmetric.npy", ["symmetric", "file:asymmetric.npy"]),
        ("file:model.csv,symmetric", ["file:model.csv", "symmetric"]),
        ("file:method.csv,file:b/x.csv", ["file:method.csv", "file:b/x.csv"]),
        ("file:mean.csv", ["file:mean.csv"]),
        ("file:mean.pt#worst", ["mean worst"]),
    ],
)
def test_a_noise_has_a_short_name_where_that_tells_it_from_the_others(noise, titles):
    assert list(params("--noise", noise).noise_titles.values()) == titles


@pytest.mark.parametrize("noise", ["", "pair", "file:", "symmetric,symmetric", "symmetric,"])
def test_a_noise_that_is_no_kind_and_no_file_is_refused(noise):
    rule = "must be a comma list of symmetric, asymmetric, file:FILE without repeats"
    with pytest.raises(ParameterError, match=f"^noise: {rule}, got "):
        params("--noise", noise)


def test_all_noises_stand_in_one_table():
    table = report.noise_table([results(), results("from people")], params())
    assert table["noise"].tolist() == ["symmetric"] * 2 + ["from people"] * 2
    assert table["method"].tolist() == ["action", "cleanlab_self_confidence"] * 2


def test_side_by_side_the_methods_are_sorted_by_their_mean_over_the_noises():
    better = SUMMARY.assign(auroc_mean=[0.5, 0.5, 0.97, 0.97])
    table = report._side_by_side([results(), results("from people", better)])
    assert table["method"].tolist() == ["cleanlab_self_confidence", "action"]
    assert table["symmetric"].tolist() == ["0.850", "0.900 ± 0.010"]
    assert table["from people"].tolist() == ["0.970", "0.500 ± 0.010"]
    assert table["mean"].tolist() == ["0.910", "0.700"]


def test_corrections_stand_in_one_table_as_mean_and_spread():
    table = report.correction_table([results(noise="symmetric"), results(noise="by people")])
    assert table["noise"].tolist() == ["symmetric"] * 2 + ["by people"] * 2
    ours, cleanlab = table.iloc[0], table.iloc[1]
    assert (ours["method"], ours["wrong"], ours["estimate"]) == ("p_wrong", 10, "12 ± 1")
    assert ours["calibration error"] == "0.030 ± 0.014"
    assert (cleanlab["estimate"], cleanlab["calibration error"], cleanlab["runs"]) == ("8", "", 1)
