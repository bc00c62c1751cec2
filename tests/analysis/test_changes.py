"""What changed between two sets of runs, on histories whose change is known."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from actiontrack import analysis, cli, reporting
from actiontrack.analysis import changes
from actiontrack.analysis.sentences import describe_changes
from actiontrack.errors import NotComparableError, ParameterError, StoreError, ThresholdError
from actiontrack.testing import make_history

N = 200
BASE = make_history(3, N, 3)


def noisy(seed, spread=0.02, scale=1.0, **fields):
    noise = np.random.default_rng(seed).normal(1, spread, size=BASE.losses.shape)
    return replace(BASE, losses=(BASE.losses * noise * scale).astype(np.float32), **fields)


@pytest.fixture
def runs(record):
    """A function that records histories into new runs, all of one tag."""

    def make(*histories, tag=""):
        return [record(history, "softmax", tags={"set": tag}) for history in histories]

    return make


def actions(records):
    return np.stack([each.scores()["action"].to_numpy() for each in records])


def test_means_changes_and_intervals_are_those_of_a_t_test_over_runs(runs):
    before = runs(noisy(0), noisy(1), noisy(2))
    after = runs(noisy(3, scale=1.2), noisy(4, scale=1.2))
    found = changes.compare_sets(before, after)
    overall = found.classes.iloc[0]
    old, new = actions(before).mean(axis=1), actions(after).mean(axis=1)
    test = stats.ttest_ind(new, old).confidence_interval(0.95)
    assert overall["class"] == "overall"
    assert (overall["before"], overall["after"]) == pytest.approx((old.mean(), new.mean()))
    assert (overall["ci_low"], overall["ci_high"]) == pytest.approx((test.low, test.high))
    assert overall["relative"] == pytest.approx(new.mean() / old.mean() - 1)
    assert overall["harder"]
    assert found.classes["n"].tolist() == [N, *np.bincount(BASE.labels)]


def test_a_change_within_the_spread_of_seeds_does_not_count(runs):
    found = changes.compare_sets(
        runs(noisy(0, 0.5), noisy(1, 0.5)), runs(noisy(2, 0.5, 1.005), noisy(3, 0.5, 1.005))
    )
    assert not found.classes["harder"].iloc[0]
    assert changes.regressions(found, 0.0).query("`class` == 'overall'").empty


def test_one_run_each_has_no_interval_and_counts_any_change(runs):
    found = changes.compare_sets(runs(noisy(0)), runs(noisy(1, scale=1.3)))
    assert not found.has_noise
    assert found.classes["ci_low"].isna().all()
    assert found.samples["noise"].isna().all()
    assert changes.regressions(found, 0.2)["class"].tolist()[0] == "overall"
    assert changes.regressions(found, 0.5).empty


def test_only_the_class_that_became_harder_crosses_the_threshold(runs):
    factor = np.where(BASE.labels == 1, 1.6, 1.0)
    harder = [noisy(s) for s in (3, 4)]
    harder = [replace(h, losses=(h.losses * factor).astype(np.float32)) for h in harder]
    found = changes.compare_sets(runs(noisy(0), noisy(1)), runs(*harder))
    crossed = changes.regressions(found, 0.4)
    assert crossed["class"].tolist() == ["class 1"]


def test_about_one_in_twenty_samples_exceeds_the_noise_by_chance(runs):
    found = changes.compare_sets(
        runs(*(noisy(s, 0.3) for s in range(3))), runs(*(noisy(s, 0.3) for s in range(3, 6)))
    )
    assert 0.005 < found.samples["beyond_noise"].mean() < 0.12


def test_samples_come_with_the_most_harder_first(runs):
    moved = noisy(1)
    moved.losses[:, 7] += 50
    moved.losses[:, 9] = 0
    found = changes.compare_sets(runs(noisy(0)), runs(moved))
    assert found.samples["sample_id"].iloc[0] == 7
    assert found.samples["change"].is_monotonic_decreasing
    row = found.samples.set_index("sample_id").loc[7]
    assert row["rank_after"] == 1.0
    assert row["after"] - row["before"] == pytest.approx(row["change"])


def test_scores_of_which_low_is_hard_are_turned_around(runs):
    found = changes.compare_sets(runs(noisy(0)), runs(noisy(1)), score="aum")
    assert found.classes["change"].abs().max() == pytest.approx(0)
    lower = replace(BASE, measures=BASE.measures | {"margin": BASE.measures["margin"] - 1})
    found = changes.compare_sets(runs(noisy(0)), runs(lower), score="aum")
    assert found.classes["harder"].all()
    assert len(changes.regressions(found, 0.01)) == len(found.classes)


def test_relabelled_samples_are_compared_and_named(runs):
    labels = BASE.labels.copy()
    labels[[3, 5]] = (labels[[3, 5]] + 1) % 3
    found = changes.compare_sets(runs(noisy(0)), runs(noisy(1, labels=labels)))
    assert found.relabelled["sample_id"].tolist() == [3, 5]
    names = [f"class {each}" for each in BASE.labels[[3, 5]]]
    assert found.relabelled["class_before"].tolist() == names
    assert (found.relabelled["class"] != found.relabelled["class_before"]).all()


def test_agreement_within_and_between_the_sets_is_that_of_scipy(runs):
    before, after = runs(noisy(0), noisy(1)), runs(noisy(2))
    found = changes.compare_sets(before, after).agreement.set_index("kind")
    a, b, c = actions([*before, *after])
    assert found.loc["within before", "mean"] == pytest.approx(stats.spearmanr(a, b)[0])
    between = [stats.spearmanr(a, c)[0], stats.spearmanr(b, c)[0]]
    assert found.loc["between", "lowest"] == pytest.approx(min(between))
    assert found.loc["between", "n_pairs"] == 2


def test_samples_that_only_some_runs_have_are_left_out(runs):
    part = make_history(3, N, 3)
    keep = np.arange(50, N)
    fields = {name: values[:, keep] for name, values in part.measures.items()}
    smaller = replace(
        part, losses=part.losses[:, keep], sample_ids=part.sample_ids[keep],
        labels=part.labels[keep], measures=fields, seen=part.seen[:, keep],
    )  # fmt: skip
    found = changes.compare_sets(runs(noisy(0)), runs(smaller))
    assert (len(found.samples), found.left_out) == (N - 50, 50)


def test_what_is_said_of_samples_left_out_counts_those_without_a_finite_score(runs):
    without = noisy(1)
    without.losses[:, 4] = np.nan
    found = changes.compare_sets(runs(noisy(0)), runs(without))
    assert (len(found.samples), found.left_out) == (N - 1, 1)
    text = "1 samples are left out: they are not in all runs, or without a finite score in one."
    assert describe_changes(found).endswith(text)


def test_sets_that_measure_something_else_are_refused(runs):
    with pytest.raises(NotComparableError, match="number of steps"):
        changes.compare_sets(runs(noisy(0)), runs(make_history(2, N, 3)))


def test_labels_that_differ_within_a_set_are_refused(runs):
    labels = (BASE.labels + 1) % 3
    with pytest.raises(NotComparableError, match="different labels"):
        changes.compare_sets(runs(noisy(0), noisy(1, labels=labels)), runs(noisy(2)))


def test_a_run_in_both_sets_is_refused(runs):
    (record,) = runs(noisy(0))
    with pytest.raises(ParameterError, match="must hold no run of the other set"):
        changes.compare_sets([record], [record])
    with pytest.raises(ParameterError, match="before: must be one run or more"):
        changes.compare_sets([], [record])


def test_the_report_says_what_changed_and_from_which_runs(runs):
    before, after = runs(noisy(0), noisy(1)), runs(noisy(2, scale=1.5), noisy(3, scale=1.5))
    found = changes.compare_sets(before, after)
    crossed = changes.regressions(found, 0.1)
    report = reporting.change_report(before, after, found, threshold=0.1, crossed=crossed)
    summary = report.sections[0].text
    assert summary.startswith("2 runs before and 2 runs after are compared by the action of 200")
    assert "Harder by more than 10.0% and than chance: overall (+" in summary
    assert {each.run_id for each in report.sources} == {
        each.run.run_id for each in (*before, *after)
    }
    assert report.to_html()


@pytest.fixture
def run_cli(capsys, tracking_uri):
    def run(*arguments):
        try:
            cli.main(["changed", "--tracking-uri", tracking_uri, *arguments])
        except SystemExit as error:
            return error.code, capsys.readouterr()
        return 0, capsys.readouterr()

    return run


def test_a_job_fails_if_and_only_if_the_threshold_is_crossed(runs, run_cli, experiment, tmp_path):
    before = runs(noisy(0), noisy(1))
    runs(noisy(2, scale=1.5), noisy(3, scale=1.5), tag="new")
    chosen = ["--before", ",".join(each.run.run_id for each in before)]
    chosen += ["--after", "filter:tags.set = 'new'"]
    code, printed = run_cli(*chosen, "--threshold", "0.9", "--report", str(tmp_path / "out"))
    assert code == 0
    assert (tmp_path / "out" / "report.html").is_file()
    code, printed = run_cli(*chosen, "--threshold", "0.2", "--format", "csv")
    assert code == ThresholdError.exit_code == 10
    assert "error: harder by more than 20.0% and than chance: overall +" in printed.err
    assert printed.out.startswith("class,n,before,after,change,relative,ci_low,ci_high,harder\n")


def test_a_report_that_cannot_be_written_is_an_error_of_one_line(runs, run_cli, tmp_path):
    (tmp_path / "file").touch()
    before, after = (each.run.run_id for each in runs(noisy(0), noisy(1)))
    folder = tmp_path / "file" / "x"
    code, printed = run_cli("--before", before, "--after", after, "--report", str(folder))
    assert code == StoreError.exit_code
    assert printed.err.splitlines()[-1].startswith(f"error: cannot write {folder}: ")
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("query", ["", "runs:x", "experiment:", " , "])
def test_a_query_that_chooses_nothing_is_wrong_usage(run_cli, query):
    code, printed = run_cli("--before", query, "--after", "experiment:x")
    assert code == ParameterError.exit_code
    assert "must be experiment:NAME" in printed.err


def test_the_figure_of_changes_has_a_row_per_class():
    from actiontrack import plots

    frame = pd.DataFrame(
        {"class": ["overall", "cat"], "before": [2.0, 4.0], "relative": [0.5, -0.25],
         "ci_low": [0.5, np.nan], "ci_high": [1.5, np.nan]}
    )  # fmt: skip
    axes = plots.class_changes(frame)
    assert [each.get_text() for each in axes.get_yticklabels()] == ["overall", "cat"]
    assert axes.lines[0].get_xdata().tolist() == [50.0, -25.0]
    segments = axes.collections[0].get_segments()
    assert segments[0][:, 0].tolist() == [25.0, 75.0]
    plt.close(axes.figure)


@pytest.mark.slow
def test_real_trainings_of_another_model_are_told_apart_from_another_seed(store, experiment):
    """Two models by scikit-learn on its digits: the weaker one is harder, a third seed is not."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import SGDClassifier

    from actiontrack.recorder import Recorder

    images, labels = load_digits(return_X_y=True)
    images = images[:600] / 16
    labels = labels[:600]

    def train(seed, n_pixels):
        client = store._client
        experiment_id = client.get_experiment_by_name(experiment).experiment_id
        run_id = client.create_run(experiment_id).info.run_id
        model = SGDClassifier(loss="log_loss", random_state=seed, alpha=1e-3)
        order = np.random.default_rng(seed).permutation(400)
        with Recorder("test", run_id=run_id, store=store, model=f"{n_pixels} pixels") as recorder:
            for _ in range(3):
                model.partial_fit(images[order, :n_pixels], labels[order], classes=np.arange(10))
                scores = model.decision_function(images[400:, :n_pixels]).astype(np.float32)
                recorder.update(np.arange(400, 600), logits=scores, labels=labels[400:])
                recorder.end_epoch()
        return store.open_record(run_id)

    baseline = [train(seed, 64) for seed in range(3)]
    again = [train(seed, 64) for seed in range(3, 6)]
    weaker = [train(seed, 24) for seed in range(3)]
    same = changes.compare_sets(baseline, again)
    other = changes.compare_sets(baseline, weaker)
    assert "overall" not in set(changes.regressions(same, 0.1)["class"])
    assert "overall" in set(changes.regressions(other, 0.1)["class"])
    means = [analysis.score_frame(each)["action"].mean() for each in (baseline, weaker)]
    assert other.classes["relative"].iloc[0] == pytest.approx(means[1] / means[0] - 1)
