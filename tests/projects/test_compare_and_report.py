"""The entry points compare and report, on two trainings of digits."""

import mlflow
import pandas as pd
import pytest
from scipy.stats import spearmanr

from projects import compare, report
from projects.params import CompareParams, TrainParams, validate

SMALL = {"model": "cnn3", "epochs": 2, "subset": 120, "test_subset": 50, "batch_size": 40}
SMALL |= {"device": "cpu", "threads": 1, "augment": "flip_crop", "report": False}


@pytest.fixture(scope="module")
def two(train_once):
    """Trainings that differ in their seed."""
    return [train_once(validate(TrainParams, SMALL | {"seed": seed})) for seed in (0, 1)]


@pytest.fixture
def artifacts(tmp_path):
    """A function that returns the files of the one run that was made."""
    return lambda pattern: list((tmp_path / "artifacts").glob(f"*/artifacts/{pattern}"))


def test_compare_prints_and_saves_the_correlation_that_scipy_gives(
    two, experiment, artifacts, capsys
):
    mlflow.set_experiment(experiment)
    ids = ",".join(trained.run.run_id for trained in two)
    compare.main(["--run_ids", ids, "--bootstrap", "10"])
    (path,) = artifacts("compare/tables/correlation_table.parquet")
    rows = pd.read_parquet(path).set_index(["method", "class"])["mean"]
    expected = spearmanr(*(trained.record().scores()["action"] for trained in two)).statistic
    assert rows["spearman", "overall"] == pytest.approx(expected)
    printed = capsys.readouterr().out
    assert "2 runs are compared by the action of 50 samples" in printed
    assert f"{expected:.3f}" in printed
    (page,) = artifacts("compare/report.html")
    assert "Every pair of models" in page.read_text()


def test_a_comparison_takes_the_score_and_the_steps_that_the_parameters_name(two):
    params = validate(CompareParams, {"score": "final_loss", "up_to_step": 1, "bootstrap": 0})
    comparison = compare.compare_as_asked(params, [trained.record() for trained in two])
    losses = [trained.record().history().losses[0] for trained in two]
    assert comparison.score == "final_loss"
    rows = comparison.groups.set_index(["method", "class"])["mean"]
    assert rows["spearman", "overall"] == pytest.approx(spearmanr(*losses).statistic)


def test_report_makes_a_page_of_one_run(two, experiment, artifacts, capsys):
    mlflow.set_experiment(experiment)
    report.main(["--run_ids", two[0].run.run_id, "--bootstrap", "0"])
    (page,) = artifacts("report/report.html")
    assert capsys.readouterr().out == f"report     {page}\n"
    assert "Hardest samples" in page.read_text()
